"""Chat in the terminal, for `serving chat`."""
