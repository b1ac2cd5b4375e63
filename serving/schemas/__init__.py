"""Checks of the JSON schemas that requests and settings bring."""
