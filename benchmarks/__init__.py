"""The measurements behind the project's claims about cost: `make bench`, and `python -m benchmarks.scale_model`."""
