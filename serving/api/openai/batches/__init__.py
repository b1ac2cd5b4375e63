"""Batches API: POST /v1/batches, and GET and cancellation of batches."""
