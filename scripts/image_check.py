"""Build an image by the steps of deploy/Dockerfile without a builder of images, and run what comes out.

usage: image_check.py [cpu | cuda] [--work DIRECTORY] [--mirror URL]

Needs root on Linux, debootstrap (Debian, Ubuntu: apt install debootstrap) and a package index. Every RUN, COPY and ENV
is taken from the Dockerfile and done as it stands there; Debian's own Python stands in for the base image. The result
runs with a read-only root, as the user that the Dockerfile says, without capabilities and without a network.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pip_settings

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
MIRROR = "http://deb.debian.org/debian"
READY_S = 400.0
STOP_S = 120.0
SHARED_MEMORY = "2g"
"""As in deploy/compose."""

_PASSED_ON = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_BASE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
_CERTIFICATES = "/mnt/certificates.pem"
_GIVEN = {path: Path(path) for path in ("/etc/hosts", "/etc/resolv.conf")}
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_INSTRUCTIONS = {"ARG", "FROM", "RUN", "COPY", "ENV", "WORKDIR", "USER", "CMD", "EXPOSE", "HEALTHCHECK"}
_CUDA_IMPORTS = "import torch, vllm, torchvision, flashinfer; import vllm.v1.engine.async_llm; print(torch.__version__)"
# Triton's own way to a compiler, up to loading the result, which needs a GPU's driver.
_TRITON_COMPILES = (
    "import pathlib, tempfile, triton.backends.nvidia.driver as d, triton.runtime.build as b\n"
    "source = pathlib.Path(d.__file__).with_name('driver.c').read_text()\n"
    "with tempfile.TemporaryDirectory() as scratch:\n"
    "    path = pathlib.Path(scratch, 'cuda_utils.c'); path.write_text(source)\n"
    "    print(pathlib.Path(b._build('cuda_utils', str(path), scratch, [], d.include_dirs,"
    " d.libraries, [])).name)\n"
)
_QUESTION = {
    "model": "demo",
    "reasoning_effort": "low",
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
}
_ASK = (
    "import sys, urllib.error, urllib.request\n"
    "kind = {'content-type': 'application/json'}\n"
    "request = urllib.request.Request(sys.argv[1], sys.argv[2].encode() or None, kind)\n"
    "opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))\n"
    "try:\n"
    "    print(opener.open(request, timeout=60).read().decode())\n"
    "except urllib.error.HTTPError as error:\n"
    "    sys.exit(f'{error.code} {error.read().decode()}')\n"
    "except OSError as error:\n"
    "    sys.exit(str(error))\n"
)

_started = float(os.environ.get("IMAGE_CHECK_STARTED", time.monotonic()))


class CheckError(Exception):
    """The message says what failed and what to do."""


def say(text: str) -> None:
    """One line of progress with the seconds since the start."""
    print(f"[{time.monotonic() - _started:6.1f} s] {text}", flush=True)


# What the Dockerfile says


@dataclass(frozen=True)
class Step:
    """One instruction, lines that go on joined, comments left out."""

    instruction: str
    text: str


@dataclass
class Stage:
    """FROM `base`, and the steps that follow."""

    base: str
    steps: list[Step] = field(default_factory=list)


@dataclass
class Recipe:
    """A Dockerfile: the arguments before its first stage with their defaults, and its stages by name."""

    arguments: dict[str, str]
    stages: dict[str, Stage]


def parse(text: str) -> Recipe:
    """Read the part of the Dockerfile language that ours uses; raises CheckError for any other."""
    recipe = Recipe({}, {})
    current: Stage | None = None
    for line in _joined(text):
        instruction, _, rest = line.strip().partition(" ")
        rest = rest.strip()
        if instruction not in _INSTRUCTIONS or (instruction in {"RUN", "COPY"} and "<<" in rest):
            raise CheckError(f"this check cannot read {line.strip()!r} of the Dockerfile; teach it to")
        if instruction == "FROM":
            base, _, name = rest.partition(" AS ")
            current = recipe.stages[name.strip() or str(len(recipe.stages))] = Stage(base.strip())
        elif current is not None:
            current.steps.append(Step(instruction, rest))
        elif instruction == "ARG":
            name, _, default = rest.partition("=")
            recipe.arguments[name] = default
        else:
            raise CheckError(f"{instruction} stands before the first FROM")
    return recipe


def _joined(text: str) -> Iterator[str]:
    held = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or (not held and not line.strip()):
            continue
        if line.rstrip().endswith("\\"):
            held += line.rstrip()[:-1]
        else:
            yield held + line
            held = ""
    if held:
        raise CheckError("the Dockerfile ends in the middle of a line that goes on")


def expand(text: str, values: Mapping[str, str]) -> str:
    """Put values in the place of $NAME and ${NAME}; unknown ones are empty, as a builder has it."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: values.get(match[1] or match[2], ""), text)


