"""Teams that share the models: who they are, what they may do, how much, and in which order."""
