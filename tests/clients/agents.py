"""Coding agents: how each is started with the page's configuration, and how what it says is read."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.clients.harness import CLIENTS, NODE_BIN, Ended, configuration, environment, run

COMMAND = "echo marmot"


class Agent(ABC):
    """A coding agent in an empty project, with a home of its own."""

    title: str
    api: str
    tool: str
    """The function that runs a command in a shell."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.home = folder / "home"
        self.project = folder / "project"
        self.project.mkdir(parents=True)

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the call that runs COMMAND."""
        return {"command": COMMAND, "description": "Print a word"}

    @abstractmethod
    def ask(self, question: str) -> Ended:
        """Ask one question without a terminal, and wait for the end."""

    @abstractmethod
    def said(self, ended: Ended) -> list[str]:
        """Texts that the agent showed, in order."""

    def _run_after_exports(self, program: Path, *arguments: str) -> Ended:
        """Run a program in the shell that has read the page's variables."""
        exports = self.project.parent / "exports.sh"
        exports.write_text(configuration(self.title, "sh", self.url), encoding="utf-8")
        command: list[str | Path] = ["/bin/bash", "-c", 'source "$0" && exec "$@"', exports, program, *arguments]
        return run(command, environment(self.home), self.project)


class Codex(Agent):
    title, api, tool = "OpenAI Codex CLI", "responses", "exec_command"

    @property
    def arguments(self) -> dict[str, Any]:
        return {"cmd": COMMAND}

    def ask(self, question: str) -> Ended:
        config = self.home / ".codex" / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(configuration(self.title, "toml", self.url), encoding="utf-8")
        # Its sandbox needs user namespaces, which a container may not have.
        options = ["--skip-git-repo-check", "--sandbox", "danger-full-access", "--json"]
        command: list[str | Path] = [NODE_BIN / "codex", "exec", *options, question]
        return run(command, environment(self.home), self.project)

    def said(self, ended: Ended) -> list[str]:
        items = [event["item"] for event in _events(ended) if event["type"] == "item.completed"]
        errors = [event["error"]["message"] for event in _events(ended) if event["type"] == "turn.failed"]
        return [item["text"] for item in items if item["type"] in ("agent_message", "reasoning")] + errors


class ClaudeCode(Agent):
    title, api, tool = "Claude Code", "messages", "Bash"

    def ask(self, question: str) -> Ended:
        options = [
            "--allowedTools",
            "Bash",
            "--output-format",
            "stream-json",
            "--include-partial-messages",
            "--verbose",
        ]
        return self._run_after_exports(NODE_BIN / "claude", "-p", question, *options)

    def said(self, ended: Ended) -> list[str]:
        deltas = [
            event["event"].get("delta", {}).get("text")
            for event in _events(ended)
            if event["type"] == "stream_event" and event["event"]["type"] == "content_block_delta"
        ]
        return [delta for delta in deltas if delta] + [
            event["result"] for event in _events(ended) if event["type"] == "result"
        ]


class OpenCode(Agent):
    title, api, tool = "opencode", "chat", "bash"
    provider = "in-house"

    def ask(self, question: str) -> Ended:
        config = configuration(self.title, "json", self.url)
        (self.project / "opencode.json").write_text(config, encoding="utf-8")
        program = NODE_BIN.parent / "opencode-linux-x64-baseline" / "bin" / "opencode"
        options = ["--model", f"{self.provider}/demo", "--format", "json", "--thinking"]
        # A catalogue of models and a search tool would be downloaded.
        env = environment(self.home, OPENCODE_DISABLE_MODELS_FETCH="1", OPENCODE_DISABLE_LSP_DOWNLOAD="1")
        command: list[str | Path] = [program, "run", *options, question]
        return run(command, env, self.project)

    def said(self, ended: Ended) -> list[str]:
        texts = [event["part"]["text"] for event in _events(ended) if event["type"] in ("text", "reasoning")]
        return texts + [json.dumps(event["error"]) for event in _events(ended) if event["type"] == "error"]


class OpenCodeOnResponses(OpenCode):
    api, provider = "responses", "in-house-responses"


class Aider(Agent):
    title, api, tool = "aider", "chat", ""

    def ask(self, question: str) -> Ended:
        options = ["--no-git", "--yes-always", "--no-check-update", "--analytics-disable", "--no-show-model-warnings"]
        options += ["--no-pretty", "--no-show-release-notes", "--edit-format", "whole", "--message", question]
        return self._run_after_exports(CLIENTS / "aider" / "bin" / "aider", *options, "marmot.txt")

    def said(self, ended: Ended) -> list[str]:
        return [ended.out]


def _events(ended: Ended) -> Iterator[dict[str, Any]]:
    for line in ended.out.splitlines():
        if line.startswith("{"):
            yield json.loads(line)
