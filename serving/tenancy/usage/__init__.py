"""Usage of teams, by day, model and effort."""
