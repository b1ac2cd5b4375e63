"""Screen for an answer as it comes: each channel in its colour, its cost at the end."""

from __future__ import annotations

from rich.console import Console
from rich.segment import Segment, Segments

from serving.client.events import Channel, ChannelEnd, ChannelStart, ChatEvent, TextDelta, ToolCall

_STYLES: dict[Channel, str] = {"analysis": "dim italic", "commentary": "cyan", "final": ""}
# A model's text must not move the cursor or talk to the terminal: of control characters only tab and line feed stay.
_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"} | {0x0D: None}


class Screen:
    """Screen on `console`. Without `reasoning` the analysis is only hinted at."""

    def __init__(self, console: Console, *, reasoning: bool = True) -> None:
        self.reasoning = reasoning
        self._console = console
        self._at_line_start = True

    def show(self, event: ChatEvent) -> None:
        """Show the next event of an answer."""
        match event:
            case ChannelStart():
                self._begin(event.channel)
            case TextDelta():
                if self.reasoning or event.channel != "analysis":
                    self._write(event.text, _STYLES[event.channel])
            case ChannelEnd():
                self.end_line()
            case ToolCall():
                self._write(f"{event.name}({event.arguments})", "magenta")
                self.end_line()
            case _:
                pass  # the costs are told by note(), with the times

    def note(self, text: str) -> None:
        """Print a note about the conversation, on a line of its own."""
        self.end_line()
        self._write(text, "dim")
        self.end_line()

    def error(self, text: str) -> None:
        """Print an error, on a line of its own."""
        self.end_line()
        self._write(text, "red")
        self.end_line()

    def end_line(self) -> None:
        """Go on at the beginning of a line."""
        if not self._at_line_start:
            self._write("\n", "")

    def _begin(self, channel: Channel) -> None:
        self.end_line()
        if channel == "analysis" and not self.reasoning:
            self._write("thinking ...", "dim")
        elif channel != "final":
            self._write(f"{channel}: ", f"bold {_STYLES[channel]}")

    def _write(self, text: str, style: str) -> None:
        text = text.translate(_CONTROLS)
        if text:
            self._at_line_start = text.endswith("\n")
            # Wrapping and tabs are the terminal's: text comes in pieces.
            segment = Segment(text, self._console.get_style(style))
            self._console.print(Segments([segment]), end="", soft_wrap=True)
            self._console.file.flush()
