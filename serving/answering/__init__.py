"""Answerers: the choice of what answers a request (an engine, the cache, a fallback, another server)."""
