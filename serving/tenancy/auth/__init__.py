"""Authentication of teams: their keys, and a throttle on wrong ones."""
