"""Tokens from engine replicas to ingress replicas: frames over ZeroMQ, beside one unary call a request."""
