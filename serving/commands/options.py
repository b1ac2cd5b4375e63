"""Options of several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings file, YAML. Unset: $SERVING_CONFIG.")
]
