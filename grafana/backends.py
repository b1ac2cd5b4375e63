"""Backends: the other servers that answer beside our engines or in their place, and what leaves the house."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from grafana.layout import new_dashboard
from grafana.panels import Limits, Query, figure, graph, rows
from grafana.queries import MODEL, now, rate, total

_REPLICA = 'replica=~"$replica"'
_UNANSWERED = f'{_REPLICA}, outcome=~"failed|full"'
_OUTSIDE = f'team=~"$team", {_REPLICA}'
_ASKED = "serving_backend_requests_total"
_SENT = "serving_external_requests_total"


def backends() -> Dashboard:
    """The dashboard."""
    board = new_dashboard(
        "gpt-oss-backends",
        "gpt-oss / Backends",
        "Which other servers answer, which fail, when models of ours fall back to them, and what leaves the house.",
        replicas_of="ingress",
    )
    _at_a_glance(board)
    _asked(board)
    _away(board)
    return board


def _at_a_glance(board: Dashboard) -> None:
    board.with_row(Row("In the time range"))
    board.with_panel(
        figure(
            "Backends away",
            "Backends that no ingress replica would ask now: they do not answer, or failed so often that they are left "
            "alone for a while.",
            "GET /backends tells each one's problem. Its requests go to others that have the model, or fail.",
            "short",
            Query(f"count(max by (backend) (serving_backend_ready{{{_REPLICA}}}) == 0) or vector(0)", "away"),
            limits=Limits(1, 2),
            width=6,
        )
    )
    board.with_panel(
        figure(
            "Failed",
            "Of all times that a backend was asked, those that ended without an answer although the request was right "
            "and its client stayed.",
            "see which backend in 'By backend': if one alone, remove it until it is mended.",
            "percentunit",
            Query(
                f"({total(_ASKED, _UNANSWERED)}) / ({total(_ASKED, _REPLICA)} > 0) or vector(0)",
                "failed",
            ),
            limits=Limits(0.01, 0.05),
            width=6,
        )
    )
    board.with_panel(
        figure(
            "Fallbacks",
            "Requests to models of ours that went on to a fallback, because the model could not answer them.",
            "'Fallbacks by reason' says why; not_ready and engine_gone belong to the engines, full and deadline ask "
            "for more replicas.",
            "short",
            Query(f"{total('serving_fallbacks_total', MODEL)} or vector(0)", "fallbacks"),
            limits=Limits(1, 100),
            width=6,
        )
    )
    board.with_panel(
        figure(
            "Sent out of the house",
            "Times that a conversation was sent to a backend outside. It is yellow from the first one on.",
            "if none should leave: 'Sent outside by team' has the team; take `external` from it in the teams file. The "
            "audit log has the requests.",
            "short",
            Query(f"{total(_SENT, _OUTSIDE)} or vector(0)", "sent"),
            limits=Limits(1, 1_000_000),
            width=6,
        )
    )


def _asked(board: Dashboard) -> None:
    board.with_row(Row("Asked"))
    board.with_panel(
        graph(
            "Asked by backend",
            "Times that each backend was asked in each second; a request that is tried again counts again.",
            "one that gets much more than its like has too high a weight; one that gets none is away or left alone.",
            "reqps",
            [Query(rate(_ASKED, _REPLICA, "backend"), "{{backend}}")],
            stacked=True,
        )
    )
    board.with_panel(
        graph(
            "Asked by outcome",
            "How it ended: ok; full and failed are tried elsewhere while there is no token; refused is the request's "
            "own mistake, abandoned a client that left.",
            "full: spread the load over more backends. failed: the log names the backend and what it said.",
            "reqps",
            [Query(rate(_ASKED, _REPLICA, "outcome"), "{{outcome}}")],
            stacked=True,
        )
    )
    outcomes = ("ok", "full", "failed", "refused", "abandoned")
    board.with_panel(
        rows(
            "By backend",
            "Every backend with the number of ingress replicas for which it is ready now, and what became of asking it "
            "in the time range.",
            "ready for some replicas alone: the network between them and the backend, or a circuit breaker that opened "
            "in one of them.",
            "short",
            [
                Query(now("serving_backend_ready", _REPLICA, "backend"), "ready for"),
                *(Query(total(_ASKED, f'{_REPLICA}, outcome="{each}"', "backend"), each) for each in outcomes),
            ],
            by=("backend",),
        )
    )


def _away(board: Dashboard) -> None:
    board.with_row(Row("Instead of ours, and outside"))
    board.with_panel(
        graph(
            "Fallbacks by reason",
            "Requests that went on to the next of their model's fallbacks in each second, by why.",
            "a lasting rate means that a model of ours is away or too small, which costs latency or money.",
            "reqps",
            [Query(rate("serving_fallbacks_total", MODEL, "model, reason"), "{{model}} {{reason}}")],
            stacked=True,
        )
    )
    board.with_panel(
        graph(
            "Sent outside by team",
            "Conversations sent to backends outside the house in each second, by whose they were and where to.",
            "a team that should not be here: take `external` from it in the teams file, which works within 2 s.",
            "reqps",
            [Query(rate(_SENT, _OUTSIDE, "team, backend"), "{{team}} to {{backend}}")],
            stacked=True,
        )
    )
    board.with_panel(
        graph(
            "Ready backends",
            "For how many ingress replicas each backend is ready.",
            "a line that goes up and down: the backend is at its limit, and its circuit breaker opens again and again.",
            "short",
            [Query(now("serving_backend_ready", _REPLICA, "backend"), "{{backend}}")],
            width=24,
        )
    )
