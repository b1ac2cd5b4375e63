"""Sources of tokens behind one protocol."""
