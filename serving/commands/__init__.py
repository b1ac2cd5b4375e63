"""The commands of `serving`, one module each."""
