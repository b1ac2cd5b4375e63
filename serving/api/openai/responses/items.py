"""Items of a Responses conversation, as clients send them; one model for each type.

Source: OpenAI's API reference (ResponseInputItem). Every field of our own replies is accepted back, and so
are those that OpenAI's client adds. Null means absent.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BeforeValidator, Discriminator, FailFast, Field, StringConstraints, Tag, model_validator
from typing_extensions import TypeAliasType

from serving.api.wire.base_model import WireModel, invalid, only, unsupported
from serving.api.wire.field_rules import Place
from serving.api.wire.left_out import left_out

ItemStatus = Literal["in_progress", "completed", "incomplete"]
_NonEmpty = Annotated[str, StringConstraints(min_length=1)]
_ItemId = Annotated[str, StringConstraints(min_length=1, max_length=256)]

_TEXT_TYPES = ("input_text", "output_text", "text", "refusal")
_MEDIA = {"input_image": "images", "input_file": "files", "input_audio": "audio"}
_DIRECT = only({"type": "direct"}, because="Calls come from the model itself here; leave it out.")


class TextContent(WireModel):
    """Text in a message or a function's output; which of the types it says makes no difference."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["input_text", "output_text", "text", "refusal"]
    text: str | None = None
    refusal: str | None = None

    @classmethod
    def refuse(cls, data: dict[str, Any]) -> None:
        """Refuse media by their type, before their fields are looked at."""
        kind = data.get("type")
        if isinstance(kind, str) and kind in _MEDIA:
            raise unsupported(
                f"Its type is '{kind}', and gpt-oss takes no {_MEDIA[kind]}: send its text as input_text."
            )

    @model_validator(mode="after")
    def _holds_its_text(self) -> TextContent:
        field = "refusal" if self.type == "refusal" else "text"
        if getattr(self, field) is None:
            raise invalid(
                f"Missing required parameter: a part of type '{self.type}' needs '{field}'.",
                at=field,
                code="missing_required_parameter",
            )
        return self


def _shape(value: Any) -> str | None:
    return "<text>" if isinstance(value, str) else "<parts>" if isinstance(value, list) else None


# A named alias, because a union takes hashable members and FailFast has no hash.
TextContents = TypeAliasType("TextContents", Annotated[list[TextContent], FailFast()])
Text = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[TextContents, Tag("<parts>")],
    Discriminator(_shape, custom_error_type="expected", custom_error_message="a string or an array of text parts"),
]


def _results_in_text(value: Any) -> Any:
    """An output with words in place of media: refusing them would end an agent's thread."""
    if not isinstance(value, list):
        return value
    return [
        {"type": "input_text", "text": left_out(part["type"])}
        if isinstance(part, dict) and isinstance(part.get("type"), str) and part["type"] not in _TEXT_TYPES
        else part
        for part in value
    ]


ResultText = Annotated[Text, BeforeValidator(_results_in_text)]


class MessageItem(WireModel):
    """A message. `phase` and `channel` tell a preamble of the model from its answer."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["message"] = "message"
    role: Literal["user", "system", "developer", "assistant"]
    content: Text
    id: _ItemId | None = None
    status: ItemStatus | None = None
    phase: Literal["commentary", "final_answer"] | None = None
    channel: Literal["commentary", "final"] | None = Field(None, description="Ours; says the same as `phase`.")


class SummaryPart(WireModel):
    """A part of a reasoning item's summary."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["summary_text"]
    text: str


class ReasoningPart(WireModel):
    """A part of the analysis."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["reasoning_text", "text"]
    text: str


class ReasoningItem(WireModel):
    """Thoughts of the model, which are shown to it again while a tool loop runs.

    Of its forms the first that is there counts: encrypted_content, content, summary.
    """

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["reasoning"]
    id: _ItemId | None = None
    summary: Annotated[list[SummaryPart] | None, FailFast()] = None
    content: Annotated[list[ReasoningPart] | None, FailFast()] = None
    encrypted_content: str | None = Field(None, description="As this server gave it, to the same team and model.")
    status: ItemStatus | None = None


class FunctionCallItem(WireModel):
    """A call the model made, `arguments` as it wrote them."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["function_call"]
    call_id: _NonEmpty
    name: _NonEmpty
    arguments: str
    id: _ItemId | None = None
    status: ItemStatus | None = None
    caller: Annotated[dict[str, Any] | None, _DIRECT] = None
    namespace: _NonEmpty | None = None


