"""Batches: files of requests, and the work on them beside everything else."""
