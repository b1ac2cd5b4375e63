"""The embedded demo model: its weights, how they become a checkpoint, how they were trained."""
