"""Names shared by the graph, its replicas and the tools that watch them."""

from __future__ import annotations

import re

APPLICATION = "gpt-oss-serving"
INGRESS = "ingress"


def engine_deployment(model: str) -> str:
    """The deployment that serves `model`; Serve's names take no slash, no space and no `#`."""
    return "engine-" + re.sub(r"[^A-Za-z0-9._-]", "-", model)
