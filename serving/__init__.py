"""Serves OpenAI's gpt-oss models: Ray Serve, vLLM and an OpenAI-compatible API that speaks Harmony."""

__version__ = "0.1.0"
