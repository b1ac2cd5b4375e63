"""OpenAI's API, one package a resource."""
