"""State that several ingress replicas share: a store protocol and its backends."""
