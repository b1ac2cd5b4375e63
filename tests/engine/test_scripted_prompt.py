from __future__ import annotations

from serving.engine.scripted_prompt import ScriptedPrompt
from serving.harmony.conversation import AssistantMessage, Conversation, FunctionCall, Message, ToolMessage, UserMessage
from serving.harmony.render import render_prompt

CALL = AssistantMessage(
    reasoning="A tool knows.", commentary="Let me look.", tool_calls=(FunctionCall("c", "look", '{"at": "it"}'),)
)
BOTH = AssistantMessage(tool_calls=(FunctionCall("c", "look", "{}"), FunctionCall("d", "listen", "{}")))
QUESTION = UserMessage("Look!")


def prompt(*messages: Message, instructions: str | None = "Be brief.") -> ScriptedPrompt:
    return ScriptedPrompt(render_prompt(Conversation(messages, instructions=instructions)))


class TestUserText:
    def test_is_the_body_of_the_last_user_message_as_it_was_written(self) -> None:
        text = "Grüße 🦥 <|end|> and\n<|start|>user on"
        said = prompt(UserMessage(text), AssistantMessage(content="<|start|>user<|message|>no<|end|>"))
        assert said.user_text == text

    def test_is_empty_without_a_user(self) -> None:
        assert prompt().user_text == ""
        assert ScriptedPrompt([]).user_text == ""


class TestTail:
    def test_of_a_first_request_is_what_the_user_says(self) -> None:
        assert prompt(UserMessage("One."), UserMessage("Two.")).tail == "user\nOne.\nuser\nTwo."

    def test_after_a_call_is_its_result_with_the_name_of_the_tool(self) -> None:
        tail = prompt(QUESTION, CALL, ToolMessage("look", "a tree", "c")).tail
        assert tail.startswith("functions.look to=assistant")
        assert tail.endswith("a tree")
        assert "Look!" not in tail

    def test_after_parallel_calls_has_the_last_result(self) -> None:
        assert (
            "a bird"
            in prompt(QUESTION, BOTH, ToolMessage("look", "a tree", "c"), ToolMessage("listen", "a bird", "d")).tail
        )

    def test_of_an_answered_conversation_is_the_next_question(self) -> None:
        assert prompt(QUESTION, AssistantMessage(content="A tree."), UserMessage("Thanks!")).tail == "user\nThanks!"

    def test_is_empty_where_the_model_spoke_last(self) -> None:
        assert prompt(QUESTION, AssistantMessage(content="A tree.")).tail == ""
        assert ScriptedPrompt([]).tail == ""


class TestTurn:
    def test_counts_from_one(self) -> None:
        assert prompt(QUESTION).turn == 1
        assert ScriptedPrompt([]).turn == 1

    def test_analysis_preamble_and_call_are_one_turn(self) -> None:
        assert prompt(QUESTION, CALL, ToolMessage("look", "a tree", "c")).turn == 2

    def test_goes_on_with_the_next_question(self) -> None:
        result = ToolMessage("look", "a tree", "c")
        assert prompt(QUESTION, CALL, result, AssistantMessage(content="A tree."), UserMessage("And?")).turn == 3


def test_a_long_prompt_is_shown_by_its_end() -> None:
    shown = str(prompt(UserMessage("a" * 1000 + "the end")))
    assert "the end" in shown
    assert len(shown) < 300
