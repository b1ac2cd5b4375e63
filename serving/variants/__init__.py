"""Named presets over a model: what a request to one means."""
