"""A message header, from its first token to `<|message|>`: who speaks, to whom, on which channel.

    assistant to=functions.f <|channel|>commentary to=functions.f <|constrain|>json <|message|>
    └──── role section ────┘          └──── channel section ────┘            └type┘

The recipient may stand in any section; a single word after it, or after the channel's name, is the content type.
Text is kept as bytes until the header ends, since a token may hold half a character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, cast

from serving.harmony.events import Channel
from serving.harmony.recovery import RecoveryKind

Origin = Literal["prompt", "start", "none"]
"""What came before: the prompt's `<|start|>assistant`, a `<|start|>`, or neither (only the end of a message)."""

MAX_HEADER_TOKENS = 128
"""A header longer than this has lost its `<|message|>`; a real one, with a long function name, has about 30."""

_ROLE = re.compile(rb"\s*(assistant|user|system|developer|tool)(?![0-9A-Za-z_])")
_CHANNEL = re.compile(rb"\s*(analysis|commentary|final)")
_RECIPIENT = re.compile(rb"\s*to=([0-9A-Za-z_.:/\-\x80-\xff]*)")
_CONTENT_TYPE = re.compile(rb"\s*(?:json|code|text)(?![0-9A-Za-z_])")
_ROLE_SECTION_SO_FAR = re.compile(
    rb"\s*(?:(?:assistant|user|system|developer|tool)(?![0-9A-Za-z_])\s*)?(?:t|to|to=\S*\s*)?"
)
_NOT_TOOLS = frozenset([b"", b"assistant", b"user", b"system", b"developer", b"all", b"functions", b"functions."])


@dataclass(frozen=True, slots=True)
class Opening:
    """What a header opens: a message on `channel`, or a call of `tool`. `text` already belongs to the body."""

    channel: Channel
    tool: str | None
    recovered: tuple[RecoveryKind, ...] = ()
    text: bytes = b""