def flags(text: str) -> tuple[list[tuple[str, str]], str]:
    """The --NAME=VALUE that an instruction starts with, and what is left of it."""
    found: list[tuple[str, str]] = []
    while match := re.match(r"--([\w-]+)=(\S+)\s+", text):
        found.append((match[1], match[2]))
        text = text[match.end() :]
    return found, text


def let_in(path: str, rules: Sequence[str]) -> bool:
    """Whether .dockerignore lets a file of the checkout reach the builder: the last rule that fits counts."""
    passes = True
    for rule in rules:
        pattern = re.escape(rule.removeprefix("!").rstrip("/"))
        pattern = pattern.replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{pattern}(?:/.*)?", path):
            passes = rule.startswith("!")
    return passes


# What a builder does


@dataclass(frozen=True)
class Image:
    """Layers, lowest first, with what made them, and how the result is run."""

    layers: tuple[tuple[str, Path], ...]
    environment: Mapping[str, str]
    arguments: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    command: tuple[str, ...] = ()
    healthcheck: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, str]:
        """What $NAME means: arguments, and the environment over them."""
        return {**self.arguments, **self.environment}


@dataclass(frozen=True)
class Sources:
    """Where packages come from: variables for pip and uv, and the files that they name, by their place inside."""

    environment: Mapping[str, str]
    binds: Mapping[str, Path]
    arguments: Mapping[str, str]


def sources_of(settings: Mapping[str, str], environ: Mapping[str, str], mirror: Path) -> Sources:
    """pip's sources for the builder. The wheels of pip's find-links become an index below `mirror`, for the CPU alone.

    uv would take a torch for CPUs from find-links into the CUDA image too: its version fits the pin.
    """
    environment = {name: environ[name] for name in _PASSED_ON if name in environ}
    for name, variables in {
        "index-url": ("PIP_INDEX_URL", "UV_DEFAULT_INDEX"),
        # Not UV_INDEX, which --index in the recipe would replace.
        "extra-index-url": ("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL"),
        "trusted-host": ("PIP_TRUSTED_HOST", "UV_INSECURE_HOST"),
        "timeout": ("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT"),
        "default-timeout": ("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT"),
    }.items():
        if name in settings:
            environment |= dict.fromkeys(variables, settings[name])
    if "extra-index-url" in settings:
        environment["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    binds: dict[str, Path] = {}
    if "cert" in settings:
        # In a place of its own: Debian's package of certificates writes to the usual one.
        binds[_CERTIFICATES] = Path(settings["cert"])
        environment |= dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), _CERTIFICATES)
    for name in ("index-url", "extra-index-url"):
        # The pages of an index point to files beside its folder.
        local = (urlsplit(url) for url in settings.get(name, "").split())
        binds |= {str(Path(url.path).parent): Path(url.path).parent for url in local if url.scheme == "file"}
    arguments = {name: environ[name] for name in ("TORCH_CPU_INDEX",) if environ.get(name)}
    folders = [Path(place) for place in settings.get("find-links", "").split() if Path(place).is_dir()]
    if folders and not arguments:
        for wheel in (wheel for folder in folders for wheel in folder.glob("*.whl")):
            page = mirror / re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0]).lower() / "index.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            with page.open("a", encoding="utf-8") as lines:
                lines.write(f'<a href="{wheel.as_uri()}">{wheel.name}</a>\n')
        arguments["TORCH_CPU_INDEX"] = mirror.as_uri()
        binds |= {str(folder): folder for folder in (mirror, *folders)}
    return Sources(environment, {inside: path for inside, path in binds.items() if path.exists()}, arguments)