class FunctionCallOutputItem(WireModel):
    """Result of a call."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["function_call_output"]
    call_id: _NonEmpty
    output: ResultText
    id: _ItemId | None = None
    status: ItemStatus | None = None
    name: str | None = Field(None, description="Ignored: the call's id decides.")
    caller: Annotated[dict[str, Any] | None, _DIRECT] = None
    namespace: str | None = Field(None, description="Ignored: the call's id decides.")


class CustomToolCallItem(WireModel):
    """A call of a custom tool that the model made."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["custom_tool_call"]
    call_id: _NonEmpty
    name: _NonEmpty
    input: str
    id: _ItemId | None = None
    status: ItemStatus | None = None
    caller: Annotated[dict[str, Any] | None, _DIRECT] = None
    namespace: _NonEmpty | None = None


class CustomToolCallOutputItem(FunctionCallOutputItem):
    """Result of a custom tool's call."""

    type: Literal["custom_tool_call_output"]  # type: ignore[assignment]  # a kind of its own with the same fields


class PatchOperation(WireModel):
    """A change of one file."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["create_file", "update_file", "delete_file"]
    path: str
    diff: str | None = None


class ApplyPatchCallItem(WireModel):
    """A change of a file that the model asked for."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["apply_patch_call"]
    call_id: _NonEmpty
    operation: PatchOperation
    id: _ItemId | None = None
    status: ItemStatus | None = None
    caller: Annotated[dict[str, Any] | None, _DIRECT] = None


class ApplyPatchCallOutputItem(WireModel):
    """Result of a change; `output` is shown to the model."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["apply_patch_call_output"]
    call_id: _NonEmpty
    status: Literal["completed", "failed"]
    output: str | None = None
    id: _ItemId | None = None
    caller: Annotated[dict[str, Any] | None, _DIRECT] = None


class LocalShellAction(WireModel):
    """A command."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["exec"] = "exec"
    command: list[str]
    env: dict[str, str] | None = Field(None, description="Ignored: the model gives none.")
    timeout_ms: int | None = None
    user: str | None = Field(None, description="Ignored: the model gives none.")
    working_directory: str | None = None


class LocalShellCallItem(WireModel):
    """A command that the model asked for."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["local_shell_call"]
    call_id: _NonEmpty
    action: LocalShellAction
    id: _ItemId | None = None
    status: ItemStatus | None = None


class LocalShellCallOutputItem(WireModel):
    """Result of a command; `id` is the call's."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["local_shell_call_output"]
    output: str
    id: _ItemId | None = None
    call_id: _ItemId | None = Field(None, description="The call's id, where `id` is the item's own.")
    status: ItemStatus | None = None

    @model_validator(mode="after")
    def _names_its_call(self) -> LocalShellCallOutputItem:
        if self.id is None and self.call_id is None:
            raise invalid("It needs the call's id as 'id'.", at="id", code="missing_required_parameter")
        return self


class ShellAction(WireModel):
    """Commands."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    commands: list[str]
    timeout_ms: int | None = None
    max_output_length: int | None = None


class ShellCallItem(WireModel):
    """Commands that the model asked for."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["shell_call"]
    call_id: _NonEmpty
    action: ShellAction
    environment: dict[str, Any] | None = Field(None, description="Ignored: the client ran them.")
    id: _ItemId | None = None
    status: ItemStatus | None = None
    caller: Annotated[dict[str, Any] | None, _DIRECT] = None


class ShellOutcome(WireModel):
    """End of a command."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["exit", "timeout"]
    exit_code: int | None = None


class ShellOutput(WireModel):
    """What a command wrote."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    stdout: str
    stderr: str
    outcome: ShellOutcome


