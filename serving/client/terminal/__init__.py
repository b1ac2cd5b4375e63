"""A chat in the terminal: what `serving chat` runs."""
