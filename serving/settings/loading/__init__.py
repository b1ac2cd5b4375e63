"""Where settings come from: a YAML file, the environment and flags, each value with its origin."""
