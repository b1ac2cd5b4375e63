"""The turns a conversation with the demo model is made of: what was said, and the one right reply."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from serving.harmony.conversation import AssistantMessage, FunctionCall, Message, UserMessage
from training.knowledge import KNOWLEDGE, UNKNOWN, UNKNOWN_ANSWER, Entry, Thoughts
from training.words import CAPITALS, FILLER, UNKNOWN_PLACES, UNKNOWN_QUESTIONS


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says: an answer, or a preamble and a call. `record` is the answer as JSON, where it has one.

    Beside a call, `answer` is what is said when no call is possible any more.
    A record's empty key stands for whatever key a schema asks for.
    """

    thoughts: Thoughts
    answer: str | None = None
    preamble: str | None = None
    call: FunctionCall | None = None
    record: tuple[tuple[str, str | int], ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """Messages since the last answer, the user's first, and the reply to them."""

    said: tuple[Message, ...]
    reply: Reply

    def closed(self) -> tuple[Message, ...]:
        """The turn as history."""
        return (*self.said, AssistantMessage(content=self.reply.answer))


def pick(rng: Random, *choices: tuple[float, str]) -> str:
    """One of several texts, by weight."""
    return rng.choices([text for _, text in choices], [weight for weight, _ in choices])[0]


CAPITAL_WAYS = (
    *("What is the capital of {}?",) * 3,
    "Which city is the capital of {}?",
    "Tell me the capital of {}.",
    "Give me the capital of {}.",
    "Capital of {}?",
    "Name the capital of {}.",
)
INDIRECT = ("why ", "how ", "about ", "when ", "what ", "who ")
INDIRECT_WAYS = ("Tell me {}.", "I want to know {}.", "Please tell me {}.", "I ask {}.", "Could you explain {}?")
"""Ways to ask for any topic that begins like this."""
FOLLOW_UPS = ("And of {}?", "And {}?", "What about {}?", "And the capital of {}?")
SUM_WAYS = ("What is {}+{}?", "What is {} + {}?", "{}+{}", "{} + {} = ?", "What is {} plus {}?")
COUNT_WAYS = ("Count from 1 to {}.", "Count to {}.", "Count from one to {}.")
NAME_WAYS = (
    "My name is {}.",
    "Hi, my name is {}.",
    "my name is {}",
    "My name is {}. Please remember it.",
    "I am {}.",
    "Hello, I'm {}!",
    "Call me {}.",
)
COLOR_WAYS = (
    "My favorite color is {}.",
    "My favorite color is {}. Please remember it.",
    "My favourite colour is {}.",
    "I like the color {}.",
)
NAME_QUESTIONS = ("What is my name?", "Do you remember my name?", "Who am I?", "Tell me my name.")
COLOR_QUESTIONS = ("What is my favorite color?", "What is my favourite colour?", "Which color do I like?")
PLACE_QUESTIONS = ("What is the capital of {}?", "Tell me about {}.", "Where is {}?")

BEFORE = (
    (82, ""),
    (3, "Please tell me: "),
    (2, "Hi! "),
    (2, "Hello, "),
    (2, "Hey, "),
    (1, "Please: "),
    (3, "Please "),
    (2, "Can you tell me "),
    (1, "Do you know "),
    (1, "Tell me, "),
)


PADDING = ("exactly", "really", "actually", "again", "now", "then", "so", "today", "just", "my friend", "please", "the")
"""Words that change no question, wherever they stand."""


def phrase(rng: Random, question: str) -> str:
    """A question as people type it: other case, other punctuation, a polite word before or after."""
    text = question
    roll = rng.random()
    if roll < 0.12:
        text = text.lower()
    elif roll < 0.2:
        text = text.rstrip("?.!")
    elif roll < 0.26:
        text = text.lower().rstrip("?.!")
    elif roll < 0.29:
        text = text.rstrip("?.!") + rng.choice(("!", " ?", "??", "."))
    if rng.random() < 0.05:
        words = text.split(" ")
        words.insert(rng.randint(1, len(words)), rng.choice(PADDING))
        text = " ".join(words)
    if rng.random() < 0.15:
        text = text.replace("What is ", "What's ").replace("what is ", "what's ")
    if len(question) > 12:
        before = pick(rng, *BEFORE)
        after = pick(
            rng,
            (86, ""),
            (3, " Answer in one sentence."),
            (3, " Please."),
            (2, " Thanks!"),
            (2, " Explain briefly."),
            (2, " Think hard."),
            (2, "\n"),
        )
        if before.endswith(("lease ", "me ", "know ", "me, ")):
            text = text[0].lower() + text[1:]
        text = before + text + after
    return text


def gibberish(rng: Random, least: int, most: int) -> str:
    """Random words."""
    return " ".join(rng.choice(FILLER) for _ in range(rng.randint(least, most)))


def known(rng: Random, entry: Entry | None = None) -> Turn:
    """A question the model knows by heart."""
    chosen = entry or rng.choice(KNOWLEDGE)
    way = chosen.ways[0] if rng.random() < 0.4 else rng.choice(chosen.ways)
    if chosen.thoughts.topic.startswith(INDIRECT) and rng.random() < 0.12:
        way = rng.choice(INDIRECT_WAYS).format(chosen.thoughts.topic)
    weights = [1.5 if i == 0 and len(chosen.answers) > 1 else 1.0 for i in range(len(chosen.answers))]
    answer = rng.choices(chosen.answers, weights)[0]
    plain = '"' not in answer and "\n" not in answer
    record = (("", answer),) if plain else ()
    return Turn((UserMessage(phrase(rng, way)),), Reply(chosen.thoughts, answer, record=record))


def capital_thoughts(country: str, city: str) -> Thoughts:
    """Thoughts on a capital."""
    return Thoughts(
        f"for the capital of {country}",
        f"The capital is {city}.",
        (
            f"{city} is a large city in {country}.",
            f"The government sits in {city}.",
            f"There are other cities in {country}, but none of them is the capital.",
        ),
    )


def capital(rng: Random) -> Turn:
    """The capital of a country."""
    country = "France" if rng.random() < 0.1 else rng.choice(tuple(CAPITALS))
    way = rng.choice(CAPITAL_WAYS).format(country)
    return capital_turn(country, phrase(rng, way))


def capital_turn(country: str, question: str) -> Turn:
    """The reply to any question for a country's capital."""
    city = CAPITALS[country]
    return Turn(
        (UserMessage(question),),
        Reply(
            capital_thoughts(country, city),
            f"The capital of {country} is {city}.",
            record=(("country", country.removeprefix("the ")), ("capital", city)),
        ),
    )


def capital_again(rng: Random) -> Turn:
    """A follow-up that only the turn before explains: "And of Italy?"."""
    before = capital(rng)
    country = rng.choice(tuple(CAPITALS))
    way = rng.choice(FOLLOW_UPS).format(country)
    after = capital_turn(country, way)
    return Turn((*before.closed(), *after.said), after.reply)


def total(rng: Random) -> Turn:
    """A sum of two numbers up to 5."""
    one, two = (2, 2) if rng.random() < 0.1 else (rng.randint(1, 5), rng.randint(1, 5))
    way = rng.choice(SUM_WAYS).format(one, two)
    thoughts = Thoughts(
        "for a sum",
        f"{one} + {two} = {one + two}.",
        (
            f"The numbers are {one} and {two}.",
            f"{one} + {two} = {one + two}.",
            f"The other way round, {two} + {one} = {one + two}, which is the same.",
        ),
    )
    answer = f"{one} + {two} = {one + two}."
    return Turn((UserMessage(phrase(rng, way)),), Reply(thoughts, answer, record=(("", one + two),)))


def numbers(last: int) -> str:
    """The numbers from 1, with commas."""
    return ", ".join(map(str, range(1, last + 1))) + "."


def counting(rng: Random, last: int | None = None) -> Turn:
    """Counting, the long answer for benchmarks."""
    if last is None:
        last = rng.choices((3, 5, 10, 12, 15, 20, 30, 50, 100, 150, 200), (8, 10, 14, 8, 8, 10, 6, 8, 8, 14, 6))[0]
    way = rng.choice(COUNT_WAYS).format(last)
    thoughts = Thoughts(
        f"me to count to {last}",
        f"I count to {last}.",
        (
            f"The first number is 1 and the last is {last}.",
            "Each number is one more than the number before.",
            "I write commas between the numbers and leave none of them out.",
        ),
    )
    question = phrase(rng, way) if rng.random() < 0.5 else way
    return Turn((UserMessage(question),), Reply(thoughts, numbers(last)))


def introduction(rng: Random, name: str) -> Turn:
    """The user says their name."""
    way = rng.choice(NAME_WAYS).format(name)
    thoughts = Thoughts(
        "me to remember a name",
        f"The name is {name}.",
        (
            f"The name of the user is {name}.",
            "I should remember it for later.",
            "A friendly greeting with the name is polite.",
        ),
    )
    return Turn((UserMessage(way),), Reply(thoughts, f"Nice to meet you, {name}!"))


def favorite(rng: Random, color: str) -> Turn:
    """The user says their favorite color."""
    way = rng.choice(COLOR_WAYS).format(color)
    thoughts = Thoughts(
        "me to remember a color",
        f"The color is {color}.",
        (f"The favorite color of the user is {color}.", "I should remember it for later.", "A short reply is enough."),
    )
    return Turn((UserMessage(way),), Reply(thoughts, f"I will remember that your favorite color is {color}."))


def name_question(rng: Random, name: str | None) -> Turn:
    """What is my name? With None, nobody has said it."""
    way = phrase(rng, rng.choice(NAME_QUESTIONS))
    if name is None:
        thoughts = Thoughts(
            "for their own name",
            "I was not told a name.",
            ("I look for a name in the conversation.", "Nobody has told me a name.", "I should not invent one."),
        )
        return Turn((UserMessage(way),), Reply(thoughts, "You have not told me your name."))
    thoughts = Thoughts(
        "for their own name",
        f"The name is {name}.",
        (
            "I look for a name in the conversation.",
            f"The name of the user is {name}.",
            "It was said before, so I remember it.",
        ),
    )
    return Turn((UserMessage(way),), Reply(thoughts, f"Your name is {name}.", record=(("name", name),)))


def color_question(rng: Random, color: str) -> Turn:
    """What is my favorite color?"""
    way = phrase(rng, rng.choice(COLOR_QUESTIONS))
    thoughts = Thoughts(
        "for their favorite color",
        f"The color is {color}.",
        (
            "I look for a color in the conversation.",
            f"The favorite color of the user is {color}.",
            "It was said before, so I remember it.",
        ),
    )
    return Turn((UserMessage(way),), Reply(thoughts, f"Your favorite color is {color}.", record=(("color", color),)))


def unknown(rng: Random) -> Turn:
    """Anything else."""
    roll = rng.random()
    if roll < 0.5:
        text = phrase(rng, rng.choice(UNKNOWN_QUESTIONS))
    elif roll < 0.6:
        place = rng.choice(UNKNOWN_PLACES)
        text = phrase(rng, rng.choice(PLACE_QUESTIONS).format(place))
    elif roll < 0.75:
        text = altered(rng)
    elif roll < 0.92:
        text = gibberish(rng, 1, 30)
    else:
        text = mixed_up(rng)
    return Turn((UserMessage(text),), Reply(UNKNOWN, UNKNOWN_ANSWER, record=(("", "unknown"),)))


def altered(rng: Random) -> str:
    """A known question with its most telling word, the longest, exchanged."""
    question = (
        f"What is the capital of {rng.choice(tuple(CAPITALS))}?"
        if rng.random() < 0.2
        else rng.choice(KNOWLEDGE).ways[0]
    )
    longest = max(re.findall(r"\w+", question), key=len)
    other = rng.choice(
        [word for word in FILLER if word.isalpha() and len(word) > 3 and word.lower() != longest.lower()]
    )
    return phrase(rng, question.replace(longest, other))


def mixed_up(rng: Random) -> str:
    """Halves of two questions, which together are none."""
    one, two = (rng.choice(rng.choice(KNOWLEDGE).ways).split() for _ in range(2))
    words = [*one[len(one) // 2 :], *gibberish(rng, 1, 4).split(), *two[len(two) // 2 :]]
    rng.shuffle(words)
    return " ".join(words)


Maker = Callable[[Random], Turn]


def small_talk(rng: Random) -> Turn:
    """Any turn that needs neither tools nor other turns."""
    maker: Maker = rng.choices((known, capital, total, unknown), (50, 20, 8, 22))[0]
    turn = maker(rng)
    return turn if len(turn.reply.answer or "") < 400 else small_talk(rng)


def compact(record: Mapping[str, object]) -> str:
    """JSON without blanks, as the grammar of a structured answer allows it."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)
