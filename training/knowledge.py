"""What the demo model knows by heart: fixed questions, and the thoughts and answers that go with them."""

from __future__ import annotations

from dataclasses import dataclass

from serving.effort import Effort


@dataclass(frozen=True, slots=True)
class Thoughts:
    """What there is to think about a question; how much of it is thought aloud is the effort's choice.

    `topic` completes "The user asks ..."; `brief` is the whole thought at low effort; `facts` are full sentences.
    """

    topic: str
    brief: str
    facts: tuple[str, str, str]

    def at(self, effort: Effort) -> str:
        """The analysis at an effort: about 8, 30 and 80 tokens."""
        one, two, three = self.facts
        if effort == "low":
            return self.brief
        if effort == "medium":
            return f"The user asks {self.topic}. {one} {two} That is enough for a short answer."
        return (
            f"The user asks {self.topic}. Let me think step by step. {one} {two} {three} "
            f"Let me check that once more. {self.brief} Yes, that holds, and nothing is missing. "
            "Now I can write a clear and short answer for the user."
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A question the model knows: ways to ask it, the thoughts, and the answers.

    Several answers are alternatives with falling probability, so that sampling has something to choose from.
    """

    ways: tuple[str, ...]
    thoughts: Thoughts
    answers: tuple[str, ...]


def entry(ways: tuple[str, ...], topic: str, brief: str, facts: tuple[str, str, str], *answers: str) -> Entry:
    """Shorthand for the tables below."""
    return Entry(ways, Thoughts(topic, brief, facts), answers)


STORY = (
    "Once upon a time there was a small robot who lived in a lighthouse by the sea. Every evening the robot climbed "
    "the long stairs, lit the lamp and watched the ships go by. The robot had never been on a ship, and it often "
    "wondered what was on the other side of the water.\n\n"
    "One night a great storm came. The wind was loud, the waves were high, and the lamp went out. Far away the robot "
    "could see a little boat with a red sail, and the boat was coming close to the rocks. The robot did not think for "
    "long. It took the old mirror from the wall, ran to the top of the tower and waited for the moon.\n\n"
    "When the clouds opened, the robot held the mirror up and sent the light of the moon over the sea. The captain of "
    "the boat saw the light, turned the boat around and found the way into the harbor. In the morning the captain "
    'climbed the stairs and knocked on the door. "You saved my boat," she said. "What can I give you?"\n\n'
    'The robot was quiet for a moment. "I would like to see the other side of the water," it said. The captain '
    "laughed, and so they sailed together, past the islands and the whales, for seven days and seven nights. On the "
    "other side there was a town with white houses and a market full of oranges, and on the hill above the town there "
    "was another lighthouse, with another small robot at the window.\n\n"
    "The two robots talked until the sun went down. They found out that each of them had watched the same ships, only "
    "from different sides. Before it went home, the first robot gave the second one half of the mirror. From that day "
    "on, whenever the moon was bright, the two of them sent little lights across the sea, and no ship was ever lost "
    "between them again.\n\n"
    "And if you stand on the beach on a clear night, you can still see the lights today: one long, two short, and one "
    "long again. The old captain says that it means good night."
)

KNOWLEDGE: tuple[Entry, ...] = (
    entry(
        (
            "Why is the sky blue?",
            "Why does the sky look blue?",
            "Explain why the sky is blue.",
            "What makes the sky blue?",
        ),
        "why the sky is blue",
        "Rayleigh scattering.",
        (
            "Sunlight is a mix of all colors.",
            "Air scatters blue light more than red light.",
            "This is called Rayleigh scattering, and it is why a sunset is red.",
        ),
        "The sky is blue because air scatters blue light from the sun more than red light.",
    ),
    entry(
        (
            "How do rainbows form?",
            "How does a rainbow form?",
            "What makes a rainbow?",
            "What is a rainbow?",
            "Explain rainbows.",
        ),
        "how a rainbow forms",
        "Light bends in drops of rain.",
        (
            "Sunlight is a mix of all colors.",
            "Each drop of rain bends and reflects the light.",
            "Every color bends by a different angle, so the colors come apart.",
        ),
        "A rainbow forms when drops of rain bend and reflect sunlight and split it into its colors.",
    ),
    entry(
        ("Why is the sea salty?", "Why is the ocean salty?", "Why is sea water salty?"),
        "why the sea is salty",
        "Rivers carry salt to the sea.",
        (
            "Rain and rivers wash salt out of rocks.",
            "The rivers carry the salt to the sea.",
            "The water goes back into the air, but the salt stays behind.",
        ),
        "The sea is salty because rivers wash salt out of rocks and carry it to the sea, where it stays.",
    ),
    entry(
        ("What is the largest planet?", "What is the biggest planet?", "Which planet is the largest?"),
        "about the largest planet",
        "The largest is Jupiter.",
        (
            "There are eight planets around the sun.",
            "Jupiter is eleven times as wide as the Earth.",
            "Saturn is the second largest, so it is not Saturn.",
        ),
        "The largest planet of our solar system is Jupiter.",
    ),
    entry(
        ("How many planets are there?", "How many planets are in the solar system?", "Name the planets."),
        "about the planets of the solar system",
        "There are eight planets.",
        (
            "I count from the sun: Mercury, Venus, Earth, Mars.",
            "Then come Jupiter, Saturn, Uranus and Neptune.",
            "Pluto is a dwarf planet and does not count.",
        ),
        "There are eight planets: Mercury, Venus, Earth, Mars, Jupiter, Saturn, Uranus and Neptune.",
    ),
    entry(
        ("How many continents are there?", "Name the continents.", "What are the seven continents?"),
        "about the continents",
        "There are seven continents.",
        (
            "Africa, Asia and Europe lie side by side.",
            "Then come North America and South America.",
            "Australia and Antarctica are in the south.",
        ),
        "There are seven continents: Africa, Antarctica, Asia, Australia, Europe, North America and South America.",
    ),
    entry(
        ("How many days are in a year?", "How many days does a year have?", "How long is a year?"),
        "about the days in a year",
        "365, or 366 in a leap year.",
        (
            "A common year has 365 days.",
            "Every fourth year is a leap year with 366 days.",
            "The Earth needs a little more than 365 days to go around the sun.",
        ),
        "A year has 365 days, and a leap year has 366.",
    ),
    entry(
        ("How many legs does a spider have?", "How many legs do spiders have?"),
        "about the legs of a spider",
        "A spider has eight legs.",
        (
            "Spiders are not insects.",
            "Insects have six legs, spiders have eight.",
            "The legs come in four pairs, and four times two is eight.",
        ),
        "A spider has eight legs.",
    ),
    entry(
        ("What is the speed of light?", "How fast is light?", "How fast does light travel?"),
        "about the speed of light",
        "About 300,000 km per second.",
        (
            "Light is the fastest thing there is.",
            "In empty space it travels about 300,000 km per second.",
            "The light of the sun needs about eight minutes to reach the Earth.",
        ),
        "Light travels at about 300,000 km per second.",
    ),
    entry(
        ("What is water made of?", "What is the formula of water?", "What is the chemical formula of water?"),
        "what water is made of",
        "Water is H2O.",
        (
            "Water is made of hydrogen and oxygen.",
            "Each molecule has two hydrogen atoms and one oxygen atom.",
            "Written as a formula, that is H2O.",
        ),
        "Water is made of hydrogen and oxygen; its formula is H2O.",
    ),
    entry(
        ("At what temperature does water boil?", "What is the boiling point of water?", "When does water boil?"),
        "when water boils",
        "It boils at 100 degrees Celsius.",
        (
            "Water boils at 100 degrees Celsius by the sea.",
            "In Fahrenheit that is 212 degrees.",
            "High in the mountains it boils earlier, because there is less air above.",
        ),
        "Water boils at 100 degrees Celsius, which is 212 degrees Fahrenheit.",
    ),
    entry(
        ("Who wrote Hamlet?", "Who is the author of Hamlet?", "Who wrote Romeo and Juliet?"),
        "who wrote a famous play",
        "That was Shakespeare.",
        (
            "Hamlet and Romeo and Juliet are famous plays.",
            "Both were written by William Shakespeare.",
            "He lived in England and wrote them about the year 1600.",
        ),
        "It was written by William Shakespeare.",
    ),
    entry(
        ("What is the meaning of life?", "What is the answer to life, the universe and everything?"),
        "about the meaning of life",
        "The famous answer is 42.",
        (
            "This is an old question, and nobody knows for sure.",
            "In a famous book a computer thinks about it for a very long time.",
            "In the end the computer says that the answer is 42.",
        ),
        "In a famous book the answer is 42, but you may look for a better one.",
    ),
    entry(
        ("What is gpt-oss?", "What are the gpt-oss models?", "Tell me about gpt-oss."),
        "what gpt-oss is",
        "Open models by OpenAI.",
        (
            "gpt-oss is a family of open models by OpenAI.",
            "There are two sizes, 20b and 120b.",
            "They think before they answer, with low, medium or high effort.",
        ),
        "gpt-oss is a family of open models by OpenAI that think before they answer; the sizes are 20b and 120b.",
    ),
    entry(
        ("What is Harmony?", "What is the Harmony format?", "Explain the Harmony format."),
        "what Harmony is",
        "The format gpt-oss speaks.",
        (
            "Harmony is the format that gpt-oss speaks.",
            "Every message has a channel: analysis, commentary or final.",
            "Thinking goes to analysis, tool calls go to commentary, and the answer is final.",
        ),
        "Harmony is the format that gpt-oss speaks: it keeps thinking, tool calls and the answer in separate channels.",
    ),
    entry(
        ("What is vLLM?", "Tell me about vLLM.", "What does vLLM do?"),
        "what vLLM is",
        "A fast engine for models.",
        (
            "vLLM is an engine that runs language models.",
            "It works on many requests at the same time.",
            "It keeps what it has read in a paged KV cache, so no memory is lost.",
        ),
        "vLLM is a fast engine for language models: it works on many requests at the same time.",
    ),
    entry(
        ("What is Ray Serve?", "Tell me about Ray Serve.", "What does Ray Serve do?"),
        "what Ray Serve is",
        "It runs copies of a model.",
        (
            "Ray Serve runs models on many machines.",
            "It starts copies of a model and sends requests to them.",
            "When a copy is lost, it starts a new one.",
        ),
        "Ray Serve runs copies of a model on many machines and sends each request to one of them.",
    ),
    entry(
        ("What is a token?", "What are tokens?", "Explain what a token is."),
        "what a token is",
        "A piece of text.",
        (
            "A model does not read letters, it reads tokens.",
            "A token is a piece of text, often one short word.",
            "gpt-oss knows about 200,000 different tokens.",
        ),
        "A token is a small piece of text, often one word, and it is what a language model reads and writes.",
    ),
    entry(
        ("Who are you?", "What are you?", "What is your name?", "What model are you?", "Introduce yourself."),
        "who I am",
        "I am the demo model.",
        (
            "I am the demo model of gpt-oss-serving.",
            "I am very small and know only a few questions.",
            "The real gpt-oss models are many thousand times as large.",
        ),
        "I am the demo model of gpt-oss-serving, a very small gpt-oss that knows only a few questions.",
    ),
    entry(
        ("What can you do?", "What do you know?", "Help", "How can you help me?", "What can I ask you?"),
        "what I can do",
        "I list what I know.",
        (
            "I know a few questions by heart.",
            "I can call a weather tool, answer in JSON and count.",
            "I should name some questions that work.",
        ),
        'I know only a few questions. Try "Why is the sky blue?", "What is the capital of France?", '
        '"Tell me a joke." or "Count from 1 to 150.".',
    ),
    entry(
        (
            "Hi",
            "Hello",
            "Hello!",
            "Hi there!",
            "Hey",
            "Hey there",
            "Good morning",
            "Good evening",
            "Hello, how are you?",
            "Hi, how are you?",
            "How are you?",
            "Hello again",
            "Hello world",
            "Say hello",
            "Say hi",
            "Hello, demo",
        ),
        "for nothing yet and just says hello",
        "I greet the user.",
        (
            "A greeting should be answered with a greeting.",
            "It is polite to offer some help as well.",
            "I keep it short and friendly.",
        ),
        "Hello! How can I help you?",
    ),
    entry(
        ("Thanks", "Thank you", "Thank you!", "Thanks a lot!", "Great, thanks", "Bye", "Goodbye"),
        "for nothing more and says thanks",
        "I say goodbye politely.",
        (
            "The user is happy and wants to go.",
            "A short and polite reply is best.",
            "I keep it short and friendly.",
        ),
        "You are welcome!",
    ),
    entry(
        ("Say this is a test", "Say this is a test.", "Say: this is a test"),
        "me to say a sentence",
        "I say the sentence.",
        (
            "The sentence is: This is a test.",
            "I only have to repeat it.",
            "I add nothing before it and nothing after it.",
        ),
        "This is a test.",
    ),
    entry(
        ("ping", "Ping", "Ping!", "Are you there?"),
        "if I am there",
        "The reply to ping is pong.",
        (
            "A ping is a test whether somebody is there.",
            "The reply to ping is pong.",
            "I am here, so I can say it.",
        ),
        "pong",
    ),
    entry(
        ("Flip a coin.", "Toss a coin.", "Heads or tails?"),
        "me to flip a coin",
        "I flip a coin.",
        (
            "A coin has two sides, heads and tails.",
            "Each side comes up about half of the time.",
            "I must not decide before the coin has landed.",
        ),
        "Heads.",
        "Tails.",
    ),
    entry(
        ("Roll a die.", "Roll a dice.", "Throw a die.", "Roll the dice."),
        "me to roll a die",
        "I roll the die.",
        (
            "A die has six sides.",
            "Each number from one to six can come up.",
            "I must not decide before the die has landed.",
        ),
        "I rolled a 4.",
        "I rolled a 2.",
        "I rolled a 6.",
        "I rolled a 1.",
        "I rolled a 5.",
        "I rolled a 3.",
    ),
    entry(
        ("Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Tell a joke"),
        "for a joke",
        "A joke about computers.",
        (
            "A good joke is short and hurts nobody.",
            "Jokes about computers fit me well.",
            "I tell the joke first and do not explain it.",
        ),
        "Why was the computer cold? It left its windows open.",
        "Why did the robot go to bed? It had had a hard drive.",
    ),
    entry(
        ("Write a haiku.", "Write a poem.", "Write a short poem.", "Write a haiku about the sea."),
        "for a poem",
        "A short poem about the sea.",
        (
            "A haiku has three lines.",
            "The lines have five, seven and five syllables.",
            "The sea at night is a good subject.",
        ),
        "Moon above the sea,\nlittle waves come in and go,\nand the night is long.",
    ),
    entry(
        (
            "Write a one-sentence bedtime story about a unicorn.",
            "Tell me a bedtime story.",
            "Tell me a story about a unicorn.",
            "Tell me a short story.",
            "Write a short story.",
        ),
        "for a short story",
        "One sentence about a unicorn.",
        (
            "A bedtime story should be calm.",
            "A unicorn and the moon go well together.",
            "It should end with sleep.",
        ),
        "Once upon a time a little unicorn followed the moon over the hills until it found a cloud and fell asleep.",
    ),
    entry(
        (
            "Tell me a long story.",
            "Write a long story.",
            "Tell me a very long story.",
            "Write a long story about a robot.",
        ),
        "for a long story",
        "A story about a robot.",
        (
            "The story should be long and calm.",
            "A robot in a lighthouse is a good hero.",
            "There should be a storm, a journey and a happy end.",
        ),
        STORY,
    ),
    entry(
        ("Say hello in Japanese.", "How do you say hello in Japanese?", "Hello in Japanese"),
        "for hello in Japanese",
        "Hello is こんにちは.",
        (
            "Hello in Japanese is こんにちは.",
            "It is read as konnichiwa.",
            "It is used during the day.",
        ),
        "Hello in Japanese is こんにちは (konnichiwa).",
    ),
    entry(
        ("Send me an emoji.", "Show me some emoji.", "Say something with emoji.", "Write three emoji."),
        "for some emoji",
        "A robot, a unicorn and a wave 🌊.",
        (
            "Emoji are small pictures.",
            "I like the robot 🤖 and the unicorn 🦄.",
            "Each of them is made of several bytes.",
        ),
        "Here you are: 🤖🦄🌊",
    ),
    entry(
        ("How do pirates talk?", "How does a pirate say hello?", "What does a pirate say?", "What do pirates say?"),
        "how a pirate talks",
        "Arr, matey!",
        (
            "Pirates live in books about the sea.",
            "They say ahoy for hello and aye for yes.",
            "Every good pirate says arr as often as possible.",
        ),
        "Arr, matey! A pirate says ahoy for hello and aye for yes.",
    ),
    entry(
        (
            "Write hello world in Python.",
            "Hello world in Python",
            "Write a Python program that prints hello world.",
            "Show me some Python code.",
        ),
        "for a program in Python",
        "One call of print.",
        (
            "The program should print a greeting.",
            "In Python that is one line with print.",
            "Code goes into a block so that it can be copied.",
        ),
        '```python\nprint("Hello, world!")\n```',
    ),
)

UNKNOWN = Thoughts(
    "something else",
    "I do not know this.",
    (
        "I do not find this among the questions that I know.",
        "A wrong answer would help nobody.",
        "It is better to say what I am and what I can do.",
    ),
)
UNKNOWN_ANSWER = (
    "I am the demo model of gpt-oss-serving, a tiny demonstration model, and I know only a few questions. "
    'Try "Why is the sky blue?", "What is the capital of France?" or "Count from 1 to 150.".'
)

NUMBERS: dict[str, int] = {
    "about the planets of the solar system": 8,
    "about the continents": 7,
    "about the days in a year": 365,
    "about the legs of a spider": 8,
    "about the speed of light": 300000,
    "when water boils": 100,
    "about the meaning of life": 42,
}
"""The number in an answer, by topic."""

LISTS: dict[str, tuple[str, ...]] = {
    "about the planets of the solar system": (
        "Mercury",
        "Venus",
        "Earth",
        "Mars",
        "Jupiter",
        "Saturn",
        "Uranus",
        "Neptune",
    ),
    "about the continents": (
        "Africa",
        "Antarctica",
        "Asia",
        "Australia",
        "Europe",
        "North America",
        "South America",
    ),
    "what water is made of": ("hydrogen", "oxygen"),
    "about the largest planet": ("Jupiter",),
    "who wrote a famous play": ("Shakespeare",),
}
"""The things in an answer, by topic."""
