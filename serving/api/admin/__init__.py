"""Routes for the administrator: usage, adapters, backends, models."""
