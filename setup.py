"""Builds the native kernel, a library in C++ that `greenload.backends.native` loads. The rest is in pyproject.toml.

`python setup.py build_ext --inplace` builds it in a checkout. It is optional: where a compiler or libjpeg's header is
missing the package installs without it, unless the environment says GREENLOAD_KERNEL=required. libjpeg is linked in
where there is a static one, with its symbols hidden from other libraries of the process, which bring versions of their
own.
"""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import LinkError

KERNEL = "greenload/backends/native/kernel"
# Without contraction every processor gives the same bits.
COMPILE = ["-O3", "-g0", "-std=c++17", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra"]
STATIC = "-DGL_STATIC_LIBJPEG"
LINK = ["-pthread", f"-Wl,--version-script={KERNEL}/exports.map"]
OPERATIONS = "greenload.backends.native._operations"
OPTIONAL = os.environ.get("GREENLOAD_KERNEL") != "required"
COMPILERS = 2
"""That work at a time."""


def libjpeg() -> list[str]:
    """What links libjpeg: the static one where the compiler finds it."""
    command = ["c++", "-print-file-name=libjpeg.a"]
    try:
        found = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        return ["-ljpeg"]
    return [str(found)] if found.is_absolute() else ["-ljpeg"]


class BuildKernel(build_ext):
    """Compiles several files at a time."""

    def get_ext_filename(self, fullname: str) -> str:
        """A name that Python doesn't take for a module's: it would try to import it."""
        return str(Path(*fullname.split(".")).with_suffix(".native.so"))

    def build_extension(self, ext: Extension) -> None:
        """Compile, then link."""
        compile_all = self.compiler.compile

        def compile_each(sources: list[str], **arguments: object) -> list[str]:
            with ThreadPoolExecutor(COMPILERS) as pool:
                parts = pool.map(lambda source: compile_all([source], **arguments), sources)
                return [path for part in parts for path in part]

        if ext.name == OPERATIONS:  # the same copy of the kernel as Python's, beside it
            kernel = Path(self.get_ext_fullpath("greenload.backends.native._kernel"))
            ext.extra_link_args = [f"-L{kernel.parent}", f"-l:{kernel.name}", "-ldl", "-Wl,-rpath,$ORIGIN", *LINK]
        self.compiler.compile = compile_each
        try:
            super().build_extension(ext)
        except LinkError:  # a static libjpeg that can't be part of a library
            if ext.name == OPERATIONS:
                raise
            ext.extra_link_args = ["-ljpeg", *LINK]
            super().build_extension(ext)
        finally:
            self.compiler.compile = compile_all


setup(
    ext_modules=[
        Extension(
            "greenload.backends.native._kernel",
            sorted(map(str, Path(KERNEL).glob("*.cpp"))),
            depends=sorted(map(str, Path(KERNEL).glob("*.[hm]*"))),
            extra_compile_args=[*COMPILE, STATIC],
            extra_link_args=[*libjpeg(), *LINK],
            language="c++",
            optional=OPTIONAL,
            py_limited_api=True,  # it knows nothing of Python, so one library serves all its versions
        ),
        Extension(
            OPERATIONS,
            sorted(map(str, Path(KERNEL).glob("*.cc"))),
            depends=sorted(map(str, Path(KERNEL).glob("*.h"))),
            extra_compile_args=COMPILE,
            language="c++",
            optional=OPTIONAL,
            py_limited_api=True,
        ),
    ],
    cmdclass={"build_ext": BuildKernel},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
