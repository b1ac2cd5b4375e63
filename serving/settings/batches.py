"""Settings of batches and of their files."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator

from serving.settings.base import Section

OFF = "off"
_SECRET = re.compile(r"key|secret|token|password|credential", re.IGNORECASE)


class BatchSettings(Section):
    """Batches: requests in files, answered in the idle slots of engines."""

    storage: str | None = Field(
        None,
        min_length=1,
        description="Where files and the state of batches are kept: a folder, or an address of fsspec such as "
        "s3://bucket/folder; off: there are no batches. Unset: a folder in cache_dir, where `serving up` "
        "runs on one machine; else off.",
    )
    storage_options: dict[str, Any] = Field(
        default_factory=dict,
        description="Arguments of fsspec's file system, such as {endpoint_url: https://minio:9000}; credentials come "
        "from the environment (AWS_ACCESS_KEY_ID and so on) or the machine's role.",
    )
    share: float = Field(0.5, gt=0, le=1, description="Most of a model's slots that lines of batches hold together.")
    max_file_bytes: int = Field(200 * 1024 * 1024, ge=1024, description="Largest file that may be uploaded, in bytes.")
    max_team_bytes: int = Field(
        10 * 1024 * 1024 * 1024, ge=1024, description="All files of a team together, results included, in bytes."
    )
    max_lines: int = Field(50_000, ge=1, description="Most lines of a batch.")
    max_unfinished: int = Field(50, ge=1, description="Most batches of a team that are not finished.")
    keep_days: float = Field(30, gt=0, description="Days after which files and finished batches are deleted.")
    longest_window_h: float = Field(168, ge=1, description="Longest completion_window of a batch, in hours.")
    poll_s: float = Field(
        2.0, gt=0, description="Time between two looks of an ingress replica for work of others, in seconds."
    )

    @field_validator("storage_options")
    @classmethod
    def _without_secrets(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name in options:
            if _SECRET.search(name):
                raise ValueError(f"{name!r} looks like a secret, which settings show: give it by the environment")
        return options
