"""Capacity of a model's engines, as one ingress replica has it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from serving.settings.admission import AdmissionSettings
from serving.settings.models import ModelSettings

_DEFAULT_SEQUENCES = 64
"""Sequences of an engine that has not reported how many it decodes, and whose settings name no number."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Slots that one ingress replica has of a model's engines, those in reserve among them, and its queue's length.

    Background requests hold `background` of the slots at most.
    """

    slots: int
    reserve: int
    max_queued: int
    engines: int = 1
    ingresses: int = 1
    background: int = 1

    @classmethod
    def of(
        cls,
        model: ModelSettings,
        admission: AdmissionSettings,
        *,
        replicas: int,
        ingresses: int,
        sequences: int | None = None,
        background: float = 0.5,
    ) -> Capacity:
        """Capacity of `replicas` engines shared by `ingresses`, rounded up: each ingress replica has one slot at least.

        `sequences` is how many sequences an engine reports that it decodes together; the settings' number, or a modest
        one, stands in until an engine has reported. `background` is the part of the slots that background requests may
        hold.
        """
        sequences = (sequences or model.max_num_seqs or _DEFAULT_SEQUENCES) * max(1, replicas)
        slots = max(1, math.ceil(sequences * (1 + admission.margin) / ingresses))
        reserve = math.ceil(slots * admission.reserve) if slots > 1 and admission.reserve else 0
        most = 4 * sequences if admission.max_queued is None else admission.max_queued
        lent = max(1, math.floor(slots * background))
        return cls(slots, reserve, max(1, math.ceil(most / ingresses)), replicas, ingresses, lent)
