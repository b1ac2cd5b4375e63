"""Fit of a model on GPUs, and the bounds of its throughput."""
