"""Settings of admission queues."""

from __future__ import annotations

from pydantic import Field

from serving.settings.base import Section


class AdmissionSettings(Section):
    """Admission queues: how requests wait for an engine."""

    margin: float = Field(
        0.1, ge=0, le=1, description="Requests handed to engines beyond max_num_seqs, as a part of it."
    )
    reserve: float = Field(
        0.1, ge=0, le=0.5, description="Part of the slots that only teams below their share may take."
    )
    max_queued: int | None = Field(
        None, ge=1, description="Requests that wait for one model, over all ingress replicas; unset: 4 for each slot."
    )
    default_timeout_s: float | None = Field(
        None, gt=0, description="Deadline of a request without x-request-timeout; unset: http.longest_answer_s."
    )
