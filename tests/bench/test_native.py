"""The timing and the fuzzing of the native kernel."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bench import native, native_fuzz
from greenload.backends.native import library


@pytest.mark.slow
@pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")
def test_timing_prints_milliseconds_and_what_the_kernels_clocks_say(
    sample_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert native.main(["--photos", str(sample_folder), "--rounds", "1"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^antialiased +\d+\.\d+ ms, least", said, re.MULTILINE)
    shares = [float(share) for share in re.findall(r"(\d+\.\d)% of the thread's CPU time", said)]
    assert len(shares) == 3 and all(97 <= share <= 101 for share in shares), said


def has_sanitisers(folder: Path) -> bool:
    """Whether programs can be built with them."""
    if shutil.which("c++") is None:
        return False
    source = folder / "a.cpp"
    source.write_text("#include <cstdio>\n#include <jpeglib.h>\nint main() { return 0; }\n")
    command = ["c++", *native_fuzz.FLAGS, str(source), "-o", str(folder / "a"), "-ljpeg"]
    return subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.long
def test_damaged_files_and_random_programs_pass_the_sanitisers(tmp_path: Path) -> None:
    if not has_sanitisers(tmp_path):
        pytest.skip("needs a C++ compiler with its sanitisers, and libjpeg")
    assert native_fuzz.main(["--count", "10000", "--programs", "10000"]) == 0


@pytest.mark.long
def test_a_read_past_the_end_of_memory_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not has_sanitisers(tmp_path):
        pytest.skip("needs a C++ compiler with its sanitisers, and libjpeg")
    broken = tmp_path / "kernel"
    shutil.copytree(native_fuzz.KERNEL, broken)
    buffer = broken / "buffer.h"
    text = buffer.read_text()
    assert "kSlack = 256" in text
    buffer.write_text(text.replace("kSlack = 256", "kSlack = 0"))
    monkeypatch.setattr(native_fuzz, "KERNEL", broken)
    assert native_fuzz.main(["--count", "100", "--programs", "300"]) == 1
    assert "AddressSanitizer" in capsys.readouterr().out
