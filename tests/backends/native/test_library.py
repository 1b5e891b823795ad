"""Loading the kernel's library: what is wrong with it is said, with a remedy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from greenload.backends.native import abi, library
from greenload.cli import doctor

pytestmark = [
    pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel"),
    pytest.mark.skipif(shutil.which("c++") is None, reason="there is no compiler"),
]
INSTALL = "make setup, or pip install --force-reinstall --no-deps --no-cache-dir . "
FOREIGN_LIBJPEG = """
#include <cstddef>
#include <cstdio>
#include <jpeglib.h>
#include <jerror.h>
// As jpeg_create_decompress does in a libjpeg whose structs differ.
extern "C" void jpeg_CreateDecompress(j_decompress_ptr info, int version, size_t) {
  info->mem = nullptr;
  info->err->msg_code = JERR_BAD_LIB_VERSION;
  info->err->msg_parm.i[0] = 80;
  info->err->msg_parm.i[1] = version;
  info->err->error_exit(reinterpret_cast<j_common_ptr>(info));
}
"""
WHY = """
from pathlib import Path
from greenload.backends.native import library
library.FOLDER = Path({folder!r})
print(library.why_missing())
"""


def compiled(source: Path, *options: str) -> Path:
    """What a compiler makes of a source; quickly, not well."""
    out = source.with_suffix(".o" if "-c" in options else ".so")
    subprocess.run(["c++", "-std=c++17", "-fPIC", *options, str(source), "-o", str(out)], check=True)
    return out


def why(folder: Path, **env: str) -> tuple[str, str]:
    """What is wrong with the library in a folder, in a process of its own, and the remedy."""
    command = [sys.executable, "-c", WHY.format(folder=str(folder))]
    done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    detail, _, remedy = done.stdout.strip().rpartition("; ")
    return detail, remedy


def test_one_that_lacks_a_function_or_has_another_abi_was_built_from_other_sources(tmp_path: Path) -> None:
    for number, text in enumerate(
        ("", "int gl_abi() { return 1; }", f"int gl_abi() {{ return {abi.ABI}; }}", "int main() { return 0; }")
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "source.cpp").write_text(f'extern "C" {{ {text} }}')
        shutil.copy(compiled(folder / "source.cpp", "-shared"), folder / "_kernel.native.so")
        detail, remedy = why(folder)
        assert detail == f"the kernel at {folder / '_kernel.native.so'} was built from other sources"
        assert remedy.startswith(INSTALL)


def test_one_that_is_damaged_or_was_not_built(tmp_path: Path) -> None:
    detail, remedy = why(tmp_path)
    assert detail == "the kernel isn't built"
    assert remedy.startswith(INSTALL)
    (tmp_path / "_kernel.native.so").write_bytes(b"\x7fELF")
    detail, remedy = why(tmp_path)
    assert detail.startswith("the kernel can't be loaded: ")
    assert remedy.startswith(INSTALL)


@pytest.mark.long
def test_a_libjpeg_with_another_abi_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "foreign.cpp").write_text(FOREIGN_LIBJPEG)
    foreign = compiled(tmp_path / "foreign.cpp", "-shared")
    for source in (library.FOLDER / "kernel").glob("*.[ch]*"):
        shutil.copy(source, tmp_path)
    with ThreadPoolExecutor(2) as pool:
        sources = [source for source in tmp_path.glob("*.cpp") if source.name != "foreign.cpp"]
        objects = [*pool.map(lambda source: compiled(source, "-c", "-O0", "-w"), sources)]
    kernel = tmp_path / "_kernel.native.so"
    linked = ["c++", "-shared", *map(str, objects), "-l:libjpeg.so", "-o", str(kernel)]
    if subprocess.run(linked, capture_output=True).returncode:
        pytest.skip("there is only a static libjpeg")
    assert why(tmp_path) == ("", "")
    detail, remedy = why(tmp_path, LD_PRELOAD=str(foreign))
    said = "the kernel can't work: libjpeg doesn't start: Wrong JPEG library version: library is 80, caller expects "
    assert detail[:-2] == said
    assert remedy.startswith("start Python without the libjpeg that takes the place of the system's (LD_PRELOAD")
    assert INSTALL in remedy


def test_the_doctor_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "FOLDER", tmp_path)
    monkeypatch.setattr(library, "loaded", library.loaded.__wrapped__)
    finding = next(f for f in doctor.examine() if (f.kind, f.name) == ("backend", "native"))
    assert (finding.usable, finding.detail, finding.remedy) == (False, "the kernel isn't built", library.INSTALL)
