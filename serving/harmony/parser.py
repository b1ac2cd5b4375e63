"""Completion tokens to events: pure, linear in length, and never at a loss.

The prompt ends in `<|start|>assistant`, so a completion begins inside a header:

             <|message|>                    <|end|> <|return|> <|call|>
    header ───────────────▶ body ──────────────────────────────────────▶ header (a <|start|> should follow)
      ▲                       │
      └───────────────────────┘ <|start|> or <|channel|>: the message's end is missing

With `one_turn` a completion ends at its call or its final message, as a turn does: a message that does not belong to
the turn is not read, and nor is anything after it.

A body's tokens are text until the next marker. Whatever else comes is recovered from and reported (recovery.py); text
is only ever dropped from headers. Agrees with openai_harmony.StreamableParser on well-formed completions.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Sequence
from typing import Literal

from serving.harmony.channels import TOOL, Channel, TokenCounts
from serving.harmony.events import (
    ChannelOpened,
    Event,
    Finished,
    MessageClosed,
    Recovered,
    Text,
    ToolArguments,
    ToolCallOpened,
)
from serving.harmony.header import Header, Opening, Origin
from serving.harmony.recipients import Recipients
from serving.harmony.recovery import RecoveryKind
from serving.harmony.vocabulary import (
    BODY_ENDS,
    CALL,
    CHANNEL,
    CONSTRAIN,
    ENDOFTEXT,
    FIRST_SPECIAL_ID,
    MESSAGE,
    START,
    token_table,
)


class HarmonyParser:
    """Parser of one completion.

    `feed` any number of tokens at a time, then `finish` once; the events' joined text does not depend on how the
    tokens were cut. Consecutive content tokens of one feed become one Text.

    `tools` are the names of the functions offered: a call is then reported under the name it was offered by, and what
    is addressed to any other is a message to the user on the channel it was written on (see header.py). With None, any
    name is a call.

    A message whose channel cannot be read is held back until the next one begins, and then is analysis; where none
    follows, it is the answer. JSON that is addressed to nobody is held back until its end: with `<|call|>` there, it is
    a call of the one function that is offered.

    `turn_over` says that a message came which does not belong to the turn; the last `surplus` tokens of those fed are
    it and what came after.

    `open_channel` is the channel of the message to the user whose body is being read, None in headers and calls;
    `open_call` is the name of the call whose arguments are being read, None elsewhere. `completed_calls` counts those
    that ended.
    `tokens` counts body tokens: what reads as header, salvaged or not, counts for no channel, and a call's arguments
    count as TOOL on whatever channel it was made.
    """

    __slots__ = (
        "_answered",
        "_body_tokens",
        "_call_refused",
        "_calls",
        "_doubtful",
        "_doubtful_tokens",
        "_ended",
        "_header",
        "_header_tokens",
        "_held_back",
        "_one_turn",
        "_perhaps",
        "_recipients",
        "_salvaged",
        "_table",
        "completed_calls",
        "open_call",
        "open_channel",
        "surplus",
        "turn_over",
    )

    def __init__(self, tools: Collection[str] | None = None, *, one_turn: bool = False) -> None:
        self._table = token_table()
        self._one_turn = one_turn
        self._recipients = Recipients(tools)
        self._header: Header | None = Header("prompt", self._recipients)  # None while a body is read
        self._held_back = b""  # the first bytes of a character whose last ones have not come
        self._call_refused = False  # the open message was meant as a call, of a function that was not offered
        self._calls = 0
        self._body_tokens = 0
        self._salvaged = False  # the open body began with text of its header
        self._doubtful: list[str] | None = None  # text of a message whose channel is yet to be decided
        self._doubtful_tokens = 0
        self._perhaps: tuple[Channel, str] | None = None  # the held-back message's channel, and what it may call
        self._answered = False  # a final message has ended
        self._header_tokens = 0  # tokens of the header being read
        self.turn_over = False
        self.surplus = 0
        self.open_channel: Channel | None = None
        self.open_call: str | None = None
        self.completed_calls = 0
        self._ended = TokenCounts()

    @property
    def in_header(self) -> bool:
        """True where the next token is read as part of a header."""
        return self._header is not None

    @property
    def tokens(self) -> TokenCounts:
        """Body tokens so far."""
        counts = TokenCounts.summed((self._ended,))
        if self._doubtful is None:
            counts[self.open_channel or TOOL] += self._body_tokens
        else:
            counts["final"] += self._doubtful_tokens + self._body_tokens
        return counts

    def tokens_of(self, channel: Channel) -> int:
        """Body tokens so far on one channel."""
        return self._ended[channel] + (self._body_tokens if self.open_channel == channel else 0)

    @property
    def holds_answer(self) -> bool:
        """True where finish() would deliver text that was held back, for it may be the answer."""
        return self._doubtful is not None

    @property
    def body_is_empty(self) -> bool:
        """True from a header's end until the first token of its message, or call, comes."""
        return self._header is None and self._body_tokens == 0 and not self._salvaged

    @property
    def holds_text(self) -> bool:
        """True while text is held back that becomes the answer if nothing follows."""
        return bool(self._doubtful) and self._perhaps is None

    def feed(self, token_ids: Sequence[int]) -> list[Event]:
        """Read the next tokens and return their events, in order. Never raises, whatever the ids."""
        events: list[Event] = []
        position, total = 0, len(token_ids)
        over = self.turn_over
        if over:
            self.surplus += total
            return events
        if total == 1 and self._header is None and 0 <= token_ids[0] < FIRST_SPECIAL_ID:
            self._deliver(self._table[token_ids[0]], 1, events)  # the way of nearly every token of a stream
            return events
        while position < total:
            if self._header is not None:
                self._header_tokens += 1
                self._read_header(self._header, token_ids[position], events)
                position += 1
                if self.turn_over:
                    self.surplus = self._header_tokens + total - position
                    break
                continue
            for end in range(position, total):
                if not 0 <= token_ids[end] < FIRST_SPECIAL_ID:
                    break
            else:
                end = total
            if end > position:
                data = b"".join(map(self._table.__getitem__, token_ids[position:end]))
                self._deliver(data, end - position, events)
            if end < total:
                self._read_marker(token_ids[end], events)
            position = end + 1
        return events

    def finish(self, reason: Literal["stop", "length"]) -> list[Event]:
        """End the completion and return its last events: what was held back, then exactly one Finished.

        Its reason is "tool_calls" where a call is complete, unless the length ran out within another one. A body that
        the length cut gets no MessageClosed.
        """
        events: list[Event] = []
        if self._header is not None:
            self._finish_header(self._header, reason, events)
        if self._header is None and reason == "stop":
            if self.open_call is not None:
                self._recover("end_missing", events)
            self._close(events)
        elif self._header is None:
            self._flush(events)
        if self._perhaps is not None:
            self._release(events)
        if self._doubtful is not None and self._header is None:
            self._doubtful_tokens = self._body_tokens
            self._decide("final", events, closed=False)
        else:
            self._decide("final", events)
        complete = self.completed_calls > 0 and self.open_call is None
        events.append(Finished("tool_calls" if complete else reason))
        return events

    def _deliver(self, data: bytes, tokens: int, events: list[Event], final: bool = False) -> None:
        """Deliver more of the open body: `data` of `tokens` content tokens; `final` where no more will come."""
        if self._held_back:
            data = self._held_back + data
            self._held_back = b""
        text, used = codecs.utf_8_decode(data, "replace", final)
        if used != len(data):
            self._held_back = data[used:]
        channel = self.open_channel
        self._body_tokens += tokens
        if not text:
            return
        if channel is not None:
            events.append(Text(channel, text))
        elif self._doubtful is not None:
            self._doubtful.append(text)
            if self._perhaps is not None and not _may_be_object(self._doubtful):
                self._release(events)
        else:
            events.append(ToolArguments(self._calls - 1, text))

    def _read_marker(self, token: int, events: list[Event]) -> None:
        """Read a special token inside a body."""
        if token in BODY_ENDS:
            if self._perhaps is not None:
                self._release(events, called=token == CALL)
            if self.open_call is not None and token != CALL:
                self._recover("wrong_end", events)
            elif token == ENDOFTEXT:
                self._recover("unexpected_token", events)
            elif token == CALL and self.open_call is None and not self._call_refused:
                self._recover("call_without_recipient", events)
            self._close(events)
        elif token in (START, CHANNEL):
            if self._perhaps is not None:
                self._release(events)
            self._recover("end_missing", events)
            self._close(events)
            self._header = self._new_header("start" if token == START else "none", tokens=1)
            if token == CHANNEL:
                self._header.begin_channel()
        else:
            self._recover("unexpected_token", events)

    def _read_header(self, header: Header, token: int, events: list[Event]) -> None:
        if 0 <= token < FIRST_SPECIAL_ID:
            self._read_header_text(header, self._table[token], events)
        elif token == MESSAGE:
            self._open(header.parse(), events)
        elif token == CHANNEL:
            self._begin_channel(header, events)
        elif token == CONSTRAIN:
            header.begin_content_type()
        elif token == START:
            self._restart(header, events)
        elif token in BODY_ENDS and (header.origin != "none" or not header.is_untouched()):
            self._abandon(header, events, called=token == CALL)
        else:
            self._recover("unexpected_token", events)

    def _read_header_text(self, header: Header, data: bytes, events: list[Event]) -> None:
        header.add_text(data)
        if (bare := header.bare_channel()) is not None:
            self._open(bare, events)
        elif header.is_prose():
            self._open(Opening("final", None, ("header_missing",), header.everything()), events)
        elif header.is_overlong():
            opening = header.salvage(cut=False)
            if not opening.text:
                opening = Opening(opening.channel, None, opening.recovered, header.everything())
            self._open(opening, events)

    def _begin_channel(self, header: Header, events: list[Event]) -> None:
        if header.channel is not None:
            self._recover("channel_repeated", events)
            if header.salvage(cut=False).text:
                self._abandon(header, events)
                header = self._header = self._new_header("none", tokens=1)
        header.begin_channel()

    def _restart(self, header: Header, events: list[Event]) -> None:
        """Begin the header again after a `<|start|>`, which belongs right after a message's end alone."""
        if not header.is_untouched():
            self._abandon(header, events)
        elif header.origin != "none":
            self._recover("start_repeated", events)
        self._header = self._new_header("start", tokens=1)

    def _abandon(self, header: Header, events: list[Event], *, called: bool = False) -> None:
        """End a header without `<|message|>`: deliver the text in it as a message of its own."""
        opening = header.salvage(cut=False, called=called)
        if opening.text or opening.tool is not None:
            self._open(opening, events)
            self._close(events)
        else:
            events.extend(Recovered(kind) for kind in opening.recovered)
            self._header = self._new_header("none")

    def _finish_header(self, header: Header, reason: Literal["stop", "length"], events: list[Event]) -> None:
        opening = header.salvage(cut=reason == "length")
        if opening.text:
            self._open(opening, events)
        elif reason == "stop" and not header.is_untouched():
            self._recover("message_missing", events)

    def _open(self, opening: Opening, events: list[Event]) -> None:
        if self._one_turn and (kind := self._leaves_turn(opening)) is not None:
            self._decide("analysis" if self._answered else "final", events)
            self._recover(kind, events)
            self.turn_over = True
            self._header = self._new_header("none", tokens=self._header_tokens)
            return
        self._decide("analysis", events)
        events.extend(Recovered(kind) for kind in opening.recovered)
        self._header = None
        self._call_refused = opening.is_refused_call
        self._salvaged = bool(opening.text)
        if opening.doubtful:
            self._doubtful = []
        elif opening.perhaps is not None and not opening.text:
            self._doubtful, self._perhaps = [], (opening.channel, opening.perhaps)
        elif opening.tool is None:
            self.open_channel = opening.channel
            events.append(ChannelOpened(opening.channel))
        else:
            self.open_call = opening.tool
            events.append(ToolCallOpened(self._calls, opening.tool))
            self._calls += 1
        if opening.text:
            self._deliver(opening.text, 0, events)

    def _release(self, events: list[Event], *, called: bool = False) -> None:
        """Deliver what was held back of the open message: as a call where one was `called`, else on its channel."""
        assert self._perhaps is not None
        assert self._doubtful is not None
        (channel, tool), self._perhaps = self._perhaps, None
        text, self._doubtful = "".join(self._doubtful), None
        if called and text:
            self._recover("recipient_guessed", events)
            self.open_call = tool
            events += (ToolCallOpened(self._calls, tool), ToolArguments(self._calls, text))
            self._calls += 1
            return
        self.open_channel = channel
        events.append(ChannelOpened(channel))
        if text:
            events.append(Text(channel, text))

    def _leaves_turn(self, opening: Opening) -> RecoveryKind | None:
        """Why the message that opens does not belong to the turn; None where it does.

        Several calls are one turn, with what the model thinks between them.
        """
        if opening.made_up is not None:
            return opening.made_up
        if opening.tool is not None:
            return None
        if self.completed_calls and opening.channel != "analysis":
            return "text_after_call"
        return "text_after_answer" if self._answered else None

    def _decide(self, channel: Channel, events: list[Event], *, closed: bool = True) -> None:
        """Deliver the message that was held back, if there is one, on `channel`."""
        if self._doubtful is None:
            return
        text, self._doubtful = "".join(self._doubtful), None
        self._ended[channel] += self._doubtful_tokens
        events.append(ChannelOpened(channel))
        if text:
            events.append(Text(channel, text))
        if closed:
            events.append(MessageClosed())

    def _flush(self, events: list[Event]) -> None:
        self._deliver(b"", 0, events, final=True)

    def _close(self, events: list[Event]) -> None:
        self._flush(events)
        if self._doubtful is None:
            events.append(MessageClosed())
            self._ended[self.open_channel or TOOL] += self._body_tokens
        else:
            self._doubtful_tokens = self._body_tokens
        # Text that had no header of its own may be a thought before the answer.
        self._answered |= self.open_channel == "final" and self._body_tokens > 0 and not self._salvaged
        self._body_tokens = 0
        self.completed_calls += self.open_call is not None
        self.open_call = None
        self.open_channel = None
        self._header = self._new_header("none")

    def _new_header(self, origin: Origin, tokens: int = 0) -> Header:
        self._header_tokens = tokens
        return Header(origin, self._recipients, after_call=self._calls > 0)

    @staticmethod
    def _recover(kind: RecoveryKind, events: list[Event]) -> None:
        events.append(Recovered(kind))


def _may_be_object(parts: Sequence[str]) -> bool:
    """Whether text in `parts` may be a JSON object, by its first character that is no blank."""
    first = next((stripped for part in parts if (stripped := part.lstrip())), "{")
    return first.startswith("{")
