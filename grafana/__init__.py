"""Dashboards, recording rules and alerts: what the platform team looks at, and what wakes it."""
