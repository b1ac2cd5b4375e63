from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from serving.errors import BenchError, SettingsError
from serving_bench.options import Options, check_writable, plan
from serving_bench.runner import Load
from serving_bench.workload import LONG_QUESTION

URL = "http://127.0.0.1:8000"


def options(**fields: Any) -> Options:
    return Options(**{"url": URL, "model": "demo", **fields})


def problem(**fields: Any) -> tuple[str, str]:
    with pytest.raises(SettingsError) as raised:
        plan(options(**fields), {})
    ((field, words),) = raised.value.problems
    return field, words


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        ("https://models.example.com", "https://models.example.com:443/v1"),
        ("http://[::1]:8000/api/v3", "http://[::1]:8000/api/v3"),
    ],
)
def test_a_base_url_may_be_short(url: str, base: str) -> None:
    (server,) = plan(options(url=url), {}).servers
    assert server.target.url == base


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://x:0", "http://x:99999", "http://x/v1?a=1"])
def test_a_wrong_url_is_named(url: str) -> None:
    assert problem(url=url)[0] == "URL"


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    field, words = problem(against=["http://me:hunter2@127.0.0.1"])
    assert field == "--against"
    assert "hunter2" not in words


class TestLoads:
    def test_thirty_seconds_of_32_streams_unless_told_otherwise(self) -> None:
        assert plan(options(), {}).loads == [Load(concurrency=32, seconds=30.0)]

    def test_several_levels(self) -> None:
        loads = plan(options(concurrency="1,8, 32", requests=5), {}).loads
        assert loads == [Load(concurrency=streams, requests=5) for streams in (1, 8, 32)]

    def test_a_comparison_repeats_requests_in_six_rounds(self) -> None:
        made = plan(options(concurrency="1,32", against=[URL]), {})
        assert made.loads == [Load(concurrency=1, requests=16), Load(concurrency=32, requests=64)]
        assert made.rounds == 6
        assert plan(options(against=[URL], duration=5.0), {}).loads == [Load(concurrency=32, seconds=5.0)]

    def test_a_ramp_ends_with_itself(self) -> None:
        (load,) = plan(options(ramp="1:20:60"), {}).loads
        assert (str(load.ramp), load.seconds) == ("1:20:60", 60)
        (longer,) = plan(options(ramp="1:20:60", duration=90.0), {}).loads
        assert longer.seconds == 90

    def test_a_rate_against_another_server_has_an_end(self) -> None:
        (load,) = plan(options(rate=5.0, against=[URL]), {}).loads
        assert load.seconds == 30

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"rate": 5.0, "ramp": "1:2:3"}, "--ramp"),
            ({"concurrency": "1", "rate": 5.0}, "--rate"),
            ({"concurrency": "0"}, "--concurrency"),
            ({"concurrency": "1,,2"}, "--concurrency"),
            ({"rate": 0.0}, "--rate"),
            ({"rate": float("nan")}, "--rate"),
            ({"duration": -1.0}, "--duration"),
            ({"timeout": 0.0}, "--timeout"),
            ({"shared_prefix": 0.5}, "--shared-prefix"),
            ({"api": "completions", "effort": "low"}, "--effort"),
            ({"api": "completions", "tools": 0.5}, "--tools"),
            ({"against_model": "x"}, "--against-model"),
            ({"against_api_key_env": "X"}, "--against-api-key-env"),
        ],
    )
    def test_what_does_not_go_together_is_named(self, fields: dict[str, Any], field: str) -> None:
        assert problem(**fields)[0] == field


class TestCompare:
    """Words as click hands them over: the first one that is no flag's is the URL."""

    @pytest.mark.parametrize(
        "fields",
        [
            {"url": "http://127.0.0.1:8000", "compare": ["local:demo"], "models": ["other:demo", "ollama:gpt-oss:20b"]},
            {"url": "other:demo", "compare": ["local:demo"], "models": ["ollama:gpt-oss:20b"]},
            {"url": None, "compare": ["local:demo", "other:demo", "ollama:gpt-oss:20b"]},
        ],
    )
    def test_models_of_one_server_in_the_order_given(self, fields: dict[str, Any]) -> None:
        made = plan(Options(**fields, api_key_env="K"), {"K": "sk-1"})
        assert [server.model for server in made.servers] == ["local:demo", "other:demo", "ollama:gpt-oss:20b"]
        assert {(server.target.url, server.key) for server in made.servers} == {("http://127.0.0.1:8000/v1", "sk-1")}
        assert (made.compare, made.rounds, made.measure_cpu) == (True, 6, False)

    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"compare": ["a"]}, "--compare"),
            ({"compare": ["a"], "models": ["a"]}, "--compare"),
            ({"compare": ["a"], "models": ["b", "http://127.0.0.1:8000"]}, "--compare"),
            ({"compare": ["a", "b"], "against": [URL]}, "--against"),
            ({"compare": ["a", "b"], "model": "c"}, "--model"),
            ({"compare": ["a", "b"], "cpu_roles": ["x=y"]}, "--cpu-roles"),
            ({"models": ["b"], "model": "demo"}, "b"),
            ({"url": None}, "URL"),
        ],
    )
    def test_what_does_not_go_together_is_named(self, fields: dict[str, Any], field: str) -> None:
        assert problem(**{"model": None, **fields})[0] == field


