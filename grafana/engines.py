"""Engines: what vLLM does with its devices, replica by replica."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from grafana.layout import new_dashboard
from grafana.panels import TOKENS_S, Query, column_unit, graph, half_and_most, rows
from grafana.queries import ENGINE, MODEL, now, quantile, rate

_ANY_REPLICA = 'model=~"$model"'
_REQUESTS = 'model=~"$model", team=~"$team"'


def engines() -> Dashboard:
    """The dashboard."""
    board = new_dashboard(
        "gpt-oss-engines",
        "gpt-oss / Engines",
        "Load, memory and phases of every engine replica, and the replicas that came and went.",
        replicas_of="engine-.*",
    )
    _load(board)
    _work(board)
    _replicas(board)
    _in_memory(board)
    _losses(board)
    return board


def _load(board: Dashboard) -> None:
    board.with_row(Row("Load"))
    board.with_panel(
        graph(
            "Running",
            "Sequences in each engine's batch.",
            "at max_num_seqs all the time: add replicas. Very uneven: the router cannot balance; see 'By replica'.",
            "short",
            [Query(now("vllm:num_requests_running", ENGINE, "model, replica"), "{{model}} {{replica}}")],
        )
    )
    board.with_panel(
        graph(
            "Waiting in the engine",
            "Requests that an engine has and does not work on yet.",
            "should stay near zero, since we queue before the engine: requests too long for the free KV cache "
            "wait here.",
            "short",
            [Query(now("vllm:num_requests_waiting", ENGINE, "model, replica"), "{{model}} {{replica}}")],
        )
    )
    board.with_panel(
        graph(
            "KV cache used",
            "Part of the KV cache that running requests hold.",
            "near 1 with preemptions, work is done twice: the alert KvCacheFull has the runbook.",
            "percentunit",
            [Query(f"max by (model, replica) (vllm:kv_cache_usage_perc{{{ENGINE}}})", "{{model}} {{replica}}")],
            most=1,
        )
    )
    board.with_panel(
        graph(
            "Prefix cache hits",
            "Prompt tokens found in the prefix cache, of those looked for.",
            "a fall after a release of a client: its prompts now differ at the beginning. Keep instructions and tools "
            "first and unchanged.",
            "percentunit",
            [
                Query(
                    f"{rate('vllm:prefix_cache_hits_total', ENGINE, 'model')} / "
                    f"{rate('vllm:prefix_cache_queries_total', ENGINE, 'model')}",
                    "{{model}}",
                )
            ],
            most=1,
        )
    )
    board.with_panel(
        graph(
            "Preemptions",
            "Requests put back to the queue for want of KV cache, to be computed again.",
            "any lasting rate is lost work: add replicas, shorten max_model_len or lower max_num_seqs.",
            "ops",
            [Query(rate("vllm:num_preemptions_total", ENGINE, "model, replica"), "{{model}} {{replica}}")],
        )
    )
    board.with_panel(
        graph(
            "In flight by team",
            "Whose requests the engines work on, as the ingress sees it.",
            "one team fills the engines: check its weight and its concurrency limit (Teams).",
            "short",
            [Query(now("serving_requests_in_flight", _REQUESTS, "team"), "{{team}}")],
            stacked=True,
        )
    )


def _work(board: Dashboard) -> None:
    board.with_row(Row("Work"))
    board.with_panel(
        graph(
            "Tokens by phase",
            "Prompt tokens read and tokens generated in each second, by engine model.",
            "prompt tokens that crowd out generation: prompts are long and not in the prefix cache.",
            TOKENS_S,
            [
                Query(rate("vllm:prompt_tokens_total", ENGINE, "model"), "{{model}} prompt"),
                Query(rate("vllm:generation_tokens_total", ENGINE, "model"), "{{model}} generated"),
            ],
        )
    )
    board.with_panel(
        graph(
            "Tokens in one step",
            "Tokens that one engine step works on, prompt and decode together.",
            "small batches at high load: requests do not reach the engines together; few, long steps: prefill "
            "dominates.",
            "short",
            half_and_most("vllm:iteration_tokens_total", ENGINE, "model"),
        )
    )
    phases = (
        ("queue", "vllm:request_queue_time_seconds"),
        ("prefill", "vllm:request_prefill_time_seconds"),
        ("decode", "vllm:request_decode_time_seconds"),
    )
    board.with_panel(
        graph(
            "Phase times, p95",
            "Time that requests spend in an engine's queue, reading their prompt, and generating.",
            "the phase that grew says what to do: queue asks for replicas, prefill for shorter or more alike prompts, "
            "decode for fewer sequences in a batch or shorter reasoning.",
            "s",
            [Query(quantile(0.95, metric, ENGINE, "model"), f"{{{{model}}}} {name}") for name, metric in phases],
        )
    )
    board.with_panel(
        graph(
            "First token, engine and client, p95",
            "The first token as the engine counts it and as its client got it, where streams were asked for.",
            "a gap between the two is ours: queueing, rendering, the network between replicas, busy ingress replicas.",
            "s",
            [
                Query(quantile(0.95, "vllm:time_to_first_token_seconds", _ANY_REPLICA, "model"), "{{model}} engine"),
                Query(quantile(0.95, "serving_time_to_first_token_seconds", _REQUESTS, "model"), "{{model}} client"),
            ],
        )
    )


def _replicas(board: Dashboard) -> None:
    board.with_row(Row("Replicas"))
    by = "deployment, replica"
    panel = rows(
        "By replica",
        "Every engine replica now, with its load and its memory.",
        "one that differs from its like with the same share of requests has a slow or ill device: drain it and look at "
        "its node.",
        "short",
        [
            Query(f"max by ({by}) (serving_scrape_replica_up{{{_ENGINE_REPLICA}}})", "answers"),
            Query(f"max by ({by}) (time() - process_start_time_seconds{{{_ENGINE_REPLICA}}})", "age"),
            Query(now("vllm:num_requests_running", ENGINE, by), "running"),
            Query(now("vllm:num_requests_waiting", ENGINE, by), "waiting"),
            Query(f"max by ({by}) (vllm:kv_cache_usage_perc{{{ENGINE}}})", "KV cache"),
            Query(rate("vllm:generation_tokens_total", ENGINE, by), "tokens/s"),
            Query(f"max by ({by}) (process_resident_memory_bytes{{{_ENGINE_REPLICA}}})", "memory"),
        ],
        by=("deployment", "replica"),
    )
    for column, unit in (("age", "s"), ("KV cache", "percentunit"), ("memory", "bytes"), ("tokens/s", TOKENS_S)):
        panel = column_unit(panel, column, unit)
    board.with_panel(panel)
    board.with_panel(
        graph(
            "Ready engines",
            "1 while the engines of a model answer at least one ingress replica.",
            "0 means that the model is away: take the runbook of the alert NoReadyEngine.",
            "short",
            [Query('max by (model) (serving_engine_ready{model=~"$model"})', "{{model}}")],
            most=1,
        )
    )
    board.with_panel(
        graph(
            "Replicas that answer",
            "Replicas whose metrics came with the scrape, and those that were silent.",
            "a silent replica hangs or is being replaced; if it stays, Serve's health check did not see it: kill it.",
            "short",
            [
                Query("sum by (deployment) (serving_scrape_replica_up)", "{{deployment}}"),
                Query(
                    "count by (deployment) (serving_scrape_replica_up) "
                    "- sum by (deployment) (serving_scrape_replica_up)",
                    "{{deployment}} silent",
                ),
            ],
        )
    )
    board.with_panel(
        graph(
            "Age of replicas",
            "Time since each replica's process began; a new line at zero is a restart or a scale-up.",
            "new lines again and again: the engine dies. Its log is in Ray's session folder, under serve/.",
            "s",
            [
                Query(
                    'max by (deployment, replica) (time() - process_start_time_seconds{replica=~"$replica"})',
                    "{{deployment}} {{replica}}",
                )
            ],
        )
    )
    board.with_panel(
        graph(
            "CPU by deployment",
            "Processor cores used by the replicas' own processes; vLLM's engine and workers are not among them.",
            "ingress replicas near one core each are full: raise ingress_replicas.",
            "short",
            [Query("sum by (deployment) (rate(process_cpu_seconds_total[$__rate_interval]))", "{{deployment}}")],
        )
    )


_ENGINE_REPLICA = 'deployment=~"engine-.*", replica=~"$replica"'


def _in_memory(board: Dashboard) -> None:
    board.with_row(Row("Models in memory"))
    board.with_panel(
        graph(
            "State of models",
            "A line at 1 while a model is loaded, loading, unloading or unloaded.",
            "unloaded though it is wanted: who asked is in 'Loads and unloads'; an administrator's POST "
            "/admin/models/NAME/load brings it back. loading for long: its replicas do not start; see Serve's log.",
            "short",
            [Query(f"max by (model, state) (serving_model_state{{{MODEL}}}) == 1", "{{model}} {{state}}")],
            most=1,
        )
    )
    board.with_panel(
        graph(
            "Requests held",
            "Requests that wait for their model to be loaded.",
            "a line at the height of hold.most: the next ones are refused. Let the model go later (idle.after_s), or "
            "never (replicas.min).",
            "short",
            [Query(now("serving_requests_held", MODEL, "model"), "{{model}}")],
        )
    )
    board.with_panel(
        graph(
            "Loads and unloads",
            "How often models were to be loaded or unloaded, by who wanted it.",
            "back and forth: idle.after_s is shorter than the pauses between requests, and each pause costs a load.",
            "ops",
            [
                Query(rate("serving_model_loads_total", MODEL, "model, cause"), "{{model}} loaded: {{cause}}"),
                Query(rate("serving_model_unloads_total", MODEL, "model, cause"), "{{model}} unloaded: {{cause}}"),
            ],
        )
    )
    board.with_panel(
        graph(
            "Time to load",
            "From the wish to load a model again until its engines answered.",
            "near hold.longest_s: requests that wait for it are given up. Keep one replica, or put the weights on a "
            "faster disk.",
            "s",
            half_and_most("serving_model_load_seconds", MODEL, "model"),
        )
    )


def _of_the_cluster(metric: str) -> str:
    """Rate by model and reason of a counter of which each ingress replica has the whole cluster's figure."""
    return f"max by (model, reason) (rate({metric}{{{_ANY_REPLICA}}}[$__rate_interval]))"


