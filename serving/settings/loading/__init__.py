"""Loader of settings from a YAML file, the environment and flags, each value with its origin."""