class TestQuestions:
    def test_counting_unless_told_otherwise(self) -> None:
        assert plan(options(), {}).workload.questions == [LONG_QUESTION]

    def test_from_flags_and_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "questions.txt"
        file.write_text("One?\n\nTwo?\n", encoding="utf-8")
        made = plan(options(question=["Zero?"], questions=file), {})
        assert made.workload.questions == ["Zero?", "One?", "Two?"]

    def test_a_file_that_is_not_there_or_empty(self, tmp_path: Path) -> None:
        assert problem(questions=tmp_path / "none")[0] == "--questions"
        (tmp_path / "empty").write_text("\n")
        assert "one question a line" in problem(questions=tmp_path / "empty")[1]


class TestKeys:
    def test_a_key_comes_from_the_environment_and_goes_to_its_own_server_alone(self) -> None:
        made = plan(options(api_key_env="MY_KEY", against=[URL]), {"MY_KEY": "sk-1"})
        assert [server.key for server in made.servers] == ["sk-1", None]
        both = options(api_key_env="MY_KEY", against=[URL], against_api_key_env="OTHER")
        assert [server.key for server in plan(both, {"MY_KEY": "sk-1", "OTHER": "sk-2"}).servers] == ["sk-1", "sk-2"]

    def test_an_unset_variable_is_named(self) -> None:
        assert "MY_KEY is not set" in problem(api_key_env="MY_KEY")[1]

    def test_a_key_in_place_of_a_name_is_not_shown(self) -> None:
        assert "sk-abc" not in str(problem(api_key_env="sk-abc"))
        assert "sk_abc" not in str(problem(api_key_env="sk_abc"))


class TestModels:
    @pytest.fixture
    def replies(self) -> Iterator[dict[str, Any]]:
        """A server of GET /v1/models: what it answers, and what it was sent."""
        state: dict[str, Any] = {"status": 200, "body": {"data": [{"id": "gpt-oss-20b"}, {"id": "other"}]}}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                state["asked"] = (self.path, self.headers.get("authorization"))
                self.send_response(state["status"])
                self.end_headers()
                self.wfile.write(json.dumps(state["body"]).encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        state["url"] = f"http://127.0.0.1:{server.server_port}"
        yield state
        server.shutdown()
        thread.join()
        server.server_close()

    def test_the_first_is_taken(self, replies: dict[str, Any]) -> None:
        made = plan(Options(url=replies["url"], api_key_env="K"), {"K": "sk-1"})
        assert made.servers[0].model == "gpt-oss-20b"
        assert replies["asked"] == ("/v1/models", "Bearer sk-1")

    @pytest.mark.parametrize(
        ("status", "body", "words"),
        [
            (401, {}, "--api-key-env"),
            (404, {"error": {"message": "no such route"}}, "404: no such route"),
            (200, {"data": []}, "--model"),
            (200, [1], "--model"),
        ],
    )
    def test_a_server_that_does_not_tell(self, replies: dict[str, Any], status: int, body: Any, words: str) -> None:
        replies.update(status=status, body=body)
        with pytest.raises(BenchError, match=words):
            plan(Options(url=replies["url"]), {})

    def test_a_named_model_asks_nobody(self) -> None:
        made = plan(options(url="http://192.0.2.1", against=["http://192.0.2.2"], against_model="theirs"), {})
        assert [server.model for server in made.servers] == ["demo", "theirs"]

    def test_nobody_there(self) -> None:
        with pytest.raises(BenchError, match=r"does not answer.*Is the server up"):
            plan(Options(url="http://127.0.0.1:1"), {})


def test_a_file_that_cannot_be_written_is_told_before_measuring(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.json", "--json")
    check_writable(Path("-"), "--json")
    for path in (tmp_path, tmp_path / "none" / "x.json"):
        with pytest.raises(SettingsError, match="--json"):
            check_writable(path, "--json")
