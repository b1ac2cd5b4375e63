"""Names of a request's tools and the choice among them, apart from any API's words for it, and tools not run here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from serving.api.wire.base_model import invalid
from serving.api.wire.reading import Reading

FUNCTION_NAME = (
    "1 to 256 letters, digits and marks of any language, with blanks between them; no control characters, no `<|`, and "
    "no word that begins with `to=`."
)
"""What serving/harmony/tools.py takes for a function's name."""


SAME_ID = "A call before this one has the same id and no result yet: a result would not say whose it is."


@dataclass(frozen=True, slots=True)
class ToolSelection:
    """Choice among tools: whether the model may, must or must not call one, and which.

    `word` is what the API calls the mode. `named` are the tools that the choice names, each with its place below
    `tool_choice`; with `hides_others` the model is told of these alone.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    word: str = "required"
    named: Sequence[tuple[str, str]] = ()
    hides_others: bool = False

    def check(self, offered: Sequence[str]) -> None:
        """Refuse a choice that cannot be kept: of a tool that is not offered, of any where there are none."""
        if self.mode == "required" and not self.named and not offered:
            raise invalid(f"'tool_choice' is '{self.word}' and there are no 'tools' to call.", at="tool_choice")
        for name, at in self.named:
            if name not in offered:
                raise invalid(f"'{name[:64]}' is not among the 'tools' of this request.", at=f"tool_choice.{at}")

    def shows(self, name: str) -> bool:
        """Whether the model is told of a tool.

        One that must not be called is not shown: the one way of keeping that promise without a grammar.
        """
        return self.mode != "none" and (not self.hides_others or any(name == named for named, _ in self.named))

    def forced(self, offered: Iterable[str]) -> tuple[str, ...]:
        """Names of the tools of which one must be called; () where none must."""
        if self.mode != "required":
            return ()
        return tuple(dict.fromkeys(name for name, _ in self.named)) or tuple(offered)


def check_distinct(names: Iterable[str], at: str = "name") -> None:
    """Refuse two tools of one name: a call would not say which. `at` is the name's place below its tool."""
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            raise invalid(f"Two tools are named '{name}'.", at=f"[{i}].{at}")
        seen.add(name)


def without_tools_not_run(
    body: dict[str, Any], reading: Reading, runs: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Return a request's body without the tools that neither this server nor the client runs, as `runs` tells.

    They are left out beside others of which the model may choose, and noted. Alone, forced, or in a strict reading they
    stay, and the body's model refuses them.
    """
    tools = body.get("tools")
    if not isinstance(tools, list) or reading.strict or not _may_choose(body.get("tool_choice")):
        return body
    kept = [i for i, tool in enumerate(tools) if not _is_of_a_kind(tool) or runs(tool)]
    if not kept or len(kept) == len(tools):
        return body
    left_out = (tool["type"] for tool in tools if _is_of_a_kind(tool) and not runs(tool))
    reading.leave_out_tools(left_out, kept)
    return {**body, "tools": [tools[i] for i in kept]}


def _is_of_a_kind(tool: Any) -> bool:
    """Whether a tool says its type; others are mistakes, which are told when the request is checked."""
    return isinstance(tool, dict) and isinstance(tool.get("type"), str)


def _may_choose(choice: Any) -> bool:
    """Whether the model need not call a tool, in the words of any API."""
    if isinstance(choice, dict):
        allowed = choice.get("allowed_tools")
        choice = (allowed if isinstance(allowed, dict) else choice).get("mode", choice.get("type"))
    return choice in (None, "auto", "none")
