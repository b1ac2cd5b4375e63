"""Message headers, from the first token to `<|message|>`: role, recipient, channel and content type.

    assistant to=functions.f <|channel|>commentary to=functions.f <|constrain|>json <|message|>
    └──── role section ────┘          └──── channel section ────┘            └type┘

The recipient may stand in any section; a single word after it, or after the channel's name, is the content type.
A word that names an offered function makes a call of the message too, wherever in the header it stands.
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
from serving.harmony.recipients import Recipients, distance
from serving.harmony.recovery import RecoveryKind

Origin = Literal["prompt", "start", "none"]
"""Beginning of a header: the prompt's `<|start|>assistant`, a `<|start|>`, or neither (only the end of a message)."""

MAX_HEADER_TOKENS = 128
"""A header longer than this, and than the longest name offered, has lost its `<|message|>`; a real one has about 30."""

_OTHER_ROLES = (b"user", b"system", b"developer")
_CHANNEL_NAMES = "|".join(CHANNELS)
_ROLE = re.compile(
    rf"\s*(?:(assistant|user|system|developer|tool)(?![0-9A-Za-z_])|(assistant)(?=to=|{_CHANNEL_NAMES}))".encode()
)
# A name beside the role: of one agent among several in the conversation, whose headers the model takes up.
_NAME = re.compile(rb":[^\s<|>:]*")
_CHANNEL = re.compile(rf"\s*({_CHANNEL_NAMES})".encode())
_BARE_CHANNEL = re.compile(rf"\s*({_CHANNEL_NAMES})(?:\s*\n\s*|\s*(?=[A-Z]))".encode())
_CHANNEL_LETTERS = re.compile(rb"[^a-z]")
_RECIPIENT = re.compile(rb"\s*to\s?=\s*")
_RECIPIENT_SO_FAR = re.compile(rb"\s*(?:t|to\s?)?")
_ADDRESSED = re.compile(rb"(?:to|recipient)\s?[=:]\s*", re.IGNORECASE)
_BLANKS = re.compile(
    "[\N{NO-BREAK SPACE}\N{EN QUAD}-\N{ZERO WIDTH JOINER}\N{NARROW NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}"
    "\N{WORD JOINER}\N{ZERO WIDTH NO-BREAK SPACE}]"
)
"""Blanks beside ASCII's, those without a width among them."""
_NOT_BLANK = re.compile(rb"\S*")
_CONTENT_TYPE = re.compile(rb"\s*(?:json|code|text)(?![0-9A-Za-z_])")
_AFTER_RECIPIENT_SO_FAR = re.compile(rb"\S*(?:\s+(?:json|code|text)?\s*)?")


_CHANNEL_BYTES = tuple(name.encode() for name in CHANNELS)
_CHANNEL_AND_RECIPIENT = re.compile(rf"\s*(?:{_CHANNEL_NAMES})\s*to\s?=\s*".encode())
_MOST_WRONG_LETTERS = 2
"""Letters of a channel's name that may be wrong."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Opening of a message on `channel`, or of a call of `tool`. `text` already belongs to the body.

    `made_up` is set for a message that is not the assistant's: a turn of another role, or a tool's result. `doubtful`
    says that the header has no channel that could be read: what follows decides whether the text was the answer.
    `perhaps` is the function that the message calls if it turns out to be JSON that ends in `<|call|>`.
    """

    channel: Channel
    tool: str | None
    recovered: tuple[RecoveryKind, ...] = ()
    text: bytes = b""
    made_up: RecoveryKind | None = None
    doubtful: bool = False
    perhaps: str | None = None

    @property
    def is_refused_call(self) -> bool:
        """True for a message that was meant as a call, of a function that was not offered."""
        return "tool_not_offered" in self.recovered


