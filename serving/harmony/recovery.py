"""Kinds of recovery: the ways a model breaks the format, and the missing answer that shows once it has stopped."""

from __future__ import annotations

from typing import Literal, get_args

RecoveryKind = Literal[
    "answer_missing",  # the model stopped without an answer or the call it had to make; it is made to go on
    "call_without_recipient",  # <|call|> ended a message to the user
    "channel_missing",  # a header without <|channel|> or without a channel's name
    "channel_repeated",  # a second <|channel|> in one header; the last one counts
    "end_missing",  # a message ran into the next header, or a call was never sent
    "header_missing",  # text with no header at all; it goes to final
    "header_words",  # words in a header that mean nothing; dropped
    "message_missing",  # a header that ended without <|message|>; text in it is kept
    "recipient_guessed",  # a recipient misspelt or out of its place, or none where one function alone can be meant
    "recipient_not_a_tool",  # to=assistant and the like; taken as meant for the user
    "recipient_repeated",  # to= twice; the last one counts
    "result_made_up",  # a tool's result that the model wrote itself; the turn ends before it
    "start_missing",  # a header after <|end|> without <|start|>
    "start_repeated",  # <|start|> twice
    "text_after_answer",  # a message after the final one; the turn ends before it
    "text_after_call",  # text to the user after a call; the turn ends before it
    "tool_not_offered",  # a call of a function that the request did not offer; its text is kept
    "turn_made_up",  # a turn of another role; the turn ends before it
    "unexpected_token",  # a special token where none belongs; skipped
    "unknown_channel",  # read as the one that is meant, else as analysis, or as the answer where none follows
    "unknown_role",  # a role other than assistant, or none
    "wrong_end",  # a call ended by something other than <|call|>
]
"""Kinds of `Recovered`: a closed set, fit for a metric's label."""

RECOVERY_KINDS: tuple[RecoveryKind, ...] = get_args(RecoveryKind)
