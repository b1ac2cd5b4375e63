"""Settings: one module a section, the tree that holds them, and the loader beside it."""
