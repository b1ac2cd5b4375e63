"""Messages between ingress and engine replicas: what is written is what is read, also by other releases."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import serving.errors
from serving.cluster.transport import wire
from serving.cluster.transport.frames import End, Entry
from serving.cluster.transport.wire import (
    VERSIONS,
    Call,
    Cancel,
    Endpoint,
    Frame,
    Hello,
    Refused,
    ToIngress,
    ToReplica,
    Welcome,
    api_error,
    common_version,
    failure,
)
from serving.engine.base import Adapter, Constraint, EngineInfo, EngineRequest, Sampling
from serving.engine.load import EngineLoad, KvCache
from serving.errors import ApiError, EngineNotReadyError, InternalError, InvalidValueError

IDS = st.lists(st.integers(0, 201_087), max_size=20)
FLOATS = st.floats(allow_nan=False)
COUNTS = st.integers(0, 2**40)

REQUESTS = st.builds(
    EngineRequest,
    request_id=st.text(max_size=20),
    prompt_token_ids=IDS,
    sampling=st.builds(
        Sampling,
        max_tokens=COUNTS,
        temperature=FLOATS,
        seed=st.none() | st.integers(-(2**63), 2**63 - 1),
        logit_bias=st.none() | st.dictionaries(st.integers(0, 201_087), FLOATS, max_size=4),
        logprobs=st.none() | st.integers(0, 20),
        stop_token_ids=st.lists(st.integers(0, 201_087), max_size=3).map(tuple),
    ),
    stream=st.booleans(),
    completion_token_ids=IDS,
    constraint=st.none() | st.builds(Constraint, st.sampled_from(["json_object", "regex"]), st.text(max_size=20)),
    constrained_tokens=COUNTS,
    priority=st.integers(-(2**31), 2**31),
    adapter=st.none() | st.builds(Adapter, st.text(), st.text(), st.text()),
)
LOADS = st.builds(
    EngineLoad,
    engine=st.text(max_size=8),
    running=COUNTS,
    waiting=COUNTS,
    waiting_tokens=COUNTS,
    step_tokens=st.none() | COUNTS,
    kv_cache=st.none() | st.builds(KvCache, COUNTS, COUNTS, COUNTS, COUNTS),
)
INFOS = st.builds(
    EngineInfo,
    model=st.text(),
    max_model_len=COUNTS,
    versions=st.dictionaries(st.text(), st.text(), max_size=3),
    max_num_seqs=st.none() | COUNTS,
    load=st.none() | LOADS,
)
STREAMS = st.binary(min_size=8, max_size=8)
POSITIONS = st.lists(st.tuples(COUNTS, FLOATS, st.lists(st.tuples(COUNTS, FLOATS), max_size=2)), max_size=3)
KINDS = [kind for kind in vars(serving.errors).values() if isinstance(kind, type) and issubclass(kind, ApiError)]
ERRORS = st.builds(
    lambda kind, *arguments, **options: kind(*arguments, **options),
    st.sampled_from(KINDS),
    st.text(),
    param=st.none() | st.text(),
    code=st.none() | st.text(),
    retry_after_s=st.none() | FLOATS,
    should_retry=st.none() | st.booleans(),
)
MESSAGES_IN = (
    st.builds(Hello, st.binary(), COUNTS, COUNTS) | st.builds(Call, STREAMS, REQUESTS) | st.builds(Cancel, STREAMS)
)
MESSAGES_OUT = (
    st.builds(Welcome, COUNTS, INFOS, COUNTS, COUNTS)
    | st.builds(Refused, st.text())
    | st.builds(
        Frame,
        st.lists(st.builds(Entry, STREAMS, COUNTS, IDS, COUNTS, st.none() | POSITIONS), max_size=3),
        st.lists(STREAMS, max_size=3),
        st.lists(
            st.builds(End, STREAMS, COUNTS, st.sampled_from(["stop", "length"]))
            | st.builds(End, STREAMS, COUNTS, st.none(), ERRORS.map(failure)),
            max_size=3,
        ),
        st.none() | LOADS,
    )
)


def decoded(message: Any, kind: Any) -> Any:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=kind)


@pytest.mark.property
@given(MESSAGES_IN)
def test_what_an_ingress_writes_a_replica_reads(message: Any) -> None:
    assert decoded(message, ToReplica) == message


@pytest.mark.property
@given(MESSAGES_OUT)
def test_what_a_replica_writes_an_ingress_reads(message: Any) -> None:
    assert decoded(message, ToIngress) == message


@pytest.mark.property
@given(ERRORS)
def test_an_error_arrives_as_it_was_raised(error: ApiError) -> None:
    arrived = api_error(failure(error))
    assert type(arrived) is type(error)
    assert (arrived.body(), arrived.should_retry) == (error.body(), error.should_retry)
    assert arrived.retry_after_s == error.retry_after_s


@pytest.mark.property
@given(MESSAGES_IN, st.lists(COUNTS | st.text(), min_size=1, max_size=3))
def test_a_later_release_may_append_fields(message: Any, more: list[Any]) -> None:
    array = msgspec.to_builtins(message, str_keys=False, builtin_types=(bytes,))
    assert decoded([*array, *more], ToReplica) == message


@pytest.mark.property
@given(st.binary(max_size=200))
def test_anything_else_is_refused_by_the_decoder(message: bytes) -> None:
    for kind in (ToReplica, ToIngress):
        try:
            read = msgspec.msgpack.decode(message, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        assert isinstance(read, kind)


def test_a_request_of_an_earlier_release_has_the_defaults_of_what_it_lacks() -> None:
    old = [1, b"12345678", {"request_id": "r", "prompt_token_ids": [1], "sampling": {"max_tokens": 5}, "new": 1}]
    assert decoded(old, ToReplica) == Call(b"12345678", EngineRequest("r", [1], Sampling(5)))


class Mine(EngineNotReadyError):
    """One of another module."""


def test_an_error_of_another_module_is_what_it_is_a_kind_of() -> None:
    assert type(api_error(failure(Mine("not yet", retry_after_s=3)))) is EngineNotReadyError


def test_an_error_of_a_later_release_is_an_internal_one() -> None:
    later = msgspec.structs.replace(failure(InvalidValueError("no")), kind="LaterError")
    assert type(api_error(later)) is InternalError


@pytest.mark.parametrize("kind", ["SettingsError", "Exception", "ServingError"])
def test_only_what_a_client_may_be_told_becomes_an_error(kind: str) -> None:
    assert type(api_error(msgspec.structs.replace(failure(InvalidValueError("no")), kind=kind))) is InternalError


@pytest.mark.parametrize(
    ("theirs", "ours", "common"),
    [
        ((1, 1), (1, 1), 1),
        ((1, 2), (1, 1), 1),
        ((1, 2), (1, 2), 2),
        ((1, 1), (1, 2), 1),
        ((2, 3), (1, 1), None),
        ((1, 1), (2, 3), None),
    ],
)
def test_the_newest_common_version_is_taken(
    theirs: tuple[int, int], ours: tuple[int, int], common: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "VERSIONS", ours)
    assert common_version(*theirs) == common


def test_an_endpoint_survives_the_metadata_of_a_replica() -> None:
    endpoint = Endpoint("tcp://10.0.0.1:2000", b"\x00\xff" * 16, curve_key=b"x" * 40)
    assert Endpoint.of(json.loads(json.dumps(endpoint.metadata()))) == endpoint
    assert Endpoint.of(endpoint.metadata()) == endpoint


@pytest.mark.parametrize("metadata", [{}, {"frames": None}, {"frames": 7}, {"frames": {"address": "tcp://a:1"}}])
def test_a_replica_of_an_earlier_release_has_no_endpoint(metadata: dict[str, Any]) -> None:
    assert Endpoint.of(metadata) is None


def test_a_replica_that_speaks_later_versions_alone_has_none_for_us() -> None:
    later = Endpoint("tcp://10.0.0.1:2000", b"k", (VERSIONS[1] + 1, VERSIONS[1] + 2))
    assert Endpoint.of(later.metadata()) is None
