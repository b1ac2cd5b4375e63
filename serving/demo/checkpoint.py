"""The demo model as a checkpoint directory that vLLM and transformers load, made in the user's cache on first use."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from serving.demo.architecture import END_IDS, VOCABULARY_SIZE, hf_config
from serving.demo.tokenizer import tokenizer_config_json, tokenizer_json
from serving.errors import CheckpointError
from serving.settings.cache_dir import default_cache_dir

FORMAT = 1
"""Raised whenever the same weights would be expanded to other files."""

SIZE_MB = 130
"""Disk space a checkpoint takes, rounded up; for messages."""

HERE = Path(__file__).parent
MANIFEST = "manifest.json"


def ensure_checkpoint(cache_dir: Path | None = None, *, verify: bool = False) -> Path:
    """The demo checkpoint's directory; made first where it is missing or damaged (a few seconds).

    It lies in `cache_dir`, or else in gpt-oss-serving under XDG_CACHE_HOME or ~/.cache, under a name that follows
    from its content: another release makes another directory. Every use compares the files' sizes with the
    manifest; `verify` reads them all and compares SHA-256 too. Processes that start at once wait for the first.
    Raises CheckpointError where the packaged weights are damaged or the cache cannot be written.
    """
    root = cache_dir if cache_dir is not None else default_cache_dir()
    weights, described = packaged()
    target = root / f"demo-{short_hash(described['weights_sha256'])}"
    if is_intact(target, verify=verify):
        return target
    try:
        root.mkdir(parents=True, exist_ok=True)
        with building(root / f".{target.name}.lock"):
            if not is_intact(target, verify=verify):
                remove_leftovers(target)
                build(target, weights, described)
    except OSError as error:
        raise CheckpointError(
            f"The demo model's checkpoint cannot be made in {root}: {error.strerror or error}. "
            f"It needs {SIZE_MB} MB there. Free some space, or choose another directory with SERVING_CACHE_DIR or "
            "`cache_dir` in the settings file."
        ) from error
    return target


def packaged() -> tuple[bytes, dict[str, Any]]:
    """The compact weights that come with the package, and their description; raises CheckpointError if damaged."""
    try:
        weights = (HERE / "weights.safetensors").read_bytes()
        described: dict[str, Any] = json.loads((HERE / "weights.json").read_text())
        intact = hashlib.sha256(weights).hexdigest() == described["weights_sha256"]
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"The demo model's packaged weights cannot be read ({error}): install gpt-oss-serving again."
        ) from error
    if not intact:
        raise CheckpointError("The demo model's packaged weights are damaged: install gpt-oss-serving again.")
    return weights, described


def short_hash(weights_sha256: str) -> str:
    """Names one content of the directory."""
    return hashlib.sha256(f"{FORMAT}:{weights_sha256}".encode()).hexdigest()[:12]


def is_intact(directory: Path, *, verify: bool) -> bool:
    """Whether every file of the manifest is there in full; with `verify`, byte for byte."""
    try:
        files: dict[str, dict[str, Any]] = json.loads((directory / MANIFEST).read_text())["files"]
        return all(
            (directory / name).stat().st_size == expected["size"]
            and (not verify or sha256_of(directory / name) == expected["sha256"])
            for name, expected in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Whatever is wrong with the manifest, the answer is the same: make it again.
        return False


@contextlib.contextmanager
def building(lock: Path) -> Iterator[None]:
    """Only one process at a time; the lock goes with the process that holds it, however that ends."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_leftovers(target: Path) -> None:
    """Half-made directories of builders that were killed. Only under the lock, where nobody else builds."""
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(leftover)


def build(target: Path, weights: bytes, described: dict[str, Any]) -> None:
    """Make the directory beside its place, check it, and move it there in one step."""
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    try:
        scratch.chmod(0o755)
        checksums = write_files(scratch, weights, described)
        for name, checksum in checksums.items():
            if sha256_of(scratch / name) != checksum:
                raise CheckpointError(
                    f"{scratch / name} does not read back as it was written: the disk may be failing."
                )
        if target.exists():
            # Whoever has it open keeps reading the old files; they go when the last reader does.
            damaged = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
            target.rename(damaged / "damaged")
            shutil.rmtree(damaged)
        scratch.rename(target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def write_files(directory: Path, weights: bytes, described: dict[str, Any]) -> dict[str, str]:
    """Write every file and, last, the manifest; returns what SHA-256 each must have."""
    write_tensors(directory / "model.safetensors", weights, described)
    generation = {"bos_token_id": 199_998, "do_sample": True, "eos_token_id": list(END_IDS), "pad_token_id": END_IDS[1]}
    contents = {
        "config.json": json.dumps(hf_config(), indent=1).encode(),
        "generation_config.json": json.dumps(generation, indent=1).encode(),
        "tokenizer.json": tokenizer_json(),
        "tokenizer_config.json": tokenizer_config_json(),
    }
    checksums = {"model.safetensors": sha256_of(directory / "model.safetensors")}
    for name, content in contents.items():
        (directory / name).write_bytes(content)
        checksums[name] = hashlib.sha256(content).hexdigest()
    files = {name: {"size": (directory / name).stat().st_size, "sha256": value} for name, value in checksums.items()}
    (directory / MANIFEST).write_text(json.dumps({"format": FORMAT, "files": files}, indent=1))
    for path in directory.iterdir():
        sync(path)
    return checksums


def write_tensors(path: Path, weights: bytes, described: dict[str, Any]) -> None:
    """The compact weights with both vocabulary matrices at their full height, in bfloat16.

    A row of the compact matrices belongs to the id at the same place of `ids`; the output matrix has rows only for
    the first of them. All other rows are zero.
    """
    # numpy has no bfloat16; its bits travel as uint16.
    arrays = {
        name: np.frombuffer(tensor["data"], dtype=np.uint16).reshape(tensor["shape"])
        for name, tensor in safetensors.deserialize(weights)  # type: ignore[no-untyped-call]  # its stub lacks types
    }
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        compact = arrays[name]
        full = np.zeros((VOCABULARY_SIZE, compact.shape[1]), dtype=np.uint16)
        full[described["ids"][: len(compact)]] = compact
        arrays[name] = full
    specs = {
        name: safetensors.TensorSpec(
            dtype="bfloat16", shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes
        )
        for name, array in arrays.items()
    }
    # Not serialize_file: what it raises on a full disk is no OSError.
    path.write_bytes(safetensors.serialize(specs, {"format": "pt"}))


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Bring a file to the disk, so that a power cut cannot leave one of the right size and without content."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
