"""Checkpoints from a model hub."""
