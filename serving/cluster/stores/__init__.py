"""State that the processes of one Ray cluster share: in detached actors and in Ray's key-value store."""
