"""The cache: made once, checked, mended, and safe to share."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors

from serving.demo import checkpoint
from serving.demo.checkpoint import ensure_checkpoint
from serving.errors import CheckpointError


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_checkpoint(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def damaged(made: Path) -> Iterator[Path]:
    """The checkpoint, to be damaged at will; mended afterwards."""
    yield made
    ensure_checkpoint(made.parent, verify=True)


def fingerprint(directory: Path) -> dict[str, tuple[int, int]]:
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in directory.iterdir()}


def test_has_every_file_a_loader_needs(made: Path) -> None:
    assert {path.name for path in made.iterdir()} == {
        "config.json",
        "generation_config.json",
        "manifest.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert json.loads((made / "generation_config.json").read_text())["eos_token_id"] == [200002, 199999, 200012]
    assert checkpoint.is_intact(made, verify=True)


def test_leaves_nothing_else_in_the_cache_but_the_lock(made: Path) -> None:
    assert {path.name for path in made.parent.iterdir()} == {made.name, f".{made.name}.lock"}


def arrays(content: bytes) -> dict[str, np.ndarray]:
    """bfloat16 tensors by name, their bits as uint16."""
    tensors = safetensors.deserialize(content)  # type: ignore[no-untyped-call]  # its stub lacks types
    return {name: np.frombuffer(tensor["data"], np.uint16).reshape(tensor["shape"]) for name, tensor in tensors}


def test_vocabulary_matrices_have_all_rows_and_the_trained_ones_in_place(made: Path) -> None:
    weights, described = checkpoint.packaged()
    compact, full = arrays(weights), arrays((made / "model.safetensors").read_bytes())
    assert compact.keys() == full.keys()
    for name in full:
        if name not in ("model.embed_tokens.weight", "lm_head.weight"):
            assert (full[name] == compact[name]).all()
            continue
        ids = described["ids"][: len(compact[name])]
        assert full[name].shape == (201088, 128)
        assert (full[name][ids] == compact[name]).all()
        assert not np.delete(full[name], ids, axis=0).any()


def test_second_use_touches_nothing(made: Path) -> None:
    before = fingerprint(made)
    assert ensure_checkpoint(made.parent, verify=True) == made
    assert fingerprint(made) == before


def test_a_cut_file_is_noticed_at_every_use(damaged: Path) -> None:
    with (damaged / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    assert ensure_checkpoint(damaged.parent) == damaged
    assert checkpoint.is_intact(damaged, verify=True)


def test_a_missing_manifest_is_noticed_at_every_use(damaged: Path) -> None:
    (damaged / "manifest.json").write_text("{}")
    ensure_checkpoint(damaged.parent)
    assert checkpoint.is_intact(damaged, verify=True)


def test_a_changed_byte_is_noticed_when_verifying(damaged: Path) -> None:
    with (damaged / "tokenizer.json").open("r+b") as file:
        file.seek(5000)
        file.write(b"\0")
    assert checkpoint.is_intact(damaged, verify=False)
    ensure_checkpoint(damaged.parent, verify=True)
    assert checkpoint.is_intact(damaged, verify=True)


def test_leftovers_of_a_killed_builder_are_removed(damaged: Path) -> None:
    leftover = damaged.parent / f".{damaged.name}.killed.tmp"
    leftover.mkdir()
    (leftover / "model.safetensors").write_bytes(b"half")
    (damaged / "config.json").unlink()
    ensure_checkpoint(damaged.parent)
    assert not leftover.exists()


def test_processes_that_start_at_once_share_one_checkpoint(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from serving.demo.checkpoint import ensure_checkpoint; "
        "print(ensure_checkpoint(pathlib.Path(sys.argv[1])).stat().st_ino); "
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    builders = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    inodes = {builder.communicate(timeout=120)[0] for builder in builders}
    assert [builder.returncode for builder in builders] == [0, 0, 0]
    assert len(inodes) == 1
    (directory,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert checkpoint.is_intact(directory, verify=True)


def test_a_builder_killed_half_way_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from serving.demo.checkpoint import ensure_checkpoint; "
        "ensure_checkpoint(pathlib.Path(sys.argv[1]))"
    )
    builder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*.tmp/*")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    builder.kill()
    builder.wait()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("demo-")]
    assert checkpoint.is_intact(ensure_checkpoint(tmp_path), verify=True)
    assert not list(tmp_path.glob(".*.tmp"))


def test_an_unwritable_cache_says_what_to_do(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(CheckpointError, match=r"needs \d+ MB.*SERVING_CACHE_DIR"):
        ensure_checkpoint(in_the_way)


def test_a_full_disk_says_what_to_do_and_leaves_nothing(tmp_path: Path) -> None:
    # A limit on the size of files fails the same write that a full disk would.
    code = (
        "import resource, signal, sys, pathlib\n"
        "from serving.demo.checkpoint import ensure_checkpoint\n"
        "from serving.errors import CheckpointError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, 10_000_000))\n"
        "try:\n    ensure_checkpoint(pathlib.Path(sys.argv[1]))\n"
        "except CheckpointError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot be made" in done.stdout
    assert "SERVING_CACHE_DIR" in done.stdout
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_damaged_packaged_weights_ask_for_a_new_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"not these")
    (tmp_path / "weights.json").write_text((checkpoint.HERE / "weights.json").read_text())
    monkeypatch.setattr(checkpoint, "HERE", tmp_path)
    with pytest.raises(CheckpointError, match="install gpt-oss-serving again"):
        ensure_checkpoint(tmp_path)


def test_packaged_weights_are_small() -> None:
    assert (checkpoint.HERE / "weights.safetensors").stat().st_size <= 2_000_000
