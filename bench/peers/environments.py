"""The environments of ``bench.peers``, in ``.peers``: ``python -m bench.peers.environments [--retry] [NAME …]``.

Each has the packages of ``requirements/NAME.txt`` and no other, at those versions. An environment that is there is left
alone. One that can't be had is named, with the reason, and left out; it is tried again when its versions change, or
with ``--retry``.
"""

from __future__ import annotations

import argparse
import ctypes.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tools import set_up
from tools.set_up import Need, Part, PartFailed

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".peers"
REQUIREMENTS = Path(__file__).with_name("requirements")
AGAIN = ".venv/bin/python -m bench.peers.environments --retry"
LAYER = "under.pth"
"""In an environment that stands on another one: where the packages of that one are."""


def _pkg_config(name: str) -> bool:
    program = shutil.which("pkg-config")
    return program is not None and subprocess.run([program, "--exists", name]).returncode == 0


@dataclass(frozen=True)
class Environment:
    """A virtual environment and what has to work in it."""

    name: str
    works: str
    """Python that fails where something is missing."""
    takes: str = "up to half a minute"
    on: str = ""
    """An environment whose packages it sees behind its own: PyTorch is installed once."""
    arguments: Sequence[str] = ()
    """More of ``pip install``'s."""
    flags: str = ""
    """More of the C compiler's."""
    needs: Sequence[Need] = ()
    """What the operating system has to provide."""

    @property
    def requirements(self) -> Path:
        """The file with its packages' versions."""
        return REQUIREMENTS / f"{self.name}.txt"

    @property
    def folder(self) -> Path:
        """Where it is."""
        return FOLDER / self.name

    @property
    def reason(self) -> Path:
        """A file that says why it was left out."""
        return FOLDER / "left-out" / f"{self.name}.txt"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"


FFMPEG = Need("FFmpeg's libraries", "ffmpeg", lambda: ctypes.util.find_library("avfilter") is not None)
OPENCV = Need("headers of OpenCV", "libopencv-dev", lambda: _pkg_config("opencv4"))
TURBOJPEG = Need("headers of TurboJPEG", "libturbojpeg0-dev", lambda: _pkg_config("libturbojpeg"))
COMPILER = Need("C++ compiler", "g++", lambda: shutil.which("c++") is not None)
SIMD = 'from PIL import Image; assert "post" in Image.__version__, Image.__version__; import torchvision'

ENVIRONMENTS = (
    Environment("floor", "import cv2, simplejpeg", "a few seconds"),
    Environment("grain", "import cv2, grain", "a few seconds"),
    Environment("spdl", "import cv2, spdl.io; spdl.io.ImagePackets", needs=(FFMPEG,)),
    Environment("dali", "import nvidia.dali.fn, simplejpeg", "up to a minute"),
    Environment("tfdata", "import tensorflow", "1 to 2 minutes"),
    Environment("torch", "import albumentations, cv2, torchvision", "2 to 5 minutes"),
    Environment(
        "pillow-simd",
        SIMD,
        on="torch",
        arguments=("--no-deps", "--no-binary", "pillow-simd", "--no-cache-dir"),
        flags=set_up.simd_flags(),
        needs=(COMPILER, *(need for need in set_up.needs() if "headers" in need.what)),
    ),
    Environment(
        "ffcv",
        "import ffcv.loader, ffcv.fields",
        "1 to 2 minutes",
        on="torch",
        arguments=("--no-deps", "--no-binary", "ffcv", "--no-cache-dir"),
        needs=(COMPILER, OPENCV, TURBOJPEG),
    ),
)


class _EnvironmentPart(Part):
    """A part of the set-up whose stamp is in its environment, and is gone with it."""

    @property
    def stamp(self) -> Path:
        return FOLDER / "stamps" / self.name.rpartition(" ")[2]


def part(environment: Environment) -> Part:
    """How an environment is made; why it can't be had is kept, for those who run without it."""

    def made() -> None:
        environment.reason.unlink(missing_ok=True)
        try:
            make(environment)
        except PartFailed as error:
            environment.reason.parent.mkdir(parents=True, exist_ok=True)
            environment.reason.write_text(str(error))
            raise

    made_from = (environment.requirements.read_text(), environment.works, environment.on, environment.flags)
    return _EnvironmentPart(f"Environment {environment.name}", environment.takes, made_from, made, optional=True)


def make(environment: Environment) -> None:
    """Make an environment anew.

    Raises:
        PartFailed: it can't be had; nothing of it is left.
    """
    below = next((one for one in ENVIRONMENTS if one.name == environment.on), None)
    if below is not None and not below.python.exists():
        raise PartFailed(f"it needs the environment {below.name}, which isn't there")
    set_up.system_packages(environment.needs)
    shutil.rmtree(environment.folder, ignore_errors=True)
    python = str(environment.python)
    install = [python, "-m", "pip", "install", "--requirement", str(environment.requirements), *environment.arguments]
    try:
        set_up.run([sys.executable, "-m", "venv", str(environment.folder)], "no virtual environment")
        if below is not None:
            packages = next(environment.folder.glob("lib/python*/site-packages"))
            (packages / LAYER).write_text(f"{next(below.folder.glob('lib/python*/site-packages'))}\n")
        flags = {"CC": f"cc {environment.flags}"} if environment.flags else None
        set_up.run(install, "pip failed", env=flags)
        set_up.run([python, "-c", environment.works], f"{environment.name} was installed but does not work")
    except PartFailed:
        shutil.rmtree(environment.folder, ignore_errors=True)
        raise


def named(name: str) -> Environment:
    """An environment by its name."""
    return next(one for one in ENVIRONMENTS if one.name == name)


def missing(name: str) -> str:
    """Why a contestant of that environment can't run; empty where it can."""
    environment = named(name)
    if environment.reason.exists():
        return f"its environment {name} can't be had: {environment.reason.read_text()}"
    if not environment.python.exists() or set_up.is_due(part(environment), retry=False):
        return f"its environment {name} isn't there as its requirements say; make bench-peers makes it"
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Make those that are due."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers.environments", description="make .peers ready")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(one.name for one in ENVIRONMENTS)}; all if not given")
    parser.add_argument("--retry", action="store_true", help="try those again that were left out")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - {one.name for one in ENVIRONMENTS}:
        parser.error(f"no environment is named {', '.join(sorted(unknown))}")
    if platform.system() != "Linux":
        parser.error("the contestants' CPU time is read as Linux gives it")
    os.environ.setdefault("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    wanted = [one for one in ENVIRONMENTS if one.name in options.names or not options.names]
    for one in wanted:
        stamp = part(one).stamp
        if stamp.exists() and not one.python.exists() and not stamp.read_text().startswith(set_up.LEFT_OUT):
            stamp.unlink()  # someone has removed the environment
    return set_up.make_all([part(one) for one in wanted], options.retry, AGAIN)


if __name__ == "__main__":
    sys.exit(main())
