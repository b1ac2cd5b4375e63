"""Backends: other servers that answer beside the engines of this one. Client, health checks, routing and registry."""
