"""Message headers, from the first token to `<|message|>`: role, recipient, channel and content type.

    assistant to=functions.f <|channel|>commentary to=functions.f <|constrain|>json <|message|>
    └──── role section ────┘          └──── channel section ────┘            └type┘

The recipient may stand in any section; a single word after it, or after the channel's name, is the content type.
A call of a function that was not offered becomes a message to the user, on the channel the model chose: built-in tools,
which the model was trained on, stay within its analysis, and a function it made up becomes commentary. So no program
that reads `content` alone mistakes arguments for the answer; the answer is what the model put on `final`.
Text is kept as bytes until the header ends, since a token may hold half a character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, cast

from serving.harmony.channels import CHANNELS, Channel
from serving.harmony.recipients import Recipients
from serving.harmony.recovery import RecoveryKind

Origin = Literal["prompt", "start", "none"]
"""Beginning of a header: the prompt's `<|start|>assistant`, a `<|start|>`, or neither (only the end of a message)."""

MAX_HEADER_TOKENS = 128
"""A header longer than this, and than the longest name offered, has lost its `<|message|>`; a real one has about 30."""

_ROLE = re.compile(rb"\s*(assistant|user|system|developer|tool)(?![0-9A-Za-z_])")
# A name beside the role: of one agent among several in the conversation, whose headers the model takes up.
_NAME = re.compile(rb":[^\s<|>:]*")
_CHANNEL = re.compile(rf"\s*({'|'.join(CHANNELS)})".encode())
_RECIPIENT = re.compile(rb"\s*to=")
_RECIPIENT_SO_FAR = re.compile(rb"\s*(?:t|to)?")
_NOT_BLANK = re.compile(rb"\S*")
_CONTENT_TYPE = re.compile(rb"\s*(?:json|code|text)(?![0-9A-Za-z_])")
_AFTER_RECIPIENT_SO_FAR = re.compile(rb"\S*(?:\s+(?:json|code|text)?\s*)?")


@dataclass(frozen=True, slots=True)
class Opening:
    """Opening of a message on `channel`, or of a call of `tool`. `text` already belongs to the body."""

    channel: Channel
    tool: str | None
    recovered: tuple[RecoveryKind, ...] = ()
    text: bytes = b""

    @property
    def is_refused_call(self) -> bool:
        """True for a message that was meant as a call, of a function that was not offered."""
        return "tool_not_offered" in self.recovered