class ShellCallOutputItem(WireModel):
    """Results of commands."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["shell_call_output"]
    call_id: _NonEmpty
    output: list[ShellOutput]
    max_output_length: int | None = Field(None, description="Ignored: the client has cut the output.")
    id: _ItemId | None = None
    status: ItemStatus | None = None
    caller: Annotated[dict[str, Any] | None, _DIRECT] = None


class CompactionItem(WireModel):
    """A conversation so far, as POST /v1/responses/compact gave it."""

    places: ClassVar[tuple[Place, ...]] = ("item",)
    type: Literal["compaction"]
    encrypted_content: str = Field(description="As this server gave it, to the same team and model.")
    id: _ItemId | None = None
    status: ItemStatus | None = None


class ItemReference(WireModel):
    """Reference to an item of a stored response."""

    type: Literal["item_reference"] = "item_reference"
    id: _ItemId


_CLASSES = (
    MessageItem,
    ReasoningItem,
    FunctionCallItem,
    FunctionCallOutputItem,
    CustomToolCallItem,
    CustomToolCallOutputItem,
    ApplyPatchCallItem,
    ApplyPatchCallOutputItem,
    LocalShellCallItem,
    LocalShellCallOutputItem,
    ShellCallItem,
    ShellCallOutputItem,
    CompactionItem,
    ItemReference,
)
_TYPES = tuple(get_args(each.model_fields["type"].annotation)[0] for each in _CLASSES)


def _item_type(value: Any) -> str | None:
    if not isinstance(value, dict):
        return f"<{value.type}>" if isinstance(value, WireModel) and hasattr(value, "type") else None
    kind = value.get("type")
    if kind is None:
        kind = "item_reference" if "id" in value and "role" not in value and "content" not in value else "message"
    return f"<{kind}>"


def _known_type(value: Any) -> Any:
    """The item without what is null, unless its type is none of ours: a union's error would not say which are."""
    if not isinstance(value, dict):
        return value
    # OpenAI's client dumps items with every field it knows of.
    value = {key: field for key, field in value.items() if field is not None}
    kind = value.get("type")
    if kind is None:
        return value
    if not isinstance(kind, str):
        raise invalid("Invalid type: expected a string.", at="type", code="invalid_type")
    if kind not in _TYPES:
        raise unsupported(
            f"Its type is '{kind[:64]}'; this server takes items of the types {', '.join(_TYPES)}: "
            "there are no built-in tools, and gpt-oss reads text alone."
        )
    return value


AnyInputItem = (
    MessageItem
    | ReasoningItem
    | FunctionCallItem
    | FunctionCallOutputItem
    | CustomToolCallItem
    | CustomToolCallOutputItem
    | ApplyPatchCallItem
    | ApplyPatchCallOutputItem
    | LocalShellCallItem
    | LocalShellCallOutputItem
    | ShellCallItem
    | ShellCallOutputItem
    | CompactionItem
)
"""An item that is there itself, and no reference."""

InputItem = Annotated[
    Annotated[
        Annotated[MessageItem, Tag("<message>")]
        | Annotated[ReasoningItem, Tag("<reasoning>")]
        | Annotated[FunctionCallItem, Tag("<function_call>")]
        | Annotated[FunctionCallOutputItem, Tag("<function_call_output>")]
        | Annotated[CustomToolCallItem, Tag("<custom_tool_call>")]
        | Annotated[CustomToolCallOutputItem, Tag("<custom_tool_call_output>")]
        | Annotated[ApplyPatchCallItem, Tag("<apply_patch_call>")]
        | Annotated[ApplyPatchCallOutputItem, Tag("<apply_patch_call_output>")]
        | Annotated[LocalShellCallItem, Tag("<local_shell_call>")]
        | Annotated[LocalShellCallOutputItem, Tag("<local_shell_call_output>")]
        | Annotated[ShellCallItem, Tag("<shell_call>")]
        | Annotated[ShellCallOutputItem, Tag("<shell_call_output>")]
        | Annotated[CompactionItem, Tag("<compaction>")]
        | Annotated[ItemReference, Tag("<item_reference>")],
        Discriminator(_item_type, custom_error_type="expected", custom_error_message="an object"),
    ],
    BeforeValidator(_known_type),
]


def text_of(text: str | list[TextContent]) -> str:
    """Text of the content, its parts joined."""
    if isinstance(text, str):
        return text
    return "".join(part.text or part.refusal or "" for part in text)
