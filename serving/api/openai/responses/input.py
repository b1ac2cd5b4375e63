"""Items of a conversation, in the form that is stored and listed, and as messages for the model.

A stored item is JSON in OpenAI's shape, with an id. Output items are stored as they were sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from serving.api.openai.responses.items import (
    AnyInputItem,
    CompactionItem,
    CustomToolCallItem,
    FunctionCallItem,
    FunctionCallOutputItem,
    LocalShellCallOutputItem,
    MessageItem,
    ReasoningItem,
    TextContent,
    text_of,
)
from serving.api.openai.responses.output import item_id
from serving.api.openai.responses.toolbox import arguments_of
from serving.api.openai.responses.tools import flat_name
from serving.api.wire.tools import SAME_ID
from serving.errors import InvalidValueError
from serving.harmony.conversation import AssistantMessage, FunctionCall, Message, ToolMessage, UserMessage

StoredItem = dict[str, Any]

_SUMMARY = (
    "Earlier parts of this conversation were replaced by this summary, which you wrote. Build on it, and do not repeat "
    "work that it says is done:"
)


def stored_item(
    item: AnyInputItem,
    token: str,
    number: int,
    *,
    opened: str | None = None,
) -> StoredItem:
    """Input item `number` of response `resp_{token}`; it keeps the id it has.

    `opened` is the text of an item that came encrypted.
    """
    name = item.id or item_id(item.type, token, number)
    head = {"id": name, "type": item.type, "status": item.status or "completed"}
    match item:
        case MessageItem(role="assistant"):
            commentary = item.phase == "commentary" or item.channel == "commentary"
            phase = {"phase": "commentary" if commentary else "final_answer"}
            return {**head, "role": "assistant", **phase, "content": _parts(item.content, "output_text")}
        case MessageItem():
            return {**head, "role": item.role, "content": _parts(item.content, "input_text")}
        case ReasoningItem():
            text = opened if opened is not None else _thought(item)
            content = [{"type": "reasoning_text", "text": text}] if text else []
            summary = [{"type": "summary_text", "text": part.text} for part in item.summary or ()]
            return {**head, "summary": summary, "content": content, "encrypted_content": item.encrypted_content}
        case FunctionCallItem():
            return {**head, **_call(item), "arguments": item.arguments}
        case CustomToolCallItem():
            return {**head, **_call(item), "input": item.input}
        case FunctionCallOutputItem():  # and CustomToolCallOutputItem
            output = item.output if isinstance(item.output, str) else _parts(item.output, "input_text")
            return {**head, "call_id": item.call_id, "output": output}
        case CompactionItem():
            summary = [{"type": "summary_text", "text": opened or ""}]
            return {**head, "encrypted_content": item.encrypted_content, "summary": summary}
        case LocalShellCallOutputItem():
            return {**head, "id": item.id or name, "call_id": item.call_id or item.id, "output": item.output}
        case _:
            return {**head, **item.model_dump(exclude_none=True, exclude={"id", "caller", "created_by"})}


def _call(item: FunctionCallItem | CustomToolCallItem) -> dict[str, Any]:
    call = {"call_id": item.call_id, "name": item.name}
    return call if item.namespace is None else {**call, "namespace": item.namespace}


def _thought(item: ReasoningItem) -> str:
    # Clients that know summaries alone send back nothing else, and ours is the analysis.
    return "".join(part.text for part in item.content or item.summary or ())


def user_item(text: str, token: str) -> StoredItem:
    """Item that a string as `input` stands for."""
    return stored_item(MessageItem(role="user", content=text), token, 0)


def _parts(content: str | list[TextContent], kind: str) -> list[dict[str, Any]]:
    texts = [content] if isinstance(content, str) else [text_of([part]) for part in content]
    extra: dict[str, Any] = {"annotations": [], "logprobs": []} if kind == "output_text" else {}
    return [{"type": kind, "text": text, **extra} for text in texts]


def instructions_of(instructions: str | None, items: Sequence[StoredItem]) -> str | None:
    """Text of the developer message: the request's own instructions, then those among the items."""
    among = [_text(item["content"]) for item in items if item.get("role") in ("system", "developer")]
    return "\n\n".join(filter(None, [instructions, *among])) or None