def _mount(*arguments: str | Path) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CheckError(f"mount {' '.join(map(str, arguments))}: {done.stderr.strip()}")


class Builder:
    """Makes images of a recipe's stages in `work`, a layer for each step that writes."""

    def __init__(self, recipe: Recipe, work: Path, sources: Sources, mirror: str) -> None:
        self._recipe = recipe
        self._work = work
        self._sources = sources
        self._mirror = mirror
        self._rules = [
            line.strip()
            for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
            if line.strip() and not line.startswith("#")
        ]
        self._made: dict[str, Image] = {}
        self._mounts = 0
        self._skeleton = work / "mountpoints"
        for folder in ("proc", "sys", "dev", "tmp", "etc"):
            (self._skeleton / folder).mkdir(parents=True, exist_ok=True)
        for place, path in {**_GIVEN, **sources.binds}.items():
            inside = _below(self._skeleton, place)
            inside.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                inside.mkdir(exist_ok=True)
            else:
                inside.touch()

    def image(self, name: str) -> Image:
        """The image of a stage, made when first asked for."""
        if name not in self._made:
            stage = self._recipe.stages[name]
            base = expand(stage.base, self._recipe.arguments)
            image = self.image(base) if base in self._recipe.stages else self._base(base)
            say(f"stage {name}")
            for step in stage.steps:
                image = self._do(step, image, name)
            self._made[name] = image
        return self._made[name]

    @contextmanager
    def mounted(self, image: Image, upper: Path | None = None) -> Iterator[Path]:
        """The image as one tree; what is written goes to `upper`, and without one the tree is read-only."""
        self._mounts += 1
        root = self._work / "mounts" / str(self._mounts)
        root.mkdir(parents=True)
        # The places to mount on lie in a layer of their own below all others, so that no layer gets them.
        lower = ":".join(str(layer) for layer in (*(layer for _, layer in reversed(image.layers)), self._skeleton))
        options = f"lowerdir={lower}"
        if upper is not None:
            scratch = self._work / "scratch" / str(self._mounts)
            scratch.mkdir(parents=True)
            upper.mkdir(parents=True)
            options += f",upperdir={upper},workdir={scratch}"
        _mount("-t", "overlay", "overlay", "-o", options, root)
        try:
            yield root
        finally:
            subprocess.run(["umount", "--recursive", "--lazy", root], check=False)

    def _base(self, image: str) -> Image:
        """Debian with its own Python, in the place of python:X.Y.Z-slim-SUITE."""
        match = re.search(r"python:(3\.\d+)\.\d+-slim-(\w+)", image)
        if match is None:
            raise CheckError(f"this check knows python:X.Y.Z-slim-SUITE as a base, not {image}")
        base = Image((), {"PATH": _BASE_PATH, "LANG": "C.UTF-8"})
        debian, python = self._work / "base" / "debian", self._work / "base" / "python"
        if not python.with_suffix(".complete").exists():
            shutil.rmtree(debian.parent, ignore_errors=True)
            debian.parent.mkdir(parents=True)
            say(f"Debian {match[2]} by debootstrap, in the place of {image}")
            log = self._work / "debootstrap.log"
            with log.open("w") as output:
                command = ["debootstrap", "--variant=minbase", match[2], str(debian), self._mirror]
                if subprocess.run(command, stdout=output, stderr=output, check=False).returncode != 0:
                    raise CheckError(f"debootstrap failed:\n{_tail(log)}")
            # The base image keeps nothing of apt's, by a file of this name.
            (debian / "etc/apt/apt.conf.d/docker-clean").write_text(
                'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
                'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };\n'
            )
            packages = f"python{match[1]} python{match[1]}-venv ca-certificates"
            install = (
                f"apt-get update -q && apt-get install -q --yes --no-install-recommends {packages}"
                f" && ln -s /usr/bin/python{match[1]} /usr/local/bin/python"
                # The base image has Python's headers, but not the C library's that Debian's package of them brings in.
                f" && cd /tmp && apt-get download -q libpython{match[1]}-dev && dpkg --extract libpython*.deb headers"
                " && cp --archive headers/usr/include /usr/ && rm -rf headers libpython*.deb /var/lib/apt/lists/*"
            )
            self._run(replace(base, layers=(("debian", debian),)), install, python)
            python.with_suffix(".complete").touch()
        return replace(base, layers=(("Debian", debian), ("Debian's Python", python)))

    def _do(self, step: Step, image: Image, stage: str) -> Image:
        text = step.text
        match step.instruction:
            case "ARG":
                name, _, default = text.partition("=")
                default = default or self._recipe.arguments.get(name, "")
                return replace(image, arguments={**image.arguments, name: self._sources.arguments.get(name, default)})
            case "ENV":
                pairs = (expand(word, image.values).partition("=") for word in shlex.split(text))
                return replace(image, environment={**image.environment, **{name: value for name, _, value in pairs}})
            case "WORKDIR":
                image = replace(image, workdir=os.path.join(image.workdir, expand(text, image.values)))
                return self._layer(image, stage, step, lambda root: _below(root, image.workdir).mkdir(parents=True))
            case "USER":
                return replace(image, user=text)
            case "CMD":
                return replace(image, command=tuple(json.loads(text)))
            case "HEALTHCHECK":
                return replace(image, healthcheck=tuple(json.loads(text.partition("CMD ")[2])))
            case "COPY":
                return self._layer(image, stage, step, lambda root: self._copy(text, image, root))
            case "RUN":
                upper = self._upper(stage, image)
                self._run(image, text, upper, self._sources)
                return replace(image, layers=(*image.layers, (_short(step), upper)))
        return image

    def _upper(self, stage: str, image: Image) -> Path:
        return self._work / "layers" / f"{stage}-{len(image.layers)}"

    def _layer(self, image: Image, stage: str, step: Step, write: Callable[[Path], object]) -> Image:
        upper = self._upper(stage, image)
        with self.mounted(image, upper) as root, suppress(FileExistsError):
            write(root)
        return replace(image, layers=(*image.layers, (_short(step), upper)))

    def _copy(self, text: str, image: Image, root: Path) -> None:
        options, rest = flags(text)
        *origins, target = (expand(word, image.values) for word in rest.split())
        place = _below(root, os.path.join(image.workdir, target))
        into = target.endswith("/") or len(origins) > 1
        if stage := dict(options).get("from"):
            with self.mounted(self.image(stage)) as other:
                for origin in origins:
                    found = _below(other, os.path.join("/", origin))
                    end = place / found.name if into and not found.is_dir() else place
                    end.parent.mkdir(parents=True, exist_ok=True)
                    # A builder gives what it copies to root and keeps the rest.
                    copy = ["cp", "--archive", "--no-preserve=ownership", "--no-target-directory"]
                    if subprocess.run([*copy, found, end], check=False).returncode != 0:
                        raise CheckError(f"COPY {text} failed; the reason is above")
            return
        for origin in origins:
            found = ROOT / origin
            files = [path for path in (found.rglob("*") if found.is_dir() else [found]) if path.is_file()]
            files = [path for path in files if let_in(path.relative_to(ROOT).as_posix(), self._rules)]
            if not files:
                raise CheckError(f"COPY {text}: .dockerignore lets nothing of {origin} through, or it is missing")
            for path in files:
                end = place / path.relative_to(found) if found.is_dir() else place / path.name if into else place
                end.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, end)
                os.chown(end, 0, 0)

    def _run(self, image: Image, text: str, upper: Path, sources: Sources | None = None) -> None:
        options, command = flags(text)
        say(f"  {_short(Step('RUN', command))}")
        with self.mounted(image, upper) as root:
            furnish(root)
            for place, path in sources.binds.items() if sources else ():
                _mount("--bind", "-o", "ro", path.resolve(), _below(root, place))
            made: list[Path] = []
            for _, option in options:
                mount = dict(part.split("=", 1) for part in option.split(","))
                if mount.get("type") != "bind" or "from" not in mount:
                    raise CheckError(f"this check cannot do --mount={option}; teach it to")
                target = _below(root, mount["target"])
                if not target.exists():
                    target.mkdir(parents=True)
                    made.append(target)
                # The bind keeps the tree in use after its own place is gone.
                with self.mounted(self.image(mount["from"])) as tree:
                    _mount("--bind", "-o", "ro", _below(tree, mount["source"]), target)
            variables = {
                **image.values,
                "HOME": "/root",
                **(sources.environment if sources else {}),
                **image.environment,
            }
            variables["DEBIAN_FRONTEND"] = "noninteractive"
            log = upper.with_name(f"{upper.name}.log")
            inside = enclosed(root, ["/bin/sh", "-c", command], variables, workdir=image.workdir, user=image.user)
            with log.open("w") as output:
                status = subprocess.run(inside, stdout=output, stderr=output, check=False).returncode
            for target in made:
                subprocess.run(["umount", target], check=False)
                target.rmdir()
            if status != 0:
                raise CheckError(f"RUN {command}\nended with {status}:\n{_tail(log)}")


