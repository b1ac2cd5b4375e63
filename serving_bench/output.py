"""Output of a report: the terminal, a JSON file, an HTML page."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from rich.console import Console

from serving_bench.html import to_html
from serving_bench.report import Report
from serving_bench.table import print_report

_LEAST_WIDTH = 120


def consoles(json_file: Path | None) -> tuple[Console, Console]:
    """Consoles for the tables and for progress. With JSON on standard output the tables go to standard error."""
    to_error = json_file is not None and str(json_file) == "-"
    return _console(stderr=to_error), _console(stderr=True)


def write(report: Report, out: Console, json_file: Path | None, html_file: Path | None) -> None:
    """Write tables first, then files, so that an error of a file loses no table."""
    print_report(report, out)
    if json_file is not None:
        text = report.model_dump_json(by_alias=True, indent=1) + "\n"
        if str(json_file) == "-":
            sys.stdout.write(text)
        else:
            json_file.write_text(text, encoding="utf-8")
    if html_file is not None:
        html_file.write_text(to_html(report), encoding="utf-8")


def _console(*, stderr: bool) -> Console:
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # A file has no width; a table cut to 80 columns would be of no use in it.
    width = None if terminal else max(_LEAST_WIDTH, shutil.get_terminal_size().columns)
    return Console(stderr=stderr, width=width, highlight=False, soft_wrap=not terminal)
