"""One request's life: plan, generate, parse, answer."""
