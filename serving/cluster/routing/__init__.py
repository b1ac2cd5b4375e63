"""Policies that choose which of a model's engine replicas gets a request: one file a policy."""