@dataclass(slots=True)
class Header:
    """Header being read."""

    origin: Origin
    recipients: Recipients
    after_call: bool = False
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
        _, _, text = self._after_role()
        match = _RECIPIENT.match(text)
        if match is None:
            word = text.strip()
            if any(name.startswith(word) for name in _CHANNEL_BYTES) or self.recipients.may_begin(text.lstrip()):
                return False
            match = _CHANNEL.match(text)
            if match is not None and _RECIPIENT_SO_FAR.fullmatch(text, match.end()):
                return False
            match = _CHANNEL_AND_RECIPIENT.match(text)
        if match is None:
            return _RECIPIENT_SO_FAR.fullmatch(text) is None
        text = text[match.end() :]
        if self.recipients.may_go_on(text):
            return False
        return _AFTER_RECIPIENT_SO_FAR.fullmatch(text, self.recipients.name_end(text)) is None

    def bare_channel(self) -> Opening | None:
        """Opening of a message whose header is a channel's bare name, from the first letter of its text on."""
        if self.origin == "start" or self.channel is not None or self.content_type is not None:
            return None
        _, _, text = self._after_role()
        match = _BARE_CHANNEL.match(text)
        if match is None or match.end() == len(text):
            return None
        return Opening(cast("Channel", match[1].decode()), None, ("message_missing",), text[match.end() :])

    def is_overlong(self) -> bool:
        """True where waiting for `<|message|>` must end."""
        return self.text_tokens > max(MAX_HEADER_TOKENS, MAX_HEADER_TOKENS // 2 + self.recipients.longest)

    def parse(self) -> Opening:
        """Parse the header, which `<|message|>` has ended. Never fails: oddities are in `recovered`."""
        found: list[RecoveryKind] = ["start_missing"] if self.origin == "none" else []
        role, role_words = self._role_words(found)
        channel, channel_words = self._channel_words(found, role)
        type_words = self._words(bytes(self.content_type or b""))
        plain = [word for word in channel_words + type_words if not word.startswith(b"to=")]
        if len(plain) > 1:
            found.append("header_words")
        addressed = [word[3:] for word in role_words + channel_words + type_words if word.startswith(b"to=")]
        tool = self._recipient(addressed, found)
        if tool is None and addressed and plain and b"".join(addressed) not in (b"assistant", b"user"):
            tool = self._recipient_in_words(addressed[-1], plain, found)
        if not addressed:
            tool = self._named(role, plain, channel, found)
        unaddressed = not addressed and tool is None and channel == "commentary"
        if "tool_not_offered" in found and ("channel_missing" in found or "unknown_channel" in found):
            channel = "commentary"  # where calls belong
        made_up = self._made_up(role, addressed, tool)
        doubtful = "unknown_channel" in found and tool is None and "tool_not_offered" not in found
        perhaps = self.recipients.only if unaddressed and made_up is None else None
        return Opening(channel, tool, tuple(dict.fromkeys(found)), b"", made_up, doubtful, perhaps)

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
            if tool is None and not refused:
                tool, rest = self._leading_name(rest)
            text += _without_content_type(rest) if tool is not None or refused else rest
        elif (bare := _BARE_CHANNEL.match(text)) is not None:
            channel, text = cast("Channel", bare[1].decode()), text[bare.end() :]
        text += _without_content_type(bytes(self.content_type or b""))
        text = text.lstrip()
        if not (text.startswith(b"{") or (called and not text)):
            tool, refused = None, False
        if cut and tool is None and not refused and len(text.split()) < 2:
            text = b""
        if refused and tool is None:
            return Opening(channel or "commentary", None, ("message_missing", "tool_not_offered"), text)
        doubtful = channel is None and tool is None
        made_up = self._made_up(self._role_words([])[0], [], tool)
        return Opening(channel or "final", tool, ("message_missing",), text, made_up=made_up, doubtful=doubtful)

    def everything(self) -> bytes:
        """All text read, sections joined."""
        return bytes(self.role + (self.channel or b"") + (self.content_type or b""))

    def _after_role(self) -> tuple[bytes, bool, bytes]:
        """Return the role (b"" for none), whether one was read, and the text after it and a name beside it."""
        section = _clean(bytes(self.role))
        match = _ROLE.match(section)
        rest = section[match.end() if match else 0 :]
        named = _NAME.match(rest) if match is not None or self.origin == "prompt" else None
        role = (match[1] or match[2]) if match is not None else b""
        return role, match is not None, rest[named.end() if named else 0 :]

    def _role_words(self, found: list[RecoveryKind]) -> tuple[bytes, list[bytes]]:
        """The word that stands for the role, b"" where the prompt gave it, and the words after it."""
        role, read, rest = self._after_role()
        words = self._words(rest)
        plain = [word for word in words if not word.startswith(b"to=")]
        if not read and plain[:1] == words[:1] != [] and self.origin != "start" and plain[0] in _CHANNEL_BYTES:
            return b"", words  # the channel's bare name, read by _channel_words
        # What comes first stands for the role that is missing; after a recipient it is only a word.
        unnamed = not read and (self.origin == "start" or plain[:1] == words[:1] != [])
        if unnamed or role not in (b"", b"assistant"):
            found.append("unknown_role")
            if unnamed and plain[:1] == words[:1] != []:
                return plain[0], words
        elif plain or (role and self.origin == "prompt"):
            found.append("header_words")
        return role, words

    def _channel_words(self, found: list[RecoveryKind], role: bytes) -> tuple[Channel, list[bytes]]:
        section = _clean(bytes(self.channel or b""))
        if not section.strip():
            found.append("channel_missing")
            # Without a channel section its name stands where the role does, or after it.
            for word in (role, *self._words(_clean(bytes(self.role)))):
                match = _CHANNEL.match(word.removeprefix(b"assistant"))
                if match is not None:
                    return cast("Channel", match[1].decode()), []
            return "final", []
        match = _CHANNEL.match(section)
        if match is None:
            return self._misspelt_channel(section, found)
        rest = section[match.end() :]
        while (again := _CHANNEL.match(rest)) is not None:  # doubled
            found.append("header_words")
            match, rest = again, rest[again.end() :]
        if rest and not rest[:1].isspace() and not rest.startswith(b"to="):
            found.append("header_words")
        return cast("Channel", match[1].decode()), self._words(rest)

    def _misspelt_channel(self, section: bytes, found: list[RecoveryKind]) -> tuple[Channel, list[bytes]]:
        """The channel that `section` begins with in other letters, "final" where there is none like it."""
        found.append("unknown_channel")
        words = self._words(section)
        if words[0].startswith(b"to="):
            found[-1] = "channel_missing"
            return "commentary", words
        if self.recipients.named(words[0]) is not None:
            return "commentary", words  # a function's name where the channel's belongs
        letters = _CHANNEL_LETTERS.sub(b"", words[0].lower()).decode()
        for name in CHANNELS:
            near = letters == name * 2 or distance(letters, name) <= _MOST_WRONG_LETTERS
            if letters[:1] == name[0] and (near or name[:6] == letters[:6]):
                found[-1] = "header_words"
                return name, words[1:]
        return "final", words[1:]

    def _recipient_in_words(self, recipient: bytes, plain: list[bytes], found: list[RecoveryKind]) -> str | None:
        """The function whose name was cut by blanks: `recipient` is its first word, `plain` has the next ones."""
        for count in (1, 2):
            name = self.recipients.nearest(b" ".join((recipient, *plain[:count])))
            if name is not None:
                found[:] = [kind for kind in found if kind not in ("tool_not_offered", "recipient_not_a_tool")]
                found.append("recipient_guessed")
                return name
        return None

    def _leading_name(self, text: bytes) -> tuple[str | None, bytes]:
        """The offered function that `text` begins with, where one does, and the rest."""
        stripped = text.lstrip()
        end = self.recipients.name_end(stripped)
        name = self.recipients.named(stripped[:end]) if end else None
        return (name, stripped[end:]) if name is not None else (None, text)

    def _named(self, role: bytes, plain: list[bytes], channel: Channel, found: list[RecoveryKind]) -> str | None:
        """The function that a header without `to=` names, or that alone can be meant."""
        words = plain if channel != "final" or "unknown_channel" in found else []
        others = [role] if role not in (b"assistant", *_CHANNEL_BYTES) else []
        for word in (*words, *others):
            name = self.recipients.named(word)
            if name is not None:
                found[:] = [kind for kind in found if kind not in ("unknown_channel", "unknown_role", "header_words")]
                found.append("recipient_guessed")
                return name
        return None

    def _made_up(self, role: bytes, addressed: list[bytes], tool: str | None) -> RecoveryKind | None:
        """The kind of message that only others write; None for the assistant's own."""
        if role in _OTHER_ROLES and tool is None:
            return "turn_made_up"
        if role == b"tool" and tool is None:
            return "result_made_up"
        named = role.startswith(b"functions.") or (role and self.recipients.named(role) is not None)
        if named and (b"assistant" in addressed or (self.after_call and not addressed)):
            return "result_made_up"
        return None

    def _spoken_role_section(self) -> bytes:
        # Where the prompt already gave the role, the word "assistant" is an answer.
        match = None if self.origin == "prompt" else _ROLE.match(self.role)
        return bytes(self.role[match.end() if match else 0 :])

    def _words(self, section: bytes) -> list[bytes]:
        """`section` cut at blanks, except for those in the name of a tool; a recipient is a word `to=NAME`."""
        words: list[bytes] = []
        rest = _clean(section).lstrip()
        while rest:
            addressed = _ADDRESSED.match(rest)
            begin = addressed.end() if addressed else 0
            end = begin + self.recipients.name_end(rest[begin:]) if addressed else 0
            match = _NOT_BLANK.match(rest, end)
            end = match.end() if match else end
            words.append((b"to=" if addressed else b"") + rest[begin:end])
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


def _clean(section: bytes) -> bytes:
    """`section` with every blank as ASCII's."""
    if section.isascii():
        return section
    return _BLANKS.sub(" ", section.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
