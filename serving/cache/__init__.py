"""Answer cache: keeps an answer for identical requests of the same team, and one generation for concurrent ones."""
