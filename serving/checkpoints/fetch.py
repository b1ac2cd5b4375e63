"""Download of checkpoints from a Hugging Face hub, or a mirror, into the local cache, with a check of every byte.

The cache is huggingface_hub's own (HF_HUB_CACHE), so that vLLM finds there what was fetched here. A checkpoint that
has been checked is marked beside its files; whoever waits for it (an engine's pod) looks for the mark.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from serving.errors import CheckpointError

SKIPPED = ("original/*", "metal/*")
"""Further copies of gpt-oss's weights in other formats, as large as the one that vLLM reads."""

_CHUNK_BYTES = 8 * 1024 * 1024
_PROGRESS_EVERY_S = 10.0
_WAIT_POLL_S = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Source:
    """Hub id with the wanted branch, tag or commit."""

    repository: str
    revision: str = "main"

    @classmethod
    def parse(cls, text: str) -> Source:
        """Source from `openai/gpt-oss-20b` or `openai/gpt-oss-20b@REVISION`; raises CheckpointError otherwise."""
        repository, at, revision = text.partition("@")
        owner, slash, name = repository.partition("/")
        if not (owner and slash and name) or "/" in name or (at and not revision) or repository.startswith((".", "~")):
            raise CheckpointError(f"`{text}` is no hub id: write OWNER/NAME or OWNER/NAME@REVISION")
        return cls(repository, revision or "main")

    def __str__(self) -> str:
        return self.repository if self.revision == "main" else f"{self.repository}@{self.revision}"

    def folder(self, cache: Path) -> Path:
        """Directory of the source in the cache."""
        return cache / f"models--{self.repository.replace('/', '--')}"


@dataclass(frozen=True, slots=True)
class File:
    """File as the hub describes it: `digest` is SHA-256 for large files, git's blob id (SHA-1) for small ones."""

    name: str
    size: int
    algorithm: str
    digest: str


def fetch(source: Source, cache: Path, say: Say) -> Path:
    """Download what is missing, check all of it, mark it; returns the snapshot's directory. Raises CheckpointError.

    A file that does not match is fetched once more.
    """
    commit, files = _described(source)
    total = sum(file.size for file in files)
    say(f"{source}: {len(files)} files, {total / 1e9:.2f} GB, commit {commit[:12]}")
    if (marked := verified(source, cache, commit)) is not None:
        say(f"{source}: in the cache and checked already")
        return marked
    for attempt in (1, 2):
        with _progress(source, cache, total, say):
            snapshot = _download(source, commit, cache)
        say(f"{source}: checking")
        damaged = [file for file in files if not is_intact(snapshot / file.name, file)]
        if not damaged:
            break
        names = ", ".join(file.name for file in damaged)
        if attempt == 2:
            raise CheckpointError(f"{source}: {names} came damaged twice; the hub, the mirror or the disk is at fault")
        say(f"{source}: fetching again what came damaged: {names}")
        for file in damaged:
            # The snapshot has links; what they lead to is what is damaged.
            (snapshot / file.name).resolve().unlink(missing_ok=True)
    _mark_path(source, cache, commit).write_text(json.dumps({file.name: file.size for file in files}))
    say(f"{source}: complete")
    return snapshot


def wait(source: Source, cache: Path, say: Say, seconds: float) -> Path:
    """Wait until another process has fetched and checked the snapshot; returns its directory, asks no hub.

    Raises CheckpointError after `seconds`.
    """
    deadline = time.monotonic() + seconds
    told = 0.0
    while (snapshot := verified(source, cache)) is None:
        now = time.monotonic()
        if now >= deadline:
            raise CheckpointError(
                f"{source} is not in {cache} after {seconds:g} s; see the log of the Job that fetches it"
            )
        if now >= told:
            say(f"{source}: waiting until it is fetched")
            told = now + 60
        time.sleep(min(_WAIT_POLL_S, deadline - now))
    return snapshot


