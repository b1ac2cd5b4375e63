"""The process that starts or joins Ray, deploys the application, waits to be told to stop and takes it down.

Run by serving.cluster.run.up, which passes pickled settings on stdin and, as the only argument, the number of a pipe to
write to once SIGTERM is understood.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import signal
import sys
import threading
import time
import urllib.request
from queue import Empty
from types import FrameType

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus

from serving.cluster.application import build, fingerprint
from serving.cluster.names import APPLICATION, INGRESS, engine_deployment
from serving.cluster.orphans import describe_orphans
from serving.cluster.run.console import Console, base_url, ready_message
from serving.cluster.run.control import DONE, FAILED, ControlServer
from serving.cluster.run.process_tree import die_with_parent
from serving.cluster.run.ray_patience import patient
from serving.cluster.stores import start_failures as start_failure
from serving.cluster.stores import start_stages as stages
from serving.cluster.stores.lifecycle import forget
from serving.cluster.stores.limits import stop_limits
from serving.cluster.stores.store import stop_stores
from serving.engine.start_failure import StartFailure
from serving.errors import ClusterError, SettingsError
from serving.settings.tree import Settings

_POLL_S = 0.25
_OBJECT_STORE_BYTES = 128 * 1024 * 1024
_ASK_S = 20.0
_EQUAL_FAILURES = 2


def start_ray(settings: Settings, console: Console) -> None:
    """Start Ray on this machine, or join `settings.ray_address`; raises ClusterError."""
    try:
        if settings.ray_address is not None:
            ray.init(address=settings.ray_address, log_to_driver=False, logging_level="ERROR", namespace=APPLICATION)
        else:
            with patient(lambda words: console.stage("Ray", words)):
                ray.init(
                    address="local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                    namespace=APPLICATION,
                    # Answers are small and travel over gRPC; Ray would set a third of the memory aside.
                    object_store_memory=_OBJECT_STORE_BYTES,
                )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        if settings.ray_address is None:
            raise ClusterError(f"cannot start Ray: {error}") from error
        # Ray says no more than "failed to connect" when a token is missing, and asks for one by default.
        raise ClusterError(
            f"cannot join Ray at {settings.ray_address}: {error}\nIf the address is right, the cluster may ask for its "
            "token: set RAY_AUTH_MODE=token, with the token in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from error


def deploy(settings: Settings, console: Console) -> None:
    """Start Serve and the application; returns when all of it is healthy. Raises ClusterError."""
    # Serve keeps its options for the life of the cluster; on a joined one where Serve runs, ours change nothing.
    serve.start(
        proxy_location="EveryNode",
        http_options={"host": settings.host, "port": settings.port},
    )
    run_until_healthy(build(settings), settings, console)


def run_until_healthy(application: serve.Application, settings: Settings, console: Console) -> None:
    """Deploy the graph; returns when Serve has brought it about. Raises ClusterError.

    Gives up when an engine has failed twice for the same reason, before Serve does.
    """
    for name in settings.models:
        start_failure.clear(name)  # of an earlier attempt on this cluster
    told: dict[str, StartFailure] = {}
    target = serve.RunTarget(application, name=APPLICATION, route_prefix="/")
    serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
    while True:
        status = serve.status().applications[APPLICATION]
        for name in settings.models:
            stage = stages.reported(name)
            if stage is not None:
                console.stage(name, stage)
            tell_failure(name, told, console)
        if status.status == ApplicationStatus.RUNNING:
            return
        if status.status in (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY):
            if told:
                raise EngineStartError(*next(iter(told.items())))
            causes = [each.message for each in status.deployments.values() if each.message]
            raise ClusterError("\n".join(["the deployment failed.", status.message, *causes]))
        console.tick()
        time.sleep(_POLL_S)


class EngineStartError(ClusterError):
    """An engine does not start; the message says why, what to do, and where the log lies."""

    def __init__(self, model: str, failure: StartFailure) -> None:
        times = "" if failure.in_a_row == 1 else f", {failure.in_a_row} times alike"
        super().__init__("\n".join([f"the engine of {model} did not start{times}.", *failure.lines()]))


def tell_failure(model: str, told: dict[str, StartFailure], console: Console) -> None:
    """Say why the last start of `model` failed, once; raises EngineStartError where the next one failed likewise."""
    failure = start_failure.recorded(model)
    if failure is None or failure == told.get(model):
        return
    told[model] = failure
    if failure.in_a_row >= _EQUAL_FAILURES:
        raise EngineStartError(model, failure)
    console.failed_start(model, failure)


def update(old: Settings, new: Settings, console: Console) -> None:
    """Take the running application from `old` settings to `new`, rolling, without a request that fails.

    Serve stops a replica before it starts the next, so for the time of it the ingress has one replica more. Raises
    ClusterError, and SettingsError for what only a new start can change.
    """
    fixed = [name for name in ("host", "port", "ray_address") if getattr(old, name) != getattr(new, name)]
    if old.http.longest_answer_s != new.http.longest_answer_s:
        fixed.append("http.longest_answer_s")  # HAProxy has it in its environment
    if fixed:
        raise SettingsError([(name, "cannot change while it serves; stop `serving up` and start it") for name in fixed])
    if fingerprint(old) == fingerprint(new):
        return
    console.stage("update", "one more ingress replica")
    run_until_healthy(build(old, more_ingress=1), old, console)
    console.stage("update", "rolling")
    run_until_healthy(build(new, more_ingress=1), new, console)
    wait_until_answering(new, console)
    console.stage("update", "back to size")
    run_until_healthy(build(new), new, console)


def wait_until_answering(settings: Settings, console: Console) -> None:
    """Return once /ready says so at the address that users are given."""
    url = base_url(settings).removesuffix("/v1") + "/ready"
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                if reply.status == 200:
                    return
        except OSError:
            # Refused, reset, or an HTTP error: not there yet. Serve's own health checks end a hopeless wait.
            console.tick()
        time.sleep(_POLL_S)


async def take_down(settings: Settings, console: Console) -> None:
    """Let running answers finish, then stop. On a joined cluster only the application goes.

    A coroutine, because in throughput mode Serve's handles work inside of an event loop alone.
    """
    ingress = serve.get_deployment_handle(INGRESS, APPLICATION)
    deadline = time.monotonic() + settings.http.longest_answer_s
    while time.monotonic() < deadline:
        ongoing = sum(await ingress.broadcast("drain").results_async(timeout_s=_ASK_S))
        if not ongoing:
            break
        console.say(f"waiting for {ongoing} running answer{'s' if ongoing != 1 else ''}; Ctrl-C again to drop them")
        await asyncio.sleep(_POLL_S)
    if settings.ray_address is not None:
        await asyncio.to_thread(serve.delete, APPLICATION)
        await asyncio.to_thread(stop_stores)
        await asyncio.to_thread(stop_limits)
        for name in settings.models:
            await asyncio.to_thread(forget, name)
            await asyncio.to_thread(start_failure.forget, name)
        return
    handles = [serve.get_deployment_handle(engine_deployment(name), APPLICATION) for name in settings.models]
    await asyncio.gather(*map(_close, handles))


async def _close(engines: DeploymentHandle) -> None:
    try:
        await engines.broadcast("close").results_async(timeout_s=_ASK_S)
    except DeploymentUnavailableError:
        return  # none runs: the model is unloaded


def serve_until(stop: threading.Event, settings: Settings, console: Console) -> Settings:
    """Wait for the stop, taking updates meanwhile; the settings then in force."""
    control = ControlServer(settings.port)
    try:
        while not stop.is_set():
            try:
                # A wait without an end would hold the signal's Python handler back.
                asked = control.updates.get(timeout=1.0)
            except Empty:
                continue
            console.listener = asked.tell
            try:
                update(settings, asked.settings, console)
            except (ClusterError, SettingsError) as error:
                asked.tell(f"{FAILED}{' '.join(str(error).split())}")
            else:
                settings = asked.settings
                asked.tell(DONE)
            finally:
                console.listener = None
    finally:
        control.close()
    return settings


def main() -> int:
    """Exit status: 0 when stopped on request, 1 when it could not start."""
    die_with_parent()
    settings: Settings = pickle.load(sys.stdin.buffer)  # our own parent wrote it
    able_to_stop = int(sys.argv[1])
    # Its "Started Serve" and the like would stand between our own lines.
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    stop = threading.Event()

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()

    with Console() as console:
        try:
            for sentence in describe_orphans():
                console.say(f"warning: {sentence}")
            console.stage("Ray", "joining" if settings.ray_address else "starting")
            start_ray(settings, console)
            console.stage("Ray Serve", "starting")
            deploy(settings, console)
            wait_until_answering(settings, console)
        except EngineStartError as error:
            console.fail(str(error))
            return 1
        except (ClusterError, RayError, RayServeException) as error:
            console.fail(f"{error}\nRay's logs: /tmp/ray/session_latest/logs/serve")
            return 1
        console.ready(ready_message(settings))
        signal.signal(signal.SIGTERM, on_signal)
        os.write(able_to_stop, b"r")
        settings = serve_until(stop, settings, console)
        console.say("stopping")
        try:
            asyncio.run(take_down(settings, console))
        except (RayError, RayServeException, TimeoutError) as error:
            # A replica that is dead or stuck cannot hold up the stop: our parent ends every process anyway.
            console.say(f"not everything stopped by itself: {error}")
        ray.shutdown()
        console.say("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
