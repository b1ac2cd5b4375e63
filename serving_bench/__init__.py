"""A load generator for OpenAI-compatible servers, and the report of what it measured."""
