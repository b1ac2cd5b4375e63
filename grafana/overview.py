"""Overview: are users happy? Ten seconds should do."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from grafana.layout import new_dashboard
from grafana.panels import TOKENS_S, Limits, Query, column_unit, figure, graph, rows
from grafana.queries import ANSWERABLE, FAULTS, MODEL, REQUEST, now, quantile, rate, total

_TTFT = "serving_time_to_first_token_seconds"
_FINAL = "serving_time_to_first_final_token_seconds"
_GAP = "serving_inter_token_latency_seconds"
_OUTPUT = 'channel=~"analysis|commentary|final|tool|structure"'


def overview() -> Dashboard:
    """The dashboard."""
    board = new_dashboard(
        "gpt-oss-overview",
        "gpt-oss / Overview",
        "Whether users are served well, and where to look when they are not.",
        replicas_of="ingress",
    )
    _objectives(board)
    _traffic(board)
    _latency(board)
    _fleet(board)
    return board


def _objectives(board: Dashboard) -> None:
    board.with_row(Row("Objectives, over the time range"))
    faults = f'{REQUEST}, outcome=~"{FAULTS}"'
    answerable = f'{REQUEST}, outcome=~"{ANSWERABLE}"'
    board.with_panel(
        figure(
            "Availability",
            "Requests that were answered, of those that could have been: the clients' own mistakes, refusals by a "
            "team's limits and clients that left do not count.",
            "see which errors in 'Errors by kind' and take that one's runbook. The objective is 99.5 %.",
            "percentunit",
            Query(
                f"1 - (({total('serving_requests_total', faults)}) or vector(0)) / "
                f"({total('serving_requests_total', answerable)} > 0)",
                "answered",
            ),
            limits=Limits(0.999, 0.995, good_above=True),
        )
    )
    board.with_panel(
        figure(
            "First token, p95",
            "Time from a request's arrival to its first token, on whatever channel. 95 % of requests are faster.",
            "look at 'In flight and queued': a queue means too few replicas; none means slow engines (Engines, phase "
            "times). The objective is 2.5 s.",
            "s",
            Query(quantile(0.95, _TTFT, REQUEST, window="$__range"), "p95"),
            limits=Limits(1.0, 2.5),
        )
    )
    board.with_panel(
        figure(
            "First answer text, p95",
            "Time from a request's arrival to the first text of its final channel: what a user waits for. Reasoning "
            "comes before it, so it grows with effort.",
            "compare with 'First token': where only this one is slow, models reason long (Harmony, reasoning length). "
            "Lower the default effort or set a reasoning budget.",
            "s",
            Query(quantile(0.95, _FINAL, REQUEST, window="$__range"), "p95"),
            limits=Limits(10.0, 30.0),
        )
    )
    board.with_panel(
        figure(
            "Between tokens, p95",
            "Time between two chunks of a stream as they are sent. Reading speed is about 0.1 s.",
            "engines run too many requests at once (Engines, running and KV cache): add replicas or lower "
            "max_num_seqs.",
            "s",
            Query(quantile(0.95, _GAP, MODEL, window="$__range"), "p95"),
            limits=Limits(0.05, 0.1),
        )
    )
    board.with_panel(
        figure(
            "Error budget left, 30 days",
            "What is left of the 0.5 % of requests that may fail in 30 days. Below zero the objective is missed. It "
            "comes from a recording rule, for all teams and replicas.",
            "stop risky changes until it recovers; the alerts AvailabilityBurn tell how fast it is going.",
            "percentunit",
            Query(
                '1 - (sum(sum_over_time(model:serving_faults:rate5m{model=~"$model"}[30d])) / '
                'sum(sum_over_time(model:serving_answerable:rate5m{model=~"$model"}[30d]) > 0)) / 0.005',
                "left",
            ),
            limits=Limits(0.5, 0.1, good_above=True),
        )
    )
    board.with_panel(
        figure(
            "Models away",
            "Models for which no ingress replica reaches an engine now.",
            "take the runbook of the alert NoReadyEngine.",
            "short",
            Query(
                f"count(max by (model) (serving_engine_ready{{{MODEL}}}) == 0) or vector(0)",
                "not ready",
            ),
            limits=Limits(1, 1.5),
        )
    )


def _traffic(board: Dashboard) -> None:
    board.with_row(Row("Traffic"))
    board.with_panel(
        graph(
            "Requests by API",
            "Requests that ended, in each second, by the API they used.",
            "a sudden stop with no errors means that clients cannot reach us: check DNS, the load balancer and "
            "HAProxy.",
            "reqps",
            [Query(rate("serving_requests_total", REQUEST, "api"), "{{api}}")],
            stacked=True,
        )
    )
    board.with_panel(
        graph(
            "Errors by kind",
            "Requests that were not answered, by what became of them.",
            "overloaded, not_ready, engine_died, timeout and internal_error are ours to fix; rate_limited belongs to a "
            "team (Teams); the rest are mistakes of clients. internal_error is a bug: its traceback is in the log.",
            "reqps",
            [Query(rate("serving_requests_total", f'{REQUEST}, outcome!="ok"', "outcome"), "{{outcome}}")],
            stacked=True,
        )
    )
    board.with_panel(
        graph(
            "Tokens by channel",
            "Tokens worked on in each second. prompt is without what the prefix cache held, which is cached; "
            "analysis is "
            "reasoning; structure is Harmony's own.",
            "much analysis to little final means that effort is higher than the work needs (Harmony). Few "
            "cached tokens "
            "with long prompts mean that the prefix cache does not help (Engines).",
            TOKENS_S,
            [Query(rate("serving_tokens_total", REQUEST, "channel"), "{{channel}}")],
            stacked=True,
        )
    )
    board.with_panel(
        graph(
            "Generated tokens by model",
            "Tokens that each model generated for clients in each second.",
            "a drop at the same request rate: engines are slower or fewer (Engines).",
            TOKENS_S,
            [Query(rate("serving_tokens_total", f"{REQUEST}, {_OUTPUT}", "model"), "{{model}}")],
            stacked=True,
        )
    )


def _latency(board: Dashboard) -> None:
    board.with_row(Row("Latency"))
    board.with_panel(
        graph(
            "Latency percentiles",
            "Time to the first token and to the first text of the answer, over all replicas together.",
            "p99 far above p50 points at single replicas or long prompts; all of them rising together at load.",
            "s",
            [
                Query(quantile(q, metric, REQUEST), f"{name} p{round(q * 100)}")
                for metric, name in ((_TTFT, "first token"), (_FINAL, "first answer text"))
                for q in (0.5, 0.95, 0.99)
            ],
        )
    )
    board.with_panel(
        graph(
            "Time between tokens",
            "Time between two chunks as they are sent to clients.",
            "p99 alone high: long prompts are prefilled among the decodes. All high: too many requests at once.",
            "s",
            [Query(quantile(q, _GAP, MODEL), f"p{round(q * 100)}") for q in (0.5, 0.95, 0.99)],
        )
    )
    board.with_panel(
        graph(
            "In flight and queued",
            "Requests that are being answered or wait, and of these the ones that wait for admission.",
            "a queue that does not drain: the alert QueueGrowing has the runbook.",
            "short",
            [
                Query(now("serving_requests_in_flight", REQUEST, "model"), "{{model}} in flight"),
                Query(now("serving_requests_queued", REQUEST, "model"), "{{model}} queued"),
            ],
        )
    )
    board.with_panel(
        graph(
            "Refused, and left by clients",
            "Requests that were refused, by reason, and clients that hung up before their reply was over.",
            "queue_full and deadline ask for more replicas; clients that leave before the first token did not want to "
            "wait so long.",
            "reqps",
            [
                Query(rate("serving_rejections_total", REQUEST, "reason"), "{{reason}}"),
                Query(rate("serving_client_disconnects_total", REQUEST, "stage"), "client left {{stage}}"),
            ],
        )
    )


def _fleet(board: Dashboard) -> None:
    board.with_row(Row("What runs"))
    panel = rows(
        "Ingress replicas",
        "The versions and the settings of each ingress replica.",
        "two versions or two hashes for longer than a roll-out takes: a replica was not replaced. Restart it.",
        "short",
        [
            Query(f"max by (replica, version, vllm, ray) (serving_build_info{{{_REPLICA}}})", "up"),
            Query(f"max by (replica, hash) (serving_config_info{{{_REPLICA}}})", "configured"),
            Query(f"max by (replica) (time() - process_start_time_seconds{{{_REPLICA}}})", "age"),
        ],
        by=("replica", "version", "hash", "vllm", "ray"),
    )
    board.with_panel(column_unit(panel, "age", "s"))


_REPLICA = 'deployment="ingress", replica=~"$replica"'
