"""Exposition of several processes' metrics as one answer to a scrape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics_exposition

from serving.telemetry.definitions import BY_NAME

OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
TEXT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

_END = b"# EOF\n"
_HELP = b"# HELP "
_FAMILY = re.compile(rb"(?m)^# HELP ")
# A sample's line up to its labels, or up to the blank before its value.
_LABELLED = re.compile(rb"(?m)^([A-Za-z_:][\w:]*)\{")
_BARE = re.compile(rb"(?m)^([A-Za-z_:][\w:]*) ")
# When each series began: as many lines again, which Prometheus would store as series of their own.
_CREATED = re.compile(rb"(?m)^\w[\w:]*_created[{ ].*\n")


@dataclass(frozen=True, slots=True)
class Exposition:
    """Metrics of one process; `body` is None where it did not answer. `labels` are added to each of its series."""

    labels: Mapping[str, str]
    body: bytes | None


class MetricsSource(Protocol):
    """Source of the metrics of all processes of the service."""

    async def collect(self, *, openmetrics: bool) -> list[Exposition]:
        """Every process's metrics, in OpenMetrics or in the older text format. Never raises, answers in 2 s."""
        ...


def exposed(*registries: CollectorRegistry, openmetrics: bool) -> bytes:
    """Exposition of one process, whose registries share no family; takes about 20 us for each series."""
    if not openmetrics:
        return b"".join(map(generate_latest, registries))
    # By default the library turns the colon of vLLM's names into an underscore, in samples alone.
    bodies: list[bytes] = [
        openmetrics_exposition.generate_latest(  # type: ignore[no-untyped-call]  # theirs has no types
            registry, escaping=openmetrics_exposition.ALLOWUTF8
        )
        for registry in registries
    ]
    return b"".join(body.removesuffix(_END) for body in bodies) + _END


def merge(expositions: Iterable[Exposition], *, openmetrics: bool) -> bytes:
    """One exposition of them all, each family once, with serving_scrape_replica_up for every process.

    Bytes are rewritten, not parsed: 50 processes of 1,000 series take 0.1 s. A `model` label that a series has
    already is left as it is.
    """
    heads: dict[bytes, bytes] = {}
    samples: dict[bytes, list[bytes]] = {}
    ups: list[bytes] = []
    for exposition in expositions:
        up = {name: exposition.labels.get(name, "") for name in BY_NAME["serving_scrape_replica_up"].labels}
        ups.append(b"serving_scrape_replica_up{%s} %d\n" % (_encoded(up), exposition.body is not None))
        if exposition.body is not None:
            _add(exposition.body, exposition.labels, heads, samples)
    parts: list[bytes] = []
    for name, head in heads.items():
        parts += [head, *samples[name]]
    definition = BY_NAME["serving_scrape_replica_up"]
    parts.append(f"# HELP {definition.name} {definition.help}\n# TYPE {definition.name} gauge\n".encode())
    parts += ups
    if openmetrics:
        parts.append(_END)
    return b"".join(parts)


def _add(body: bytes, labels: Mapping[str, str], heads: dict[bytes, bytes], samples: dict[bytes, list[bytes]]) -> None:
    every = _encoded(labels)
    but_model = _encoded({name: value for name, value in labels.items() if name != "model"})
    for family in _FAMILY.split(_CREATED.sub(b"", body.removesuffix(_END)))[1:]:
        name = family[: family.index(b" ")]
        if name.endswith(b"_created"):
            continue
        begin = _end_of_comments(family)
        heads.setdefault(name, _HELP + family[:begin])
        lines = family[begin:]
        added = but_model if b'{model="' in lines or b',model="' in lines else every
        if added:
            added = added.replace(b"\\", rb"\\")  # for the template of sub()
            lines = _LABELLED.sub(rb"\1{" + added + b",", lines)
            lines = _BARE.sub(rb"\1{" + added + b"} ", lines)
        samples.setdefault(name, []).append(lines)


def _end_of_comments(family: bytes) -> int:
    """Start of a family's samples: after its HELP, whose first word is cut off, TYPE and UNIT."""
    begin = family.index(b"\n") + 1
    while family.startswith(b"#", begin):
        begin = family.index(b"\n", begin) + 1
    return begin


def _encoded(labels: Mapping[str, str]) -> bytes:
    escaped = (
        (name, value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")) for name, value in labels.items()
    )
    return ",".join(f'{name}="{value}"' for name, value in escaped).encode()