def _below(root: Path, path: str) -> Path:
    return root / os.path.normpath(path).lstrip("/")


def _short(step: Step) -> str:
    _, text = flags(step.text) if step.instruction == "RUN" else ([], step.text)
    text = " ".join(text.split())
    return f"{step.instruction} {text[:90]}{'...' if len(text) > 90 else ''}"


def _tail(log: Path, lines: int = 40) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def furnish(root: Path) -> None:
    """Mount what every container has: names and their server, /sys read-only, and /dev with its few devices."""
    for place, path in _GIVEN.items():
        _mount("--bind", "-o", "ro", path.resolve(), _below(root, place))
    _mount("-t", "sysfs", "-o", "ro,nosuid,nodev,noexec", "sysfs", root / "sys")
    device = root / "dev"
    _mount("-t", "tmpfs", "-o", "mode=755,nosuid", "tmpfs", device)
    for name in _DEVICES:
        (device / name).touch()
        _mount("--bind", f"/dev/{name}", device / name)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (device / name).symlink_to(f"/proc/self/{target}")
    (device / "pts").mkdir()
    _mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666", "devpts", device / "pts")
    (device / "ptmx").symlink_to("pts/ptmx")
    (device / "shm").mkdir()
    _mount("-t", "tmpfs", "-o", f"mode=1777,nosuid,nodev,size={SHARED_MEMORY}", "tmpfs", device / "shm")


