"""How much of a model fits on which GPUs, and how fast it can be at most."""
