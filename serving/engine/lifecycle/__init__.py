"""Model lifecycle: an administrator, idleness and the next request load and unload a model."""