def messages_of(
    items: Sequence[StoredItem], *, first_new: int = 0, is_plain: Callable[[str], bool] = lambda name: False
) -> tuple[Message, ...]:
    """Messages in order. `first_new` is the index of the request's first own item, from which errors count.

    `is_plain` says of which custom tools, by the name that the model sees, calls are plain text.

    Raises InvalidValueError for an output whose call is not among the items before it, and for two calls with one id
    that wait for their output.
    """
    builder = _MessageBuilder(is_plain)
    waiting: set[str] = set()
    for number, item in enumerate(items):
        call_id = item.get("call_id")
        if call_id is not None and item["type"].endswith("_call"):
            if call_id in waiting:
                raise InvalidValueError(SAME_ID, param=f"input[{number - first_new}].call_id")
            waiting.add(call_id)
        elif call_id is not None:
            waiting.discard(call_id)
        try:
            builder.add(item)
        except KeyError as error:
            raise InvalidValueError(
                f"No function call was found for the output with call_id '{str(error.args[0])[:64]}'. Send the "
                "function_call item before it, or continue the response that made the call with previous_response_id.",
                param=f"input[{number - first_new}].call_id",
            ) from error
    return builder.messages()


class _MessageBuilder:
    """Builder of one message from the model's items in a row: thoughts, then preambles, then calls or an answer."""

    def __init__(self, is_plain: Callable[[str], bool]) -> None:
        self._is_plain = is_plain
        self._messages: list[Message] = []
        self._names: dict[str, tuple[str, str]] = {}
        self._said: AssistantMessage | None = None

    def messages(self) -> tuple[Message, ...]:
        self._flush()
        return tuple(self._messages)

    def add(self, item: StoredItem) -> None:
        """Raises KeyError for an output whose call is unknown, its id the argument."""
        match item["type"]:
            case "message" if item["role"] == "user":
                self._append(UserMessage(_text(item["content"])))
            case "message" if item["role"] == "assistant":
                self._say(item)
            case "reasoning":
                # A new thought after anything else begins a new message, so that the order stays.
                if text := _text(item["content"]):
                    self._flush()
                    self._said = AssistantMessage(reasoning=text)
            case kind if kind.endswith("_call"):
                name = flat_name(item.get("namespace"), item["name"]) if "name" in item else kind.removesuffix("_call")
                plain = kind == "custom_tool_call" and self._is_plain(name)
                self._call(FunctionCall(item["call_id"], name, arguments_of(item, plain=plain), plain), item.get("id"))
            case "compaction":
                self._append(UserMessage(f"{_SUMMARY}\n\n{_text(item['summary'])}"))
            case "message":
                pass  # of the system or developer: see instructions_of()
            case _:
                name, call_id = self._names[item["call_id"]]
                self._append(ToolMessage(name, _result(item), call_id))

    def _append(self, message: Message) -> None:
        self._flush()
        self._messages.append(message)

    def _flush(self) -> None:
        if self._said is not None:
            self._messages.append(self._said)
        self._said = None

    def _say(self, item: StoredItem) -> None:
        text = _text(item["content"])
        said = self._said
        commentary = item.get("phase") == "commentary"
        thought_only = said is not None and said.content is None and said.commentary is None and not said.tool_calls
        if said is None or not thought_only:
            self._flush()
            said = AssistantMessage()
        if commentary:
            self._said = AssistantMessage(reasoning=said.reasoning, commentary=text)
        else:
            self._said = AssistantMessage(reasoning=said.reasoning, content=text)

    def _call(self, call: FunctionCall, item_id: str | None) -> None:
        self._names[call.id] = call.name, call.id
        if item_id is not None:
            # A local shell's output may name its call's item.
            self._names.setdefault(item_id, (call.name, call.id))
        said = self._said or AssistantMessage()
        self._said = AssistantMessage(
            content=said.content,
            reasoning=said.reasoning,
            commentary=said.commentary,
            tool_calls=(*said.tool_calls, call),
        )


def _result(item: StoredItem) -> str:
    """A call's result as the model reads it."""
    match item["type"]:
        case "apply_patch_call_output":
            output = item.get("output")
            return "\n".join(
                filter(None, [None if output and item["status"] == "completed" else item["status"], output])
            )
        case "shell_call_output":
            return "\n".join(_shell_result(each) for each in item["output"])
        case _:
            return _text(item["output"])


def _shell_result(result: dict[str, Any]) -> str:
    outcome = result["outcome"]
    end = "timed out" if outcome["type"] == "timeout" else f"exit code {outcome.get('exit_code')}"
    return "\n".join(text.rstrip("\n") for text in (result["stdout"], result["stderr"], end) if text)


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)
