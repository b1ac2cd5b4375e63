"""Everything that knows Ray: the application graph, its deployments, starting and stopping."""
