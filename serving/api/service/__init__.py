"""The service itself: health, metrics, the status page and the documentation of the API."""
