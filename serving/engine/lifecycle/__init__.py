"""When a model is in memory: loaded and unloaded by an administrator, by want of use, and by the next request."""
