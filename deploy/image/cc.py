#!/opt/serving/bin/python
"""Stands where Triton looks for a C compiler (CC), in an image that has none.

Triton 3.7 compiles a single file at run time, its CUDA driver module, the same on every machine
(triton/backends/nvidia/driver.c, by triton/runtime/build.py). `--prebuild` compiles it while the image is built; later
calls hand that out. Anything else that wants a compiler is told in words that there is none.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent


def prebuilt(source: Path) -> Path:
    """Where the result for a source with this content is kept."""
    return HERE / f"{hashlib.sha256(source.read_bytes()).hexdigest()}.so"


def prebuild(backend: Path, compiler: str = "gcc") -> Path:
    """Compile Triton's driver module as Triton would; returns the result's place.

    There is no CUDA driver where images are built: an empty library of its name is linked against, whose symbols the
    real one brings at run time.
    """
    source = backend / "driver.c"
    target = prebuilt(source)
    with tempfile.TemporaryDirectory() as scratch:
        empty = Path(scratch, "empty.c")
        empty.touch()
        stub = Path(scratch, "libcuda.so.1")
        subprocess.run([compiler, "-shared", "-Wl,-soname,libcuda.so.1", "-o", stub, empty], check=True)
        include = [f"-I{backend / 'include'}", f"-I{sysconfig.get_paths()['include']}"]
        flags = ["-O3", "-shared", "-fPIC", "-Wno-psabi", f"-L{scratch}", "-Wl,--no-as-needed", "-l:libcuda.so.1"]
        subprocess.run([compiler, source, *flags, *include, "-o", target], check=True)
    return target


def hand_out(arguments: list[str]) -> int:
    """Play the compiler for one command line; returns the exit status."""
    sources = [Path(argument) for argument in arguments if argument.endswith((".c", ".cc", ".cpp", ".cu"))]
    if len(sources) == 1 and "-o" in arguments[:-1] and sources[0].is_file() and prebuilt(sources[0]).is_file():
        shutil.copyfile(prebuilt(sources[0]), arguments[arguments.index("-o") + 1])
        return 0
    wanted = ", ".join(map(str, sources)) or " ".join(arguments) or "nothing"
    print(
        f"error: this image has no C compiler, and something wants one to compile {wanted}. Only what Triton compiles "
        "was compiled beforehand. Turn off what asks for it (FlashInfer: VLLM_USE_FLASHINFER_SAMPLER=0), or add gcc "
        "in an image of your own and unset CC.",
        file=sys.stderr,
    )
    return 1


def main() -> int:
    """Returns the exit status."""
    if sys.argv[1:] != ["--prebuild"]:
        return hand_out(sys.argv[1:])
    triton = find_spec("triton")
    if triton is None or not triton.submodule_search_locations:
        print("error: triton is not installed; requirements/cuda.txt has it", file=sys.stderr)
        return 1
    print(prebuild(Path(triton.submodule_search_locations[0], "backends", "nvidia")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
