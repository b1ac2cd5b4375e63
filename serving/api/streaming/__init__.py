"""Replies that are streams of server-sent events."""