@dataclass(slots=True)
class Header:
    """Header being read."""

    origin: Origin
    recipients: Recipients
    role: bytearray = field(default_factory=bytearray)
    channel: bytearray | None = None
    content_type: bytearray | None = None
    text_tokens: int = 0

    def is_untouched(self) -> bool:
        """True until text or a marker with an effect has come."""
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
        """Begin the channel section at a `<|channel|>`. A recipient in an earlier channel section is kept."""
        for section in (self.channel, self.content_type):
            for word in self._words(bytes(section or b"")):
                if word.startswith(b"to="):
                    self.role += b" " + word
        self.channel, self.content_type = bytearray(), None

    def begin_content_type(self) -> None:
        """Begin the content type at a `<|constrain|>`; a second one changes nothing."""
        if self.content_type is None:
            self.content_type = bytearray()

    def is_prose(self) -> bool:
        """True where no header begins like this: the model has started to talk without one."""
        if self.origin == "start" or self.channel is not None or self.content_type is not None:
            return False
        _, text = self._after_role()
        match = _RECIPIENT.match(text)
        if match is None:
            return _RECIPIENT_SO_FAR.fullmatch(text) is None
        text = text[match.end() :]
        if self.recipients.may_go_on(text):
            return False
        return _AFTER_RECIPIENT_SO_FAR.fullmatch(text, self.recipients.name_end(text)) is None

    def is_overlong(self) -> bool:
        """True where waiting for `<|message|>` must end."""
        return self.text_tokens > max(MAX_HEADER_TOKENS, MAX_HEADER_TOKENS // 2 + self.recipients.longest)

    def parse(self) -> Opening:
        """Parse the header, which `<|message|>` has ended. Never fails: oddities are in `recovered`."""
        found: list[RecoveryKind] = ["start_missing"] if self.origin == "none" else []
        words = self._role_words(found)
        channel, channel_words = self._channel_words(found)
        type_words = self._words(bytes(self.content_type or b""))
        words += channel_words + type_words
        plain = [word for word in channel_words + type_words if not word.startswith(b"to=")]
        if len(plain) > 1:
            found.append("header_words")
        tool = self._recipient([word[3:] for word in words if word.startswith(b"to=")], found)
        if "tool_not_offered" in found and ("channel_missing" in found or "unknown_channel" in found):
            channel = "commentary"  # where calls belong
        return Opening(channel, tool, tuple(dict.fromkeys(found)))

    def salvage(self, *, cut: bool, called: bool = False) -> Opening:
        """Salvage the text of a header that ended without `<|message|>`.

        Its text beyond role, channel and recipient becomes the body: arguments only if they follow a clean recipient
        and look like JSON (or `<|call|>` came), so that swallowed text never names a tool. `cut` tells that the
        completion ended here: then a lone word is taken for the beginning of a header, not for text.
        """
        text, tool, refused = self._without_recipient(self._spoken_role_section(), cut=cut)
        channel: Channel | None = None
        if self.channel is not None:
            text = text if len(text.split()) > 1 else b""
            match = _CHANNEL.match(self.channel)
            if match:
                channel = cast("Channel", match[1].decode())
            rest, later_tool, later_refused = self._without_recipient(
                bytes(self.channel[match.end() if match else 0 :]), cut=cut
            )
            tool, refused = later_tool or tool, later_refused or refused
            text += _without_content_type(rest) if tool is not None or refused else rest
        text += _without_content_type(bytes(self.content_type or b""))
        text = text.lstrip()
        if not (text.startswith(b"{") or (called and not text)):
            tool, refused = None, False
        if cut and tool is None and not refused and len(text.split()) < 2:
            text = b""
        if refused and tool is None:
            return Opening(channel or "commentary", None, ("message_missing", "tool_not_offered"), text)
        return Opening(channel or "final", tool, ("message_missing",), text)

    def everything(self) -> bytes:
        """All text read, sections joined."""
        return bytes(self.role + (self.channel or b"") + (self.content_type or b""))

    def _after_role(self) -> tuple[re.Match[bytes] | None, bytes]:
        """Return the role, where one was read, and the text after it and a name beside it."""
        match = _ROLE.match(self.role)
        rest = bytes(self.role[match.end() if match else 0 :])
        named = _NAME.match(rest) if match is not None or self.origin == "prompt" else None
        return match, rest[named.end() if named else 0 :]

    def _role_words(self, found: list[RecoveryKind]) -> list[bytes]:
        match, rest = self._after_role()
        words = self._words(rest)
        plain = [word for word in words if not word.startswith(b"to=")]
        role = match[1] if match is not None else b""
        # What comes first stands for the role that is missing; after a recipient it is only a word.
        unnamed = match is None and (self.origin == "start" or plain[:1] == words[:1] != [])
        if unnamed or role not in (b"", b"assistant"):
            found.append("unknown_role")
        elif plain or (role and self.origin == "prompt"):
            found.append("header_words")
        return words

    def _channel_words(self, found: list[RecoveryKind]) -> tuple[Channel, list[bytes]]:
        if self.channel is None or not self.channel.strip():
            found.append("channel_missing")
            return "final", []
        match = _CHANNEL.match(self.channel)
        if match is None:
            found.append("unknown_channel")
            words = self._words(bytes(self.channel))
            return "final", words if words[0].startswith(b"to=") else words[1:]
        rest = bytes(self.channel[match.end() :])
        if rest and not rest[:1].isspace() and not rest.startswith(b"to="):
            found.append("header_words")
        return cast("Channel", match[1].decode()), self._words(rest)

    def _spoken_role_section(self) -> bytes:
        # Where the prompt already gave the role, the word "assistant" is an answer.
        match = None if self.origin == "prompt" else _ROLE.match(self.role)
        return bytes(self.role[match.end() if match else 0 :])

    def _words(self, section: bytes) -> list[bytes]:
        """`section` cut at blanks, except for those in the name of a tool."""
        words: list[bytes] = []
        rest = section.lstrip()
        while rest:
            end = 3 + self.recipients.name_end(rest[3:]) if rest.startswith(b"to=") else 0
            match = _NOT_BLANK.match(rest, end)
            end = match.end() if match else end
            words.append(rest[:end])
            rest = rest[end:].lstrip()
        return words

    def _recipient(self, recipients: list[bytes], found: list[RecoveryKind]) -> str | None:
        """The tool's name, None for no tool. The last of several recipients counts."""
        if not recipients:
            return None
        if len(recipients) > 1:
            found.append("recipient_repeated")
        tool, kinds = self.recipients.resolve(recipients[-1])
        found.extend(kinds)
        return tool

    def _without_recipient(self, text: bytes, *, cut: bool) -> tuple[bytes, str | None, bool]:
        """`text` after its leading recipient, the tool's name where that is one, and whether it was not offered."""
        match = _RECIPIENT.match(text)
        if match is None:
            return text, None, False
        text = text[match.end() :]
        end = len(text) if cut and self.recipients.may_go_on(text) else self.recipients.name_end(text)
        tool, kinds = self.recipients.resolve(text[:end])
        return text[end:], tool, "tool_not_offered" in kinds


def _without_content_type(text: bytes) -> bytes:
    match = _CONTENT_TYPE.match(text)
    return text[match.end() :] if match else text
