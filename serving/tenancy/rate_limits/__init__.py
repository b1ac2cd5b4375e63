"""Rate limits of teams, counted over all ingress replicas.

Why not the `limits` library: its moving window keeps an entry for each unit (a team with 200,000 tokens a minute would
have as many), its counters can be hit but not given back to, so that an estimate cannot be settled, and several limits
of one team cannot be taken together or not at all.
"""
