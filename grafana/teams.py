"""Teams: who uses what, who is refused, and who is about to be."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row

from grafana.layout import new_dashboard
from grafana.panels import TOKENS_S, Query, graph, rows
from grafana.queries import FAULTS, REQUEST, now, quantile, rate, total


def teams() -> Dashboard:
    """The dashboard."""
    board = new_dashboard(
        "gpt-oss-teams",
        "gpt-oss / Teams",
        "What each team uses, where it stands to its limits, and what it was refused.",
        replicas_of="ingress",
    )
    _usage(board)
    _limits(board)
    _service(board)
    _batches(board)
    return board


def _usage(board: Dashboard) -> None:
    board.with_row(Row("Usage"))
    channels = (
        ("prompt", "prompt"),
        ("cached", "cached"),
        ("analysis", "analysis"),
        ("commentary|final|tool|structure", "answer"),
    )
    board.with_panel(
        rows(
            "Tokens in the time range",
            "Tokens of answered requests by team. prompt is without what the prefix cache held.",
            "a team far above its usual: ask it before its budget ends. `serving usage` has the figures by day.",
            "short",
            [Query(total("serving_requests_total", f'{REQUEST}, outcome="ok"', "team"), "answers")]
            + [
                Query(total("serving_tokens_total", f'{REQUEST}, channel=~"{c}"', "team"), name) for c, name in channels
            ],
            by=("team",),
        )
    )
    board.with_panel(
        graph(
            "Requests by team",
            "Requests that ended in each second.",
            "one team rising steeply: see that its limits hold ('Limits used') and that the others' first "
            "tokens do not suffer.",
            "reqps",
            [Query(rate("serving_requests_total", REQUEST, "team"), "{{team}}")],
            stacked=True,
        )
    )
    board.with_panel(
        graph(
            "Generated tokens by team",
            "Tokens generated for each team in each second, reasoning included.",
            "a share that does not follow the weights in the teams file while requests are queued: check the weights.",
            TOKENS_S,
            [
                Query(
                    rate("serving_tokens_total", f'{REQUEST}, channel!~"prompt|cached"', "team"),
                    "{{team}}",
                )
            ],
            stacked=True,
        )
    )
    board.with_panel(
        graph(
            "Effort mix",
            "Answers by the reasoning effort that was used.",
            "much high effort where answers are short: agree on a lower default with the team.",
            "reqps",
            [Query(rate("serving_requests_total", f'{REQUEST}, outcome="ok"', "effort"), "{{effort}}")],
            percent=True,
        )
    )
    board.with_panel(
        graph(
            "Effort changed",
            "Requests answered with another effort than they asked for, by policy or because of load.",
            "steady lowering means too little capacity for what teams ask: add replicas, or agree on lower defaults.",
            "reqps",
            [
                Query(
                    rate("serving_effort_changes_total", REQUEST, "team, asked, used"),
                    "{{team}}: {{asked}} to {{used}}",
                )
            ],
        )
    )


def _limits(board: Dashboard) -> None:
    board.with_row(Row("Limits"))
    board.with_panel(
        graph(
            "Limits used",
            "How much of each limit a team uses now; at 1 it is refused.",
            "a team that stays near 1 needs a higher limit or a lower pace. The alert TeamRefused tells when it "
            "is hurt.",
            "percentunit",
            [
                Query(
                    'max by (team, limit) (serving_limit_used_ratio{team=~"$team", replica=~"$replica"})',
                    "{{team}} {{limit}}",
                )
            ],
        )
    )
    board.with_panel(
        graph(
            "Refusals",
            "Requests refused, by team and reason.",
            "limits belong to the team; queue_full and deadline to us; authentication may be an old key after a "
            "rotation.",
            "reqps",
            [Query(rate("serving_rejections_total", REQUEST, "team, reason"), "{{team}} {{reason}}")],
        )
    )
    board.with_panel(
        rows(
            "Keys that end",
            "Time left for each key that has an end.",
            "make a new key with `serving keys new TEAM`, give it to the team, and let both live until it has moved.",
            "s",
            [
                Query(
                    "min by (team, key) (serving_key_expiry_timestamp_seconds"
                    '{team=~"$team", replica=~"$replica"} - time())',
                    "left",
                )
            ],
            by=("team", "key"),
            width=12,
        )
    )
    board.with_panel(
        graph(
            "In flight and queued by team",
            "Requests under way and waiting, by team.",
            "one team with a long queue waits behind itself; several mean that we are full (Engines).",
            "short",
            [
                Query(now("serving_requests_in_flight", REQUEST, "team"), "{{team}} in flight"),
                Query(now("serving_requests_queued", REQUEST, "team"), "{{team}} queued"),
            ],
        )
    )


def _batches(board: Dashboard) -> None:
    board.with_row(Row("Batches"))
    board.with_panel(
        graph(
            "Lines of batches",
            "Lines that wait for an idle slot or are being answered, by team.",
            "lines that wait for hours while slots are idle: see the alert BatchStandsStill.",
            "short",
            [
                Query(
                    'sum by (team, state) (serving_batch_lines_unanswered{team=~"$team", replica=~"$replica"})',
                    "{{team}} {{state}}",
                )
            ],
        )
    )
    board.with_panel(
        graph(
            "Lines answered",
            "Lines of batches that got their result in each second, by its kind.",
            "many failed ones: the batch's error file has the reason of each.",
            "reqps",
            [
                Query(
                    "sum by (team, outcome) (rate(serving_batch_lines_total"
                    '{team=~"$team", replica=~"$replica"}[$__rate_interval]))',
                    "{{team}} {{outcome}}",
                )
            ],
        )
    )
    board.with_panel(
        rows(
            "Batches over in the time range",
            "Batches that are over, by team and by how.",
            "expired ones: there was too little idle time in their window; failed ones: their file could not be read.",
            "short",
            [
                Query(
                    "sum by (team, status) (increase(serving_batches_finished_total"
                    '{team=~"$team", replica=~"$replica"}[$__range]))',
                    "batches",
                )
            ],
            by=("team", "status"),
            width=12,
        )
    )


def _service(board: Dashboard) -> None:
    board.with_row(Row("Service"))
    board.with_panel(
        graph(
            "First token by team, p95",
            "Time from arrival to the first token, for 95 % of each team's streams.",
            "one team alone: it waits for its own requests or sends long prompts. All teams: see Overview.",
            "s",
            [Query(quantile(0.95, "serving_time_to_first_token_seconds", REQUEST, "team"), "{{team}}")],
        )
    )
    board.with_panel(
        graph(
            "Wait for admission by team, p95",
            "Time a request waited before an engine was asked.",
            "a wait without a queue_full or deadline refusal is fair sharing at work; with them, add replicas.",
            "s",
            [Query(quantile(0.95, "serving_queue_time_seconds", REQUEST, "team"), "{{team}}")],
        )
    )
    board.with_panel(
        graph(
            "Our failures by team",
            "Requests that failed for reasons of ours.",
            "a single team: its requests may do something others' do not; look for its request ids in the log.",
            "reqps",
            [
                Query(
                    rate("serving_requests_total", f'{REQUEST}, outcome=~"{FAULTS}"', "team, outcome"),
                    "{{team}} {{outcome}}",
                )
            ],
        )
    )
    board.with_panel(
        graph(
            "Clients' own mistakes by team",
            "Requests refused for what they say: wrong fields, unknown models, missing rights.",
            "after a client's update: send the team the error it gets, which names the field and the fix.",
            "reqps",
            [
                Query(
                    rate(
                        "serving_requests_total",
                        f'{REQUEST}, outcome=~"invalid_request|not_found|forbidden|too_large"',
                        "team, outcome",
                    ),
                    "{{team}} {{outcome}}",
                )
            ],
        )
    )
    board.with_panel(
        graph(
            "Fields that were ignored",
            "Fields of requests in each second that this server does not know and has left out, by their path.",
            "a field that a team counts on: its reply names it in x-ignored-parameters. http.unknown_fields: refuse "
            "makes it a 400.",
            "ops",
            [
                Query(
                    rate("serving_ignored_parameters_total", 'replica=~"$replica"', "api, parameter"),
                    "{{api}} {{parameter}}",
                )
            ],
            width=24,
        )
    )
