"""Answers kept for whoever of the same team asks the very same again, and shared by those who ask it at once."""
