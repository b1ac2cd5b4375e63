"""`serving fetch`: bring checkpoints into the cache before engines need them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from serving.checkpoints.fetch import Source, fetch, wait
from serving.errors import CheckpointError


def fetch_command(
    sources: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Hub ids: OWNER/NAME or OWNER/NAME@REVISION.")
    ],
    cache: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="The cache. Unset: HF_HUB_CACHE, or the hub's default.")
    ] = None,
    only_wait: Annotated[
        bool, typer.Option("--wait", help="Fetch nothing; return once another process has fetched them.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long --wait waits.")] = 24 * 3600,
) -> None:
    """Bring checkpoints from the hub into the cache and check every byte, or wait until that is done.

    HF_ENDPOINT names a mirror, HF_TOKEN opens gated models. What is there already is not fetched again, and copies of
    the weights that vLLM does not read are left out.

    \b
    Examples:
      serving fetch openai/gpt-oss-20b
      serving fetch openai/gpt-oss-20b openai/gpt-oss-120b --cache /mnt/models
      serving fetch --wait openai/gpt-oss-20b
    """
    wanted = [Source.parse(text) for text in sources]
    if importlib.util.find_spec("huggingface_hub") is None:
        raise CheckpointError("huggingface_hub is missing: install gpt-oss-serving[cpu] or gpt-oss-serving[cuda]")
    if cache is None:
        from huggingface_hub.constants import HF_HUB_CACHE

        cache = Path(HF_HUB_CACHE)
    for source in wanted:
        if only_wait:
            wait(source, cache, typer.echo, timeout)
        else:
            fetch(source, cache, typer.echo)
