"""Output items of a generation, one after the other, as they grow."""

from __future__ import annotations

from serving.api.openai.logprobs import shown_logprobs
from serving.api.openai.responses.custom_input import CustomInput
from serving.api.openai.responses.events import OutputSink
from serving.api.openai.responses.response import (
    ItemStatus,
    Logprob,
    MessageOutput,
    OutputItem,
    OutputText,
    ReasoningOutput,
    ReasoningText,
    SummaryText,
)
from serving.api.openai.responses.toolbox import Toolbox, close_call
from serving.generation.types import (
    ChatEvent,
    ChoiceFinished,
    GenerationFinished,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDelta,
    Usage,
)
from serving.harmony.channels import Channel
from serving.sealing import Seal


def item_id(kind: str, token: str, number: int) -> str:
    """The id of item `number` (input first, then output) of response `resp_{token}`.

    The id has the response's token in it, so that an item can be found by its id alone (response_of_item). `kind` is
    the item's type.
    """
    return f"{_PREFIXES[kind]}_{token}_{number}"


_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "apply_patch_call": "apc",
    "apply_patch_call_output": "apco",
    "local_shell_call": "lsh",
    "local_shell_call_output": "lsho",
    "shell_call": "sh",
    "shell_call_output": "sho",
    "compaction": "cmp",
}


def response_of_item(name: str) -> str | None:
    """Id of the response that an item's id belongs to; None for an id that is not ours."""
    parts = name.split("_")
    return f"resp_{parts[1]}" if len(parts) == 3 and parts[0] in _PREFIXES.values() else None


Cuts = tuple[list[int], list[int]]
"""The deltas of an item: of each the characters, and of each the log probabilities."""


class OutputBuilder:
    """Builder of items from events; it tells `sink` of each as it opens, grows and closes.

    A message of the model is an item; a delta that `opens` begins the next. `cuts` says how each item's text came.
    Calls become items of their tools' types, which `toolbox` knows. Reasoning is repeated as its summary if it
    `summarizes`, and encrypted with `seal`.
    """

    def __init__(
        self,
        sink: OutputSink,
        token: str,
        first_number: int,
        *,
        toolbox: Toolbox | None = None,
        summarizes: bool = False,
        seal: Seal | None = None,
    ) -> None:
        self.items: list[OutputItem] = []
        self.cuts: list[Cuts] = []
        self.finish_reason: str | None = None
        self.reasoning_truncated = False
        self.usage: Usage | None = None
        self._sink = sink
        self._token = token
        self._first_number = first_number
        self._toolbox = toolbox or Toolbox(None)
        self._custom: CustomInput | None = None
        self._summarizes = summarizes
        self._seal = seal
        self._open: OutputItem | None = None
        self._channel: Channel | None = None
        self._texts: list[str] = []
        self._logprobs: list[Logprob] = []
        self._cuts: Cuts = ([], [])

    def add(self, event: ChatEvent) -> None:
        """Take the next event of the generation's one choice."""
        if isinstance(event, TextDelta):
            if event.opens or event.channel != self._channel:
                kind = "reasoning" if event.channel == "analysis" else "message"
                self._begin(_text_item(event.channel, self._next_id(kind)), event.channel)
            self._grow(event.text, [] if event.channel == "analysis" else shown_logprobs(event.logprobs or ()))
        elif isinstance(event, ToolArgumentsDelta):
            self._grow_call(event.text)
        elif isinstance(event, ToolCallDelta):
            self._begin_call(event)
        elif isinstance(event, ChoiceFinished):
            self.finish_reason = event.finish_reason
            self.reasoning_truncated = event.reasoning_truncated
            self.end("incomplete" if event.finish_reason == "length" else "completed")
        elif isinstance(event, GenerationFinished):
            self.usage = event.usage

    @property
    def grown(self) -> int:
        """A number that grows with each piece of the answer."""
        return len(self.items) + len(self._texts) + sum(len(lengths) for lengths, _ in self.cuts)

    def so_far(self) -> tuple[list[OutputItem], list[Cuts]]:
        """Items and cuts as they are now; the open item has its text so far."""
        if self._open is None:
            return list(self.items), list(self.cuts)
        item = self._open.copy()
        text = "".join(self._texts)
        if item["type"] == "message":
            item["content"] = [OutputText(type="output_text", text=text, annotations=[], logprobs=[*self._logprobs])]
        elif item["type"] == "reasoning":
            item["content"] = [ReasoningText(type="reasoning_text", text=text)]
        elif item["type"] in ("function_call", "custom_tool_call"):
            close_call(item, text)
        lengths, counts = self._cuts
        return [*self.items, item], [*self.cuts, ([*lengths], [*counts])]

    def end(self, status: ItemStatus) -> None:
        """Close the item that is open, if one is."""
        item = self._open
        if item is None:
            return
        if self._custom is not None and (rest := self._custom.end()):
            self._grow(rest, [])
        item["status"] = status
        text = "".join(self._texts)
        if item["type"] == "message":
            item["content"] = [OutputText(type="output_text", text=text, annotations=[], logprobs=self._logprobs)]
        elif item["type"] == "reasoning":
            item["content"] = [ReasoningText(type="reasoning_text", text=text)]
            item["summary"] = [SummaryText(type="summary_text", text=text)] if self._summarizes else []
            item["encrypted_content"] = None if self._seal is None else self._seal.close(text)
        else:
            close_call(item, text)
        self.items.append(item)
        self.cuts.append(self._cuts)
        self._open = self._channel = None
        self._sink.close(item)

    def _next_id(self, kind: str) -> str:
        return item_id(kind, self._token, self._first_number + len(self.items) + (self._open is not None))

    def _begin(self, item: OutputItem, channel: Channel | None) -> None:
        self.end("completed")
        self._open, self._channel, self._custom = item, channel, None
        self._texts, self._logprobs, self._cuts = [], [], ([], [])
        self._sink.open(len(self.items), item)

    def _begin_call(self, event: ToolCallDelta) -> None:
        # The item's type is part of its id.
        item = self._toolbox.opened(event.name, event.id, "")
        item["id"] = self._next_id(item["type"])
        self._begin(item, None)
        if item["type"] == "custom_tool_call":
            self._custom = CustomInput(plain=self._toolbox.is_plain(event.name))

    def _grow_call(self, text: str) -> None:
        if self._custom is not None:
            text = self._custom.feed(text)
        elif self._open is None or self._open["type"] != "function_call":
            self._texts.append(text)  # shown once it is complete
            return
        if text:
            self._grow(text, [])

    def _grow(self, text: str, logprobs: list[Logprob]) -> None:
        self._texts.append(text)
        self._logprobs += logprobs
        self._cuts[0].append(len(text))
        self._cuts[1].append(len(logprobs))
        self._sink.delta(text, logprobs)


def _text_item(channel: Channel, name: str) -> MessageOutput | ReasoningOutput:
    if channel == "analysis":
        return ReasoningOutput(
            id=name, type="reasoning", status="in_progress", summary=[], content=[], encrypted_content=None
        )
    return MessageOutput(
        id=name,
        type="message",
        status="in_progress",
        role="assistant",
        phase="final_answer" if channel == "final" else "commentary",
        channel=channel,
        content=[],
    )
