"""Certification of an endpoint: what clients of OpenAI's and Anthropic's APIs rely on, tried from outside."""
