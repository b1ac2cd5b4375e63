"""Settings of logs and traces."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from serving.settings.base import Section


class LoggingSettings(Section):
    """Logs. They never hold prompts, answers or keys."""

    format: Literal["auto", "json", "text"] = Field(
        "auto", description="json: an object a line; text: for people; auto: text on a terminal, else json."
    )
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least that is said; requests that were answered are info."
    )


class TracingSettings(Section):
    """OpenTelemetry traces."""

    endpoint: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Where spans go by OTLP over HTTP, such as http://collector:4318/v1/traces; unset: no traces.",
    )
    sample: float = Field(1.0, ge=0, le=1, description="Part of the requests traced whose caller does not say.")
