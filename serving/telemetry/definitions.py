"""Every metric of ours in one table, which docs/metrics.md repeats and a test compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]

# Up to ten minutes: reasoning at high effort takes minutes, and a bucket that all of it falls into says nothing.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# Gaps between tokens: 1 ms on the largest GPUs; seconds where something stalls; 600 s is a stall nobody noticed.
TOKEN_SECONDS = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0),
)
TOKENS = (0.0, 16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131072.0)


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric as it is exposed; `buckets` are a histogram's upper bounds, in the metric's unit.

    `process`: which replicas expose it; `scrape` is for what their merged exposition adds.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    process: Literal["ingress", "engine", "scrape"] = "ingress"


DEFINITIONS: tuple[Definition, ...] = (
    Definition(
        "serving_requests_total",
        "counter",
        "Requests to the API that are over, by what became of them.",
        ("api", "model", "team", "effort", "outcome"),
    ),
    Definition(
        "serving_adapter_requests_total",
        "counter",
        "Requests to LoRA adapters that are over; they count as their model's in all other metrics.",
        ("model", "adapter", "outcome"),
    ),
    Definition(
        "serving_request_duration_seconds",
        "histogram",
        "Arrival to last byte of requests that were answered whole.",
        ("api", "model", "team"),
        SECONDS,
    ),
    Definition(
        "serving_queue_time_seconds",
        "histogram",
        "Time a request waited for admission before an engine was asked.",
        ("model", "team"),
        SECONDS,
    ),
    Definition(
        "serving_time_to_first_token_seconds",
        "histogram",
        "Arrival to the first token of a streamed answer, on whatever channel.",
        ("model", "team"),
        SECONDS,
    ),
    Definition(
        "serving_time_to_first_final_token_seconds",
        "histogram",
        "Arrival to the first text of the final channel of a streamed answer: what a user waits for.",
        ("model", "team"),
        SECONDS,
    ),
    Definition(
        "serving_inter_token_latency_seconds",
        "histogram",
        "Time between two chunks of a streamed answer as they are sent; tokens that are there together are one chunk.",
        ("model",),
        TOKEN_SECONDS,
    ),
    Definition(
        "serving_time_per_output_token_seconds",
        "histogram",
        "First to last token of a streamed answer, divided by the tokens after the first.",
        ("model",),
        TOKEN_SECONDS,
    ),
    Definition(
        "serving_tokens_total",
        "counter",
        "Tokens that requests cost. Channels do not overlap: prompt is without what the prefix cache held.",
        ("model", "team", "channel"),
    ),
    Definition(
        "serving_reasoning_tokens",
        "histogram",
        "Tokens on the analysis channel of a request that was answered whole.",
        ("model", "effort"),
        TOKENS,
    ),
    Definition(
        "serving_requests_in_flight",
        "gauge",
        "Requests whose model is known and whose reply is not over, waiting ones included.",
        ("model", "team"),
    ),
    Definition("serving_requests_queued", "gauge", "Requests that wait for admission.", ("model", "team")),
    Definition(
        "serving_rejections_total",
        "counter",
        "Requests refused by policy, limits or for want of room.",
        ("model", "team", "reason"),
    ),
    Definition(
        "serving_effort_changes_total",
        "counter",
        "Requests answered with another effort than they asked for.",
        ("model", "team", "asked", "used"),
    ),
    Definition(
        "serving_ignored_parameters_total",
        "counter",
        "Fields of requests that this server does not know and ignored, by their path.",
        ("api", "parameter"),
    ),
    Definition(
        "serving_recoveries_total",
        "counter",
        "Breaks of the Harmony format that the parser recovered from.",
        ("model", "kind"),
    ),
    Definition(
        "serving_schema_misses_total",
        "counter",
        "Finished answers and calls that are not valid by their JSON schema; must stay 0.",
        ("model", "body"),
    ),
    Definition(
        "serving_reasoning_truncations_total",
        "counter",
        "Answers whose analysis was closed by its budget.",
        ("model", "team"),
    ),
    Definition("serving_tool_calls_total", "counter", "Function calls passed to clients.", ("model", "team")),
    Definition(
        "serving_failovers_total",
        "counter",
        "Requests whose engine was lost and that were taken to another one.",
        ("model", "outcome"),
    ),
    Definition(
        "serving_failover_seconds",
        "histogram",
        "Time from the loss of an engine to the next token of a request that went on elsewhere.",
        ("model",),
        SECONDS,
    ),
    Definition(
        "serving_backend_requests_total",
        "counter",
        "Times that another server was asked, by how it ended; one request may ask several.",
        ("backend", "outcome"),
    ),
    Definition(
        "serving_backend_ready",
        "gauge",
        "1 while a backend answers and is not closed by its failures, else 0.",
        ("backend",),
    ),
    Definition(
        "serving_external_requests_total",
        "counter",
        "Times that a conversation was sent to a backend outside the house.",
        ("team", "backend"),
    ),
    Definition(
        "serving_fallbacks_total",
        "counter",
        "Requests that went on to the next of their model's fallbacks, by why.",
        ("model", "reason"),
    ),
    Definition(
        "serving_cache_requests_total",
        "counter",
        "Requests that the answer cache was asked for, by what it had.",
        ("model", "team", "outcome"),
    ),
    Definition(
        "serving_cache_saved_tokens_total",
        "counter",
        "Tokens of prompts and answers that no engine worked on, because the answer was kept or shared.",
        ("model", "team"),
    ),
    Definition(
        "serving_cache_failures_total",
        "counter",
        "Answers that the cache could not read or keep.",
        ("kind",),
    ),
    Definition(
        "serving_batch_lines_unanswered",
        "gauge",
        "Lines of batches that this replica works on and that are not answered yet: queued, or running.",
        ("team", "state"),
    ),
    Definition(
        "serving_batch_lines_total",
        "counter",
        "Lines of batches that have their result, by its kind.",
        ("team", "outcome"),
    ),
    Definition(
        "serving_batches_finished_total",
        "counter",
        "Batches that are over, by how.",
        ("team", "status"),
    ),
    Definition(
        "serving_client_disconnects_total",
        "counter",
        "Clients that left before their reply was over.",
        ("model", "team", "stage"),
    ),
    Definition(
        "serving_frame_losses_total",
        "counter",
        "Token frames that did not arrive as they were sent; their text came with the final reply.",
        ("model", "kind"),
    ),
    Definition(
        "serving_limit_used_ratio",
        "gauge",
        "Part of a team's limit that is used now; 1 is all of it.",
        ("team", "limit"),
    ),
    Definition(
        "serving_key_expiry_timestamp_seconds",
        "gauge",
        "When a team's key ends, in seconds since the epoch; keys that never end are not shown.",
        ("team", "key"),
    ),
    Definition(
        "serving_engine_ready", "gauge", "1 while a model's engines answer this ingress replica, else 0.", ("model",)
    ),
    Definition(
        "serving_engine_saturation_ratio",
        "gauge",
        "Part in use of the KV cache and prompts that engines may have from an ingress replica; requests wait near 1.",
        ("model",),
    ),
    Definition(
        "serving_engine_gpus",
        "gauge",
        "GPUs of an engine replica; 0 on a CPU.",
        ("model",),
        process="engine",
    ),
    Definition(
        "serving_engine_bound_tokens_per_second",
        "gauge",
        "Generated tokens a second that an engine replica cannot pass, as `serving plan` computes them for its GPU.",
        ("model",),
        process="engine",
    ),
    Definition(
        "serving_engine_start_failures_total",
        "counter",
        "Starts of a model's engines that failed, by why; every ingress replica has the figure of the whole cluster.",
        ("model", "reason"),
    ),
    Definition(
        "serving_model_state",
        "gauge",
        "1 for how a model is to this ingress replica, 0 for how else it could be.",
        ("model", "state"),
    ),
    Definition(
        "serving_model_loads_total",
        "counter",
        "Times that a model was to be loaded again, by why.",
        ("model", "cause"),
    ),
    Definition(
        "serving_model_unloads_total",
        "counter",
        "Times that a model was to be unloaded, by why.",
        ("model", "cause"),
    ),
    Definition(
        "serving_model_load_seconds",
        "histogram",
        "Time from when a model was to be loaded again until its engines answered.",
        ("model",),
        SECONDS,
    ),
    Definition(
        "serving_requests_held",
        "gauge",
        "Requests that wait for a model to be loaded, before they wait for admission.",
        ("model",),
    ),
    Definition(
        "serving_build_info", "gauge", "Always 1; the versions are in its labels.", ("version", "python", "ray", "vllm")
    ),
    Definition(
        "serving_config_info", "gauge", "Always 1; replicas with the same settings have the same hash.", ("hash",)
    ),
    Definition(
        "serving_scrape_replica_up",
        "gauge",
        "1 for each replica whose metrics are in this answer, 0 for one that did not send them in time.",
        ("deployment", "replica"),
        process="scrape",
    ),
)

BY_NAME: Mapping[str, Definition] = {definition.name: definition for definition in DEFINITIONS}