def enclosed(
    root: Path,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    workdir: str,
    user: str,
    confined: bool = False,
) -> list[str]:
    """The command line that runs `command` in `root` as its first process; confined: no network, no capabilities."""
    if confined:
        drop = ["--clear-groups", "--inh-caps=-all", "--ambient-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        uid, _, gid = user.partition(":")
        command = ["setpriv", "--reuid", uid, "--regid", gid or uid, *drop, "--", *command]
    plan = json.dumps(
        {
            "root": str(root),
            "workdir": workdir,
            "command": list(command),
            "environment": dict(environment),
            "loopback": confined,
        }
    )
    separate = ["--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", *(["--net"] if confined else [])]
    return ["unshare", *separate, sys.executable, str(Path(__file__).resolve()), "--enter", plan]


def _enter(plan: dict[str, Any]) -> NoReturn:
    """In the namespaces of `enclosed`: become the command."""
    if plan["loopback"]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            siocsifflags, up_and_running = 0x8914, 0x41
            fcntl.ioctl(control, siocsifflags, struct.pack("16sh22x", b"lo", up_and_running))
    _mount("-t", "proc", "proc", Path(plan["root"], "proc"))
    os.chroot(plan["root"])
    os.chdir(plan["workdir"])
    # Python leaves these two ignored, and a program that is started inherits that.
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_DFL)
    os.environ["PATH"] = plan["environment"]["PATH"]
    os.execvpe(plan["command"][0], plan["command"], plan["environment"])


# What the result is asked


