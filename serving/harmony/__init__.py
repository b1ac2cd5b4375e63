"""Tokens to conversation and back. Pure: no I/O, no clock."""
