"""Metrics, logs and traces: what the platform team sees of requests, never their content."""
