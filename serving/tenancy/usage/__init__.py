"""What teams used, by day, model and effort."""
