"""Calls of a model's engine replicas over connections, without Serve on their way."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import zmq

from serving.cluster.routing.base import RoutingPolicy
from serving.cluster.transport.connection import RETRY_AFTER_S, Connection
from serving.cluster.transport.inbox import OnFrameLoss, Stream
from serving.cluster.transport.sockets import context
from serving.cluster.transport.wire import Endpoint
from serving.engine.base import Adapter, EngineInfo, EngineRequest
from serving.engine.load import EngineLoad
from serving.errors import EngineNotReadyError
from serving.telemetry.metrics import FrameLoss
from serving.tenancy.flow_control.saturation import REPORT_EVERY_S

logger = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.1
_UNREPORTED_S = 2 * REPORT_EVERY_S
"""Age from which a request is in the replica's report: one interval on its way, one until the report."""
_AGAIN_S = 1.0
"""Wait before a replica that was lost, and that Serve still lists, is connected to again."""


class ReplicaList(Protocol):
    """A model's engine replicas as Serve knows them, and what Serve has to know of calls that it does not see."""

    def listed(self) -> Mapping[Any, Mapping[str, Any]] | None:
        """Metadata of the replicas that take calls, by the replica's id; None before anything is known."""
        ...

    def takes_calls(self, replica: Any) -> bool:
        """True while the replica is listed."""
        ...

    def began(self, replica: Any) -> None:
        """Count a call among those under way, by which Serve scales."""
        ...

    def ended(self, replica: Any) -> None:
        """Count it no more."""
        ...


