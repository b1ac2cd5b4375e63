from __future__ import annotations

from datetime import date

from serving.harmony.conversation import (
    AssistantMessage,
    Conversation,
    FunctionCall,
    FunctionTool,
    ToolMessage,
    UserMessage,
)
from serving.harmony.prompt import PromptMessage, prompt_messages
from serving.harmony.render import render_prompt


def test_a_prompt_is_read_back_as_it_was_put_together() -> None:
    conversation = Conversation(
        (
            UserMessage("old question"),
            AssistantMessage(content="old answer", reasoning="dropped"),
            UserMessage("<|end|> new\nquestion 🦄"),
            AssistantMessage(reasoning="thought", commentary="wait", tool_calls=(FunctionCall("a", "f", '{"x": 1}'),)),
            ToolMessage("f", "result", "a"),
        ),
        instructions="Be kind.",
        tools=(FunctionTool("f"),),
        current_date=date(2026, 1, 1),
    )
    system, developer, *rest = prompt_messages(render_prompt(conversation))
    assert (system.role, developer.role) == ("system", "developer")
    assert "2026-01-01" in system.content
    assert developer.content.startswith("# Instructions\n\nBe kind.")
    assert "type f = () => any;" in developer.content
    assert rest == [
        PromptMessage("user", "old question"),
        PromptMessage("assistant", "old answer", "final"),
        PromptMessage("user", "<|end|> new\nquestion 🦄"),
        PromptMessage("assistant", "thought", "analysis"),
        PromptMessage("assistant", "wait", "commentary"),
        PromptMessage("assistant", '{"x": 1}', "commentary", recipient="functions.f"),
        PromptMessage("tool", "result", "commentary", name="f"),
    ]


def test_a_prompt_of_nothing_but_the_system_message() -> None:
    (system,) = prompt_messages(render_prompt(Conversation(())))
    assert system.role == "system"
