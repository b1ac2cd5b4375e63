"""Whose stored responses a request may see."""

from __future__ import annotations

from starlette.requests import Request


def owner_of(request: Request) -> str:
    """The team that authentication found, or "" where nobody is asked who they are."""
    return str(request.scope["state"].get("team", ""))