class FramedCalls:
    """Calls of `model`'s engine replicas: `policy` chooses one of those that `replicas` lists and that are ready.

    A task connects to replicas as they are listed, and closes the connection to one that is no longer listed once its
    calls are over. `everywhere` tells whether all that are listed have an endpoint: those of an earlier release have
    none, and then all requests go the earlier way, so that they are spread over all.
    """

    def __init__(
        self,
        model: str,
        replicas: ReplicaList,
        policy: RoutingPolicy,
        on_loss: OnFrameLoss,
        curve_keys: tuple[bytes, bytes] | None = None,
        node_address: str = "",
    ) -> None:
        self.everywhere = False
        self.on_load: Callable[[EngineLoad], None] = lambda load: None
        self._model = model
        self._replicas = replicas
        self._policy = policy
        self._on_loss = on_loss
        self._curve_keys = curve_keys
        self._node_address = node_address
        self._sockets: zmq.Context[zmq.Socket[bytes]] = context()
        self._links: dict[Any, _Link] = {}
        self._lost_at: dict[Any, float] = {}
        self._ready: list[_Link] = []
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to connect; returns at once."""
        if self._watch is None:
            self._watch = asyncio.create_task(self._look_for_ever(), name=f"connect to replicas of {self._model}")

    async def close(self) -> None:
        """Close every connection; calls under way end as if their replicas were lost."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        for link in list(self._links.values()):
            link.connection.close()
        self._links.clear()
        self._ready.clear()
        self._sockets.destroy(linger=0)

    def info(self) -> EngineInfo | None:
        """Description of the engine by a replica that is ready; None while none is."""
        for link in self._ready:
            if link.connection.info is not None and self._replicas.takes_calls(link.replica):
                return link.connection.info
        return None

    def begin(self, request: EngineRequest) -> tuple[Stream, Callable[[], None]]:
        """The stream of a call that has been sent, and what its reader calls when it leaves.

        Raises EngineNotReadyError while no replica is ready.
        """
        candidates = self._ready
        while candidates:
            link = self._policy.choose(request, candidates)
            if self._replicas.takes_calls(link.replica):
                try:
                    stream = link.begin(request)
                except EngineNotReadyError:
                    pass
                else:
                    self._replicas.began(link.replica)
                    return stream, functools.partial(link.connection.leave, stream)
            candidates = [each for each in candidates if each is not link]
        raise EngineNotReadyError(
            f"The engine of model '{self._model}' is not ready; it is starting or being replaced.",
            retry_after_s=RETRY_AFTER_S,
        )

    async def _look_for_ever(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(_LOOK_EVERY_S)

    def look(self) -> None:
        """Connect to what is listed, and to nothing else."""
        listed = self._replicas.listed()
        if listed is None:
            return
        endpoints = {replica: Endpoint.of(metadata) for replica, metadata in listed.items()}
        self.everywhere = all(endpoint is not None for endpoint in endpoints.values())
        for replica in [replica for replica in self._links if replica not in endpoints]:
            if not self._links[replica].connection.calls:
                self._links.pop(replica).connection.close()
                self.ready()
        now = asyncio.get_running_loop().time()
        self._lost_at = {replica: at for replica, at in self._lost_at.items() if replica in endpoints}
        for replica, endpoint in endpoints.items():
            waits = now - self._lost_at.get(replica, float("-inf")) < _AGAIN_S
            if endpoint is not None and replica not in self._links and not waits:
                self._links[replica] = _Link(self, replica, endpoint)

    def ready(self) -> None:
        """Look again which replicas are ready."""
        self._ready = [link for link in self._links.values() if link.connection.info is not None]

    def lost(self, link: _Link) -> None:
        """Forget a replica that is gone."""
        if self._links.get(link.replica) is link:
            del self._links[link.replica]
        self._lost_at[link.replica] = asyncio.get_running_loop().time()
        self.ready()

    def connect(self, link: _Link, endpoint: Endpoint) -> Connection:
        """A connection for `link`."""
        return Connection(self._model, endpoint, self._sockets, link, self._curve_keys, self._node_address)

    def ended(self, replica: Any) -> None:
        """Note the end of a call."""
        self._replicas.ended(replica)

    def lose(self, loss: FrameLoss) -> None:
        """Count tokens that were of no use."""
        self._on_loss(self._model, loss)


class _Link:
    """One replica, its connection, and what becomes of it."""

    def __init__(self, owner: FramedCalls, replica: Any, endpoint: Endpoint) -> None:
        self.replica = replica
        self._owner = owner
        self._clock = asyncio.get_running_loop().time
        self._sent: deque[tuple[float, int]] = deque()  # that no report tells of yet, with their tokens
        self._sent_tokens = 0
        self.connection = owner.connect(self, endpoint)

    @property
    def requests(self) -> int:
        """See Candidate. Its own number, or those from here if they are more: some are on their way."""
        load, mine = self.connection.load, self.connection.calls
        return mine if load is None else max(mine, load.running + load.waiting)

    @property
    def queued_tokens(self) -> int:
        """See Candidate."""
        load = self.connection.load
        self._forget_reported()
        return self._sent_tokens + (0 if load is None else load.waiting_tokens)

    def holds(self, adapter: Adapter) -> bool:
        """See Candidate."""
        load = self.connection.load
        return load is not None and (adapter.name, adapter.version) in load.adapters

    def begin(self, request: EngineRequest) -> Stream:
        """See Connection.begin()."""
        stream = self.connection.begin(request)
        size = len(request.prompt_token_ids) + len(request.completion_token_ids)
        self._sent.append((self._clock(), size))
        self._sent_tokens += size
        return stream

    def _forget_reported(self) -> None:
        reported = self._clock() - _UNREPORTED_S
        while self._sent and self._sent[0][0] < reported:
            self._sent_tokens -= self._sent.popleft()[1]

    def ready(self) -> None:
        """See Watcher."""
        self._owner.ready()

    def lost(self, connection: Connection) -> None:
        """See Watcher."""
        self._owner.lost(self)

    def ended(self, connection: Connection) -> None:
        """See Watcher."""
        self._owner.ended(self.replica)

    def on_load(self, load: EngineLoad) -> None:
        """See Watcher."""
        self._owner.on_load(load)

    def on_loss(self, loss: FrameLoss) -> None:
        """See Watcher."""
        self._owner.lose(loss)
