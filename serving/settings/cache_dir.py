"""Default folder for checkpoints and compiled kernels, where `cache_dir` is unset."""

from __future__ import annotations

import os
from pathlib import Path

from serving.errors import CheckpointError


def default_cache_dir() -> Path:
    """Default cache folder, by the XDG base directory specification."""
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(chosen):
        return Path(chosen) / "gpt-oss-serving"
    try:
        return Path.home() / ".cache" / "gpt-oss-serving"
    except RuntimeError as error:
        raise CheckpointError(
            "There is no home directory to keep the demo model's checkpoint in: set HOME, XDG_CACHE_HOME or "
            "SERVING_CACHE_DIR."
        ) from error
