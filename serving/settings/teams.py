"""Content of the teams file: teams, their keys, permissions and limits.

```yaml
defaults:                       # of every team below
  requests_per_minute: 600
teams:
  research:
    weight: 2
    tokens_per_minute: 200000
    keys:
      - {id: 4tZ0cWq8Lm, hash: "blake2b:...", expires: "2027-02-19"}
```
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from serving.effort import EFFORTS, Effort
from serving.settings.base import Section
from serving.settings.keys import KEY_ID, KeyHash
from serving.settings.layer import KeyPath, merged
from serving.settings.limits import LimitKind
from serving.settings.problems import several

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")
"""Priority classes, first served first."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def _hash(value: Any) -> KeyHash:
    if isinstance(value, KeyHash):
        return value
    return KeyHash.parse(value if isinstance(value, str) else "")


def _moment(value: Any) -> datetime:
    """Read an end of validity: a day ends with itself; a time without a zone is UTC."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if not isinstance(value, str):
        raise ValueError('should be a day or a time in quotes, such as "2027-02-19" or "2027-02-19T12:00:00Z"')
    try:
        if len(value) == 10:
            return datetime.combine(date.fromisoformat(value), datetime.max.time(), UTC)
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise ValueError(
            f'should be a day or a time, such as "2027-02-19" or "2027-02-19T12:00:00Z": {error}'
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _key_id(value: str) -> str:
    if not KEY_ID.fullmatch(value):
        raise ValueError("should be the 10 letters and digits that `serving keys new` printed")
    return value


class StoredKey(Section):
    """Key of a team, without its secret."""

    id: Annotated[str, AfterValidator(_key_id)]
    hash: Annotated[KeyHash, BeforeValidator(_hash), PlainSerializer(str)]
    expires: Annotated[datetime, BeforeValidator(_moment)] | None = None
    created: Annotated[datetime, BeforeValidator(_moment)] | None = None
    revoked: bool = Field(False, description="true: no longer accepted; as good as removing the line.")
    note: str = Field("", max_length=200, description="For people.")

    def usable(self, now: float) -> bool:
        """Whether the key is valid at `now`, in seconds since the epoch."""
        return not self.revoked and (self.expires is None or now < self.expires.timestamp())


class EffortUnderLoad(Section):
    """Fill of a model's admission queue (0: empty, 1: full) from which requests are answered with less effort."""

    medium_above: float | None = Field(None, ge=0, le=1, description="high becomes medium.")
    low_above: float | None = Field(None, ge=0, le=1, description="high and medium become low.")

    def most(self, fill: float) -> Effort:
        """Highest effort at that fill."""
        if self.low_above is not None and fill > self.low_above:
            return "low"
        if self.medium_above is not None and fill > self.medium_above:
            return "medium"
        return "high"


class Team(Section):
    """Policy of a team: permissions and limits. A limit that is not set does not hold."""

    keys: tuple[StoredKey, ...] = ()
    models: tuple[str, ...] | None = Field(None, description="Names and aliases it may use; unset: all.")
    default_effort: Effort | None = Field(None, description="Effort where a request names none; unset: the model's.")
    highest_effort: Effort = Field("high", description="Requests for more are answered with this.")
    max_reasoning_tokens: int | None = Field(None, ge=1, description="Most analysis tokens of an answer.")
    show_reasoning: bool = Field(True, description="false: analysis is never sent.")
    max_context: int | None = Field(None, ge=256, description="Most tokens of prompt and answer together.")
    max_output: int | None = Field(None, ge=1, description="Most tokens of an answer, reasoning included.")
    requests_per_minute: int | None = Field(None, ge=1)
    tokens_per_minute: int | None = Field(None, ge=1, description="Prompt and answer together.")
    concurrent_requests: int | None = Field(None, ge=1)
    tokens_per_day: int | None = Field(None, ge=1, description="Days are UTC's.")
    tokens_per_month: int | None = Field(None, ge=1, description="Months are UTC's.")
    weight: float = Field(1.0, ge=0.01, le=1000, description="Share of the engines' tokens when teams compete.")
    priority: Priority = Field("normal", description="A higher class is served before any lower one.")
    external: bool = Field(False, description="true: its requests may go to backends outside the house.")
    effort_under_load: EffortUnderLoad = Field(EffortUnderLoad(), description="Less effort while many wait.")

    def limit(self, kind: LimitKind) -> int | None:
        """Limit of that kind; None where it does not hold."""
        found: int | None = getattr(self, kind.name)
        return found

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        findings: list[tuple[KeyPath, str]] = []
        if self.default_effort and EFFORTS.index(self.default_effort) > EFFORTS.index(self.highest_effort):
            findings.append((("default_effort",), f"is above highest_effort, {self.highest_effort}"))
        if self.max_output and self.max_context and self.max_output >= self.max_context:
            findings.append((("max_output",), f"should be below max_context, {self.max_context}: prompts need room"))
        if findings:
            raise several(findings)
        return self


class TeamsFile(Section):
    """Teams file. `defaults` lies under every team; a team's own line wins."""

    defaults: dict[str, Any] = Field(default_factory=dict)
    teams: dict[str, Team] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        defaults, teams = values.get("defaults") or {}, values.get("teams")
        if not isinstance(defaults, dict) or not isinstance(teams, dict):
            return values
        if "keys" in defaults:
            raise several([(("defaults", "keys"), "keys belong to one team each")])
        # An empty mapping, `research:`, is a team with nothing but the defaults.
        teams = {name: merged(defaults, {} if team is None else team) for name, team in teams.items()}
        return {**values, "defaults": defaults, "teams": teams}

    @model_validator(mode="after")
    def _names_and_ids(self) -> Self:
        findings: list[tuple[KeyPath, str]] = []
        owners: dict[str, str] = {}
        for name, team in self.teams.items():
            if not _NAME.fullmatch(name):
                findings.append((("teams", name), "a team's name is 1 to 64 letters, digits, dots, dashes and _"))
            for number, key in enumerate(team.keys):
                if key.id in owners:
                    findings.append(
                        (("teams", name, "keys", str(number), "id"), f"is a key of {owners[key.id]} already")
                    )
                owners.setdefault(key.id, name)
        if findings:
            raise several(findings)
        return self