def verified(source: Source, cache: Path, commit: str | None = None) -> Path | None:
    """Directory of the snapshot if it is marked and every file has its size; else None."""
    folder = source.folder(cache)
    try:
        commit = commit or _commit(folder, source.revision)
        sizes: dict[str, int] = json.loads(_mark_path(source, cache, commit).read_text())
        snapshot = folder / "snapshots" / commit
        intact = all((snapshot / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return None
    return snapshot if intact else None


def is_intact(path: Path, file: File) -> bool:
    """Whether the file at `path` has the hub's size and digest."""
    if not path.is_file() or path.stat().st_size != file.size:
        return False
    digest = hashlib.new(file.algorithm, usedforsecurity=False)
    if file.algorithm == "sha1":
        digest.update(f"blob {file.size}\0".encode())
    with path.open("rb") as content:
        while chunk := content.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest() == file.digest


def _commit(folder: Path, revision: str) -> str:
    reference = folder / "refs" / revision
    return reference.read_text().strip() if reference.is_file() else revision


def _mark_path(source: Source, cache: Path, commit: str) -> Path:
    return source.folder(cache) / f"checked-{commit}.json"


def _described(source: Source) -> tuple[str, list[File]]:
    """The commit that the revision means now, and its files but the skipped ones."""
    from huggingface_hub import HfApi

    with _hub_errors(source):
        info = HfApi().model_info(source.repository, revision=source.revision, files_metadata=True)
    files = [_file(each) for each in info.siblings or () if not any(fnmatch(each.rfilename, skip) for skip in SKIPPED)]
    if info.sha is None or not files:
        raise CheckpointError(f"{source}: the hub lists no files")
    return info.sha, files


def _file(sibling: Any) -> File:
    if sibling.lfs is not None:
        return File(sibling.rfilename, sibling.size, "sha256", sibling.lfs.sha256)
    return File(sibling.rfilename, sibling.size, "sha1", sibling.blob_id)


def _download(source: Source, commit: str, cache: Path) -> Path:
    from huggingface_hub import snapshot_download

    with _hub_errors(source):
        # By the revision as it was asked for: that writes the reference by which offline readers find the commit.
        snapshot = Path(
            snapshot_download(
                source.repository, revision=source.revision, cache_dir=cache, ignore_patterns=list(SKIPPED)
            )
        )
    if snapshot.name != commit:
        raise CheckpointError(f"{source} has moved to commit {snapshot.name[:12]} meanwhile; run the same again")
    return snapshot


@contextmanager
def _hub_errors(source: Source) -> Iterator[None]:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError as error:
        raise CheckpointError(f"{source} is gated: accept its terms on the hub and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(f"{source} is not on the hub, or HF_TOKEN may not read it") from error
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise CheckpointError(f"{source} cannot be fetched: {error}") from error
    except OSError as error:
        raise CheckpointError(f"{source} cannot be fetched: {error.strerror or error}") from error


@contextmanager
def _progress(source: Source, cache: Path, total: int, say: Say) -> Iterator[None]:
    """Say now and then how much is there and how long the rest will take."""
    done = threading.Event()

    def report() -> None:
        started, first = time.monotonic(), _bytes_of(source.folder(cache))
        while not done.wait(_PROGRESS_EVERY_S):
            here = min(_bytes_of(source.folder(cache)), total)
            rate = max(here - first, 0) / (time.monotonic() - started)
            rest = f", {(total - here) / rate / 60:.0f} min left" if rate > 0 else ""
            share = 100 * here // max(total, 1)
            say(f"{source}: {here / 1e9:.2f} of {total / 1e9:.2f} GB ({share} %), {rate / 1e6:.0f} MB/s{rest}")

    thread = threading.Thread(target=report, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _bytes_of(folder: Path) -> int:
    total = 0
    for path in folder.glob("blobs/*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            # Finished in between: it is counted under its final name next time.
            continue
    return total
