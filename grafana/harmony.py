"""Harmony: how the models think, and how often they break their format."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from grafana.layout import new_dashboard
from grafana.panels import Limits, Query, figure, graph, half_and_most
from grafana.queries import MODEL, REQUEST, quantile, rate, total

_OUTPUT = f'{REQUEST}, channel!~"prompt|cached"'
_OK = f'{REQUEST}, outcome="ok"'
_ANSWERS = total("serving_reasoning_tokens_count", MODEL)


def harmony() -> Dashboard:
    """The dashboard."""
    board = new_dashboard(
        "gpt-oss-harmony",
        "gpt-oss / Harmony",
        "Channels, effort, tool calls, and what was recovered from malformed output.",
        replicas_of="ingress",
    )
    _figures(board)
    _thinking(board)
    _format(board)
    return board


def _figures(board: Dashboard) -> None:
    board.with_row(Row("Over the time range"))
    board.with_panel(
        figure(
            "Reasoning for each answer",
            "Analysis tokens divided by answers.",
            "rising at the same effort mix: prompts got harder, or a model's default effort was raised.",
            "short",
            Query(f"{total('serving_reasoning_tokens_sum', MODEL)} / ({_ANSWERS} > 0)", "tokens"),
            limits=Limits(2000, 8000),
            width=6,
        )
    )
    board.with_panel(
        figure(
            "Answers with truncated reasoning",
            "Answers whose analysis was closed by its budget, of all answers.",
            "raise max_reasoning_tokens, or lower the effort so that the model plans for less.",
            "percentunit",
            Query(
                f"({total('serving_reasoning_truncations_total', REQUEST)} or vector(0)) / ({_ANSWERS} > 0)",
                "truncated",
            ),
            limits=Limits(0.05, 0.2),
            width=6,
        )
    )
    board.with_panel(
        figure(
            "Recoveries for each answer",
            "Breaks of the format that the parser repaired, divided by answers.",
            "above one in a hundred something is wrong with the weights, the quantization or sampling far from the "
            "defaults. The alert RecoverySpike has the runbook.",
            "percentunit",
            Query(f"{total('serving_recoveries_total', MODEL)} / ({_ANSWERS} > 0)", "recoveries"),
            limits=Limits(0.01, 0.05),
            width=6,
        )
    )
    board.with_panel(
        figure(
            "Tool calls for each answer",
            "Calls passed to clients, divided by answers.",
            "a fall to zero after a client's release: it no longer sends its tools.",
            "short",
            Query(f"({total('serving_tool_calls_total', REQUEST)} or vector(0)) / ({_ANSWERS} > 0)", "calls"),
            limits=Limits(5, 20),
            width=6,
        )
    )


def _thinking(board: Dashboard) -> None:
    board.with_row(Row("Thinking"))
    board.with_panel(
        graph(
            "Channel shares",
            "What the generated tokens were: analysis is reasoning, final the answer, tool arguments of calls, "
            "structure "
            "Harmony's own.",
            "analysis far above final: users wait and pay for thinking; see the effort mix. Much structure: "
            "very short messages.",
            "short",
            [Query(rate("serving_tokens_total", _OUTPUT, "channel"), "{{channel}}")],
            percent=True,
        )
    )
    board.with_panel(
        graph(
            "Answers by effort",
            "Answers in each second by the effort that was used.",
            "an effort that nobody asked for: look at the model's default and at 'Effort changed' (Teams).",
            "reqps",
            [Query(rate("serving_requests_total", _OK, "effort"), "{{effort}}")],
            stacked=True,
        )
    )
    board.with_panel(
        graph(
            "Reasoning length by effort",
            "Analysis tokens of one answer, for each effort.",
            "efforts that do not differ: the effort does not reach the prompt, or the model ignores it. p95 at "
            "a budget: "
            "it cuts.",
            "short",
            half_and_most("serving_reasoning_tokens", MODEL, "effort"),
        )
    )
    board.with_panel(
        graph(
            "From first token to first answer text, p95",
            "The two moments of a stream: what lies between them is mostly reasoning.",
            "shorten it with a lower effort or a budget; show users the reasoning or the commentary meanwhile.",
            "s",
            [
                Query(quantile(0.95, "serving_time_to_first_token_seconds", REQUEST, "model"), "{{model}} first token"),
                Query(
                    quantile(0.95, "serving_time_to_first_final_token_seconds", REQUEST, "model"),
                    "{{model}} first answer text",
                ),
            ],
        )
    )


def _format(board: Dashboard) -> None:
    board.with_row(Row("Format"))
    board.with_panel(
        graph(
            "Recoveries by kind",
            "What the models did wrong and the parser repaired, in each second. Nothing of it is lost for users.",
            "docs/runbooks/RecoverySpike.md says what each kind hints at.",
            "ops",
            [Query(rate("serving_recoveries_total", MODEL, "kind"), "{{kind}}")],
        )
    )
    board.with_panel(
        graph(
            "Recoveries by model",
            "Breaks of the format for each answer, by model.",
            "one model alone: its weights or its engine arguments; all of them: a client's way of prompting.",
            "percentunit",
            [
                Query(
                    f"{rate('serving_recoveries_total', MODEL, 'model')} / "
                    f"{rate('serving_reasoning_tokens_count', MODEL, 'model')}",
                    "{{model}}",
                )
            ],
        )
    )
    board.with_panel(
        graph(
            "Truncated reasoning",
            "Answers in each second whose analysis was closed by its budget.",
            "raise the budget of the teams concerned, or lower their effort.",
            "ops",
            [Query(rate("serving_reasoning_truncations_total", REQUEST, "model, team"), "{{model}} {{team}}")],
        )
    )
    board.with_panel(
        graph(
            "Tool calls",
            "Function calls passed to clients in each second.",
            "a burst from one team: an agent of its that goes round in circles.",
            "ops",
            [Query(rate("serving_tool_calls_total", REQUEST, "model, team"), "{{model}} {{team}}")],
        )
    )
    board.with_panel(
        graph(
            "Answers that miss their schema",
            "Finished answers and calls in each second that are not valid by their JSON schema.",
            "any at all is a fault of ours or of the grammar's library, to be reported: docs/structured-outputs.md.",
            "ops",
            [Query(rate("serving_schema_misses_total", MODEL, "model, body"), "{{model}} {{body}}")],
            width=24,
        )
    )