class Container:
    """An image's tree as a container has it: read-only but for /tmp, /dev/shm and the user's home."""

    def __init__(self, image: Image, root: Path) -> None:
        self._image = image
        self._root = root
        furnish(root)
        uid, _, gid = image.user.partition(":")
        _mount("-t", "tmpfs", "-o", "mode=1777,nosuid,nodev", "tmpfs", root / "tmp")
        home = _below(root, image.environment["HOME"])
        _mount("-t", "tmpfs", "-o", f"mode=755,uid={uid},gid={gid or uid},nosuid,nodev", "tmpfs", home)
        if not os.statvfs(root).f_flag & os.ST_RDONLY:
            raise CheckError("the root is not read-only")

    def command(self, command: Sequence[str], **environment: str) -> list[str]:
        """The command line that runs `command` in here, with variables over the image's own."""
        return enclosed(
            self._root,
            command,
            {**self._image.environment, **environment},
            workdir=self._image.workdir,
            user=self._image.user,
            confined=True,
        )

    def say_what(self, command: Sequence[str]) -> None:
        """Run to the end and show the output's last lines; raises CheckError if it fails."""
        shown = " ".join(" ".join(command).split())
        shown = f"{shown[:150]}..." if len(shown) > 150 else shown
        say(shown)
        done = subprocess.run(self.command(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        lines = done.stdout.decode(errors="replace").splitlines()
        print("\n".join(f"    {line}" for line in lines[-30 if done.returncode else -6 :]), flush=True)
        if done.returncode != 0:
            raise CheckError(f"{shown} ended with {done.returncode}")


def _child(pid: int) -> int:
    """The first process inside, of the `unshare` that started it."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with suppress(OSError, IndexError):
            child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
            # Past setpriv: it has become the image's user.
            if _status(child)["Uid"].split()[0] != "0":
                return child
        time.sleep(0.1)
    raise CheckError("the container did not start")


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _ask(pid: int, path: str, body: str = "") -> tuple[bool, str]:
    """Whether a request from within the container's network was answered, and with what."""
    command = [
        "nsenter",
        "--target",
        str(pid),
        "--net",
        sys.executable,
        "-c",
        _ASK,
        f"http://127.0.0.1:8000{path}",
        body,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0, (done.stdout or done.stderr).strip()


def serve_and_ask(image: Image, container: Container, log: Path) -> None:
    """Start the image's CMD, wait until it is ready, ask for a chat, run its health check, stop it."""
    # Without teams, the image refuses to listen to others unless told to: docker run --env SERVING_OPEN=true.
    told = {"SERVING_OPEN": "true"}
    say(f"CMD {' '.join(image.command)}, with {told}")
    begun = time.monotonic()
    with log.open("w") as output:
        started = subprocess.Popen(container.command(image.command, **told), stdout=output, stderr=output)
    try:
        pid = _child(started.pid)
        status = _status(pid)
        if int(status["CapEff"], 16) or int(status["CapBnd"], 16) or status["NoNewPrivs"] != "1":
            raise CheckError(f"it has rights that it should not have: {status}")
        say(f"  runs as uid {status['Uid'].split()[0]}, capabilities {status['CapBnd']}, read-only root, no network")
        while not (answer := _ask(pid, "/ready"))[0]:
            if started.poll() is not None:
                raise CheckError(f"it ended with {started.returncode}:\n{_tail(log)}")
            if time.monotonic() - begun > READY_S:
                raise CheckError(f"not ready within {READY_S:.0f} s; /ready says {answer[1]}\n{_tail(log)}")
            time.sleep(1)
        say(f"  ready after {time.monotonic() - begun:.1f} s")
        good, reply = _ask(pid, "/v1/chat/completions", json.dumps(_QUESTION))
        content = json.loads(reply)["choices"][0]["message"]["content"] if good else None
        if not content:
            raise CheckError(f"no answer to a chat: {reply}\n{_tail(log)}")
        say(f"  chat: {_QUESTION['messages']}")
        say(f"  answer: {content}")
        join = ["nsenter", "--target", str(pid), "--net", "--mount", "--root", "--setuid", "1000", "--setgid", "1000"]
        done = subprocess.run([*join, *image.healthcheck], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CheckError(f"HEALTHCHECK fails: {done.stdout}{done.stderr}")
        say("  HEALTHCHECK passes")
        asked = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        try:
            code = started.wait(STOP_S)
        except subprocess.TimeoutExpired:
            raise CheckError(f"it did not stop within {STOP_S:.0f} s of SIGTERM\n{_tail(log)}") from None
        say(f"  stopped after {time.monotonic() - asked:.1f} s with status {code}")
        if code not in (0, 143):
            raise CheckError(f"it stopped with {code}, not with 0\n{_tail(log)}")
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()


def size_of(folder: Path) -> int:
    """Bytes of the files below, those with several names once."""
    seen: dict[int, int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            status = os.lstat(os.path.join(place, name))
            seen[status.st_ino] = status.st_size
    return sum(seen.values())


def say_sizes(image: Image) -> None:
    """One line for each layer, and the sum."""
    sizes = [(what, size_of(layer)) for what, layer in image.layers]
    for what, size in sizes:
        if size:
            say(f"  {size / 1e6:9.1f} MB  {what}")
    say(f"  {sum(size for _, size in sizes) / 1e6:9.1f} MB  in all, not compressed")


def check(target: str, work: Path, mirror: str) -> None:
    """Build and try out one image; raises CheckError."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    shutil.rmtree(work / "layers", ignore_errors=True)
    for leftover in ("mounts", "scratch", "index", "mountpoints"):
        shutil.rmtree(work / leftover, ignore_errors=True)
    sources = sources_of(pip_settings.parse(listing.stdout), os.environ, work / "index")
    builder = Builder(parse(DOCKERFILE.read_text(encoding="utf-8")), work, sources, mirror)
    image = builder.image(target)
    say(f"image {target}, layers:")
    say_sizes(image)
    serving = image.command[0]
    with builder.mounted(image) as root:
        container = Container(image, root)
        container.say_what([serving, "--version"])
        if target == "cuda":
            python = str(Path(serving).with_name("python"))
            container.say_what([python, "-c", _CUDA_IMPORTS])
            container.say_what([python, "-c", _TRITON_COMPILES])
        container.say_what([serving, "check"])
        if target == "cpu":
            serve_and_ask(image, container, work / "container.log")
    left = [pid for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid()]
    if left:
        raise CheckError(f"processes are left: {left}")
    say("nothing is left running")


def _needs() -> None:
    if os.geteuid() != 0:
        raise CheckError("this needs root: it mounts, changes roots and gives up rights; sudo make image-check")
    for program, package in (
        ("debootstrap", "debootstrap"),
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("setpriv", "util-linux"),
    ):
        if shutil.which(program) is None:
            raise CheckError(f"{program} is missing (Debian, Ubuntu: apt install {package})")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Build an image without a builder of images, and run it.")
    parser.add_argument("target", nargs="?", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--work", type=Path, help="folder to work in, which stays; else a temporary one")
    parser.add_argument("--mirror", default=MIRROR, help=f"where Debian's packages come from, else {MIRROR}")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--enter", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        if arguments.enter:
            _enter(json.loads(arguments.enter))
        if arguments.inside:
            check(arguments.target, arguments.work, arguments.mirror)
            return 0
        _needs()
        if arguments.work:
            arguments.work.mkdir(parents=True, exist_ok=True)
            return _in_namespaces(arguments.target, arguments.work.resolve(), arguments.mirror)
        with tempfile.TemporaryDirectory(prefix="image-check-") as work:
            return _in_namespaces(arguments.target, Path(work), arguments.mirror)
    except CheckError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _in_namespaces(target: str, work: Path, mirror: str) -> int:
    """Do the check where every mount and process ends with it, whatever happens."""
    separate = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    this = [sys.executable, __file__, target, "--work", str(work), "--mirror", mirror, "--inside"]
    environ = {**os.environ, "IMAGE_CHECK_STARTED": str(_started)}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = subprocess.Popen([*separate, *this], env=environ)
    try:
        return started.wait()
    finally:
        if started.poll() is None:
            started.kill()
            started.wait()


if __name__ == "__main__":
    sys.exit(main())