@dataclass(slots=True)
class Header:
    """The header being read."""

    origin: Origin
    role: bytearray = field(default_factory=bytearray)
    channel: bytearray | None = None
    content_type: bytearray | None = None
    text_tokens: int = 0

    def is_untouched(self) -> bool:
        """True until anything but markers of no effect has come."""
        return self.text_tokens == 0 and self.channel is None and self.content_type is None

    def add_text(self, data: bytes) -> None:
        """Append a text token's bytes to the section being read."""
        self.text_tokens += 1
        if self.content_type is not None:
            self.content_type += data
        elif self.channel is not None:
            self.channel += data
        else:
            self.role += data

    def begin_channel(self) -> None:
        """`<|channel|>` came. A recipient in an earlier channel section is kept."""
        for section in (self.channel, self.content_type):
            for word in bytes(section or b"").split():
                if word.startswith(b"to="):
                    self.role += b" " + word
        self.channel, self.content_type = bytearray(), None

    def begin_content_type(self) -> None:
        """`<|constrain|>` came; a second one changes nothing."""
        if self.content_type is None:
            self.content_type = bytearray()

    def is_prose(self) -> bool:
        """True where no header begins like this: the model has started to talk without one."""
        if self.origin == "start" or self.channel is not None or self.content_type is not None:
            return False
        return _ROLE_SECTION_SO_FAR.fullmatch(self.role) is None

    def is_overlong(self) -> bool:
        """True where waiting for `<|message|>` must end."""
        return self.text_tokens > MAX_HEADER_TOKENS

    def parse(self) -> Opening:
        """What this header says, now that `<|message|>` has come. Never fails: oddities are in `recovered`."""
        found: list[RecoveryKind] = ["start_missing"] if self.origin == "none" else []
        words = self._role_words(found)
        channel, channel_words = self._channel_words(found)
        type_words = bytes(self.content_type or b"").split()
        words += channel_words + type_words
        plain = [word for word in channel_words + type_words if not word.startswith(b"to=")]
        if len(plain) > 1:
            found.append("header_words")
        tool = _recipient([word[3:] for word in words if word.startswith(b"to=")], found)
        return Opening(channel, tool, tuple(dict.fromkeys(found)))

    def salvage(self, *, cut: bool, called: bool = False) -> Opening:
        """What can be saved of a header that ended without `<|message|>`.

        Its text beyond role, channel and recipient becomes the body: arguments only if they follow a clean recipient
        and look like JSON (or `<|call|>` came), so that swallowed text never names a tool. `cut` tells that the
        completion ended here: then a lone word is taken for the beginning of a header, not for text.
        """
        text, tool = _without_recipient(self._spoken_role_section())
        channel: Channel = "final"
        if self.channel is not None:
            text = text if len(text.split()) > 1 else b""
            match = _CHANNEL.match(self.channel)
            if match:
                channel = cast("Channel", match[1].decode())
            rest, later_tool = _without_recipient(bytes(self.channel[match.end() if match else 0 :]))
            tool = later_tool or tool
            text += rest if tool is None else _without_content_type(rest)
        text += _without_content_type(bytes(self.content_type or b""))
        text = text.lstrip()
        if tool is not None and not (text.startswith(b"{") or (called and not text)):
            tool = None
        if cut and tool is None and len(text.split()) < 2:
            text = b""
        return Opening(channel, tool, ("message_missing",), text)

    def everything(self) -> bytes:
        """All text read, sections joined."""
        return bytes(self.role + (self.channel or b"") + (self.content_type or b""))

    def _role_words(self, found: list[RecoveryKind]) -> list[bytes]:
        match = _ROLE.match(self.role)
        words = self.role[match.end() if match else 0 :].split()
        extra = sum(not word.startswith(b"to=") for word in words)
        if match is not None and match[1] == b"assistant":
            if extra or self.origin == "prompt":
                found.append("header_words")
        elif match is not None or extra or self.origin == "start":
            found.append("unknown_role")
        return [bytes(word) for word in words]

    def _channel_words(self, found: list[RecoveryKind]) -> tuple[Channel, list[bytes]]:
        if self.channel is None or not self.channel.strip():
            found.append("channel_missing")
            return "final", []
        match = _CHANNEL.match(self.channel)
        if match is None:
            found.append("unknown_channel")
            words = self.channel.split()
            return "final", [bytes(word) for word in (words if words[0].startswith(b"to=") else words[1:])]
        rest = self.channel[match.end() :]
        if rest and not rest[:1].isspace() and not rest.startswith(b"to="):
            found.append("header_words")
        return cast("Channel", match[1].decode()), [bytes(word) for word in rest.split()]

    def _spoken_role_section(self) -> bytes:
        # Where the prompt already gave the role, the word "assistant" is an answer.
        match = None if self.origin == "prompt" else _ROLE.match(self.role)
        return bytes(self.role[match.end() if match else 0 :])


def _recipient(recipients: list[bytes], found: list[RecoveryKind]) -> str | None:
    """The tool's name, None for no tool. The last of several recipients counts."""
    if not recipients:
        return None
    if len(recipients) > 1:
        found.append("recipient_repeated")
    recipient = recipients[-1]
    if recipient in _NOT_TOOLS:
        found.append("recipient_not_a_tool")
        return None
    match = _RECIPIENT.match(b"to=" + recipient)
    name = match[1] if match else b""
    if name != recipient:
        found.append("header_words")
    if name in _NOT_TOOLS:
        found.append("recipient_not_a_tool")
        return None
    return _name(name)


def _without_recipient(text: bytes) -> tuple[bytes, str | None]:
    """`text` after its leading recipient, and the tool's name where that is one."""
    match = _RECIPIENT.match(text)
    if match is None:
        return text, None
    return text[match.end() :], None if match[1] in _NOT_TOOLS else _name(match[1])


def _without_content_type(text: bytes) -> bytes:
    match = _CONTENT_TYPE.match(text)
    return text[match.end() :] if match else text


def _name(recipient: bytes) -> str:
    return recipient.removeprefix(b"functions.").decode("utf-8", "replace")