def _losses(board: Dashboard) -> None:
    board.with_row(Row("Losses"))
    board.with_panel(
        graph(
            "Failed starts",
            "Starts of engines that failed, by reason.",
            "above zero: GET /ready has the error and a remedy. The alert EngineStartFailing has the runbook.",
            "ops",
            [Query(_of_the_cluster("serving_engine_start_failures_total"), "{{model}} {{reason}}")],
        )
    )
    board.with_panel(
        graph(
            "Failovers",
            "Requests whose engine was lost: taken to another one, or given up.",
            "given_up and poison reach users. The alert Failover has the runbook.",
            "ops",
            [Query(rate("serving_failovers_total", _ANY_REPLICA, "model, outcome"), "{{model}} {{outcome}}")],
        )
    )
    board.with_panel(
        graph(
            "Time lost by failovers",
            "How long a request stood still until another engine went on with it.",
            "tens of seconds: no second replica was ready, so it waited for the replacement. Run two.",
            "s",
            half_and_most("serving_failover_seconds", _ANY_REPLICA, "model"),
        )
    )
    board.with_panel(
        graph(
            "Token frames lost",
            "Frames between engine and ingress that did not arrive as they were sent. No text is lost, but it "
            "comes late.",
            "a lasting rate: busy ingress replicas or a bad network between nodes. unreachable: a firewall closes the "
            "port of the frames.",
            "ops",
            [Query(rate("serving_frame_losses_total", _ANY_REPLICA, "model, kind"), "{{model}} {{kind}}")],
        )
    )
