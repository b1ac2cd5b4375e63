"""Routers with the rules that middleware looks up for a path before a request is routed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter

Audience = Literal["everybody", "teams", "administrator"]


@dataclass(frozen=True, slots=True)
class PathRule:
    """Rule for requests to `path`: their label in metrics, and whose key they need.

    `label` is the value of `api` in metrics, logs and traces, also for all paths below; None: requests to this very
    path are not recorded, because machines or browsers send them all the time and no answer waits on them. `audience`
    says whose key a request needs: none, a team's or the administrator's; the latter also for all paths below.
    `max_body_bytes` and `longest_body_s` hold for the path's bodies in place of the settings' own.
    """

    path: str
    label: str | None
    audience: Audience = "teams"
    max_body_bytes: int | None = None
    longest_body_s: float | None = None

    def covers(self, path: str) -> bool:
        """Whether `path` is this one or one below."""
        return path == self.path or path.startswith(f"{self.path}/")


class Router(APIRouter):
    """A router with the rules of its paths. Raises ValueError for a route that no rule covers."""

    def __init__(self, *rules: PathRule, tags: list[str] | None = None) -> None:
        super().__init__(tags=list(tags or ()))
        self.rules = rules

    def add_api_route(self, path: str, *args: Any, **kwargs: Any) -> None:
        """See APIRouter."""
        if not any(rule.covers(path) for rule in self.rules):
            raise ValueError(f"no rule says whose {path} is and what metrics call it")
        super().add_api_route(path, *args, **kwargs)


class PathRules:
    """The rules of all routers, looked up by a request's path."""

    def __init__(self, rules: Iterable[PathRule]) -> None:
        self._rules = tuple(rules)
        self._exact = {rule.path: rule for rule in self._rules}
        self.body_limits = {rule.path: rule.max_body_bytes for rule in self._rules if rule.max_body_bytes is not None}
        self.body_times = {rule.path: rule.longest_body_s for rule in self._rules if rule.longest_body_s is not None}

    def find(self, path: str) -> PathRule:
        """The rule for requests to `path`.

        A path that there is not has the label "other", and needs a team's key, so that none can be probed.
        """
        rule = self._exact.get(path)
        if rule is not None:
            return rule
        above = [rule for rule in self._rules if rule.covers(path)]
        label = next((rule.label for rule in above if rule.label), "other")
        below_administrator = any(rule.audience == "administrator" for rule in above)
        return PathRule(path, label, "administrator" if below_administrator else "teams")
