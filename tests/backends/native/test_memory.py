"""What the kernel holds: rows decoded when a resize needs them, memory that programs share, nothing of other files."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance import pixels

from greenload.backends.native import library
from greenload.backends.native.abi import Flag, Form, KernelStep, Op
from greenload.backends.native.library import Program

pytestmark = pytest.mark.skipif(bool(library.why_missing()), reason=library.why_missing() or "there is a kernel")

ROOT = Path(__file__).parents[3]
DECODE = KernelStep(Op.DECODE, Flag.WINDOW, 0)
WINDOWS = ((0, 0, 203, 155), (0, 0, 40, 155), (163, 0, 40, 155), (17, 31, 101, 64), (202, 154, 1, 1), (3, 150, 199, 2))


def encoded(image: Any, **options: Any) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    """A photograph in all subsamplings, baseline, progressive and grey, in every form."""
    pytest.importorskip("PIL")
    photo = pixels(203, 155, "photo")
    jpegs = [encoded(photo, subsampling=s, progressive=p) for s in (0, 1, 2) for p in (False, True)]
    jpegs.append(encoded(photo[..., 0]))
    return jpegs + [library.transcode(jpeg, form) for jpeg in jpegs for form in Form if form != Form.ENCODED]


def run(steps: list[KernelStep], image: Any, window: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    out = np.empty(shape, np.uint8)
    assert not Program(steps, 4).run([image], np.array([window], np.float64), [out])
    return out


@pytest.mark.parametrize("antialias", [False, True])
def test_rows_decoded_on_demand_are_resized_as_those_in_memory(files: list[bytes], antialias: bool) -> None:
    """Growing, shrinking, past rows that nothing reads, and so far that a row of the result reads most of the image."""
    for file in files:
        for window in WINDOWS:
            whole = run([DECODE], file, window, (*window[2:], 3))
            for height, width in ((1, 1), (3, 200), (7, 5), (64, 64), (110, 3), (300, 170)):
                resize = KernelStep(Op.RESIZE, Flag.ANTIALIAS if antialias else Flag(0), height=height, width=width)
                expected = run([resize], whole, window, (height, width, 3))
                assert np.array_equal(run([DECODE, resize], file, window, (height, width, 3)), expected)


def test_a_resize_of_a_file_that_ends_early_says_so(files: list[bytes]) -> None:
    resize = KernelStep(Op.RESIZE, height=50, width=50)
    whole = (0, 0, 203, 155)
    program, out = Program([DECODE, resize], 4), np.empty((2, 50, 50, 3), np.uint8)
    failed = program.run([files[4][:3000], files[4]], np.array([whole, whole], np.float64), out)
    assert list(failed) == [0]
    assert np.array_equal(out[1], run([DECODE, resize], files[4], whole, (50, 50, 3)))


def test_damage_in_the_last_row_is_named_though_nothing_of_it_shows() -> None:
    """Of 33 rows that become 11 those in the middle of three are read; libjpeg decodes eight at a time."""
    pytest.importorskip("PIL")
    file = encoded(pixels(33, 155, "photo"), subsampling=0, restart_marker_rows=1)
    damaged = file[: file.rindex(b"\xff\xd3") + 2] + file[-2:]
    resize, window = KernelStep(Op.RESIZE, height=11, width=11), (0, 0, 33, 155)
    out = np.empty((2, 11, 11, 3), np.uint8)
    assert list(Program([DECODE, resize], 4).run([damaged, file], np.array([window] * 2, np.float64), out)) == [0]
    assert np.array_equal(out[1], run([DECODE, resize], file, window, (11, 11, 3)))


def without(jpeg: bytes, marker: int) -> bytes:
    """A baseline JPEG without its segments of a kind."""
    kept, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        kept += b"" if jpeg[at + 1] == marker else jpeg[at:end]
        at = end
    return kept + jpeg[at:]


def test_a_file_that_lacks_tables_is_not_decoded_with_those_of_another() -> None:
    pytest.importorskip("PIL")
    photo = pixels(64, 80, "photo")
    file, other = encoded(photo), encoded(photo[::-1], optimize=True)
    out = np.empty((1, 64, 80, 3), np.uint8)

    def outcome(data: bytes) -> Any:
        failed = Program([KernelStep(Op.DECODE)], 0).run([data], np.empty((1, 0)), out)
        return failed[0][1] if failed else out.tobytes()

    whole = outcome(file)
    assert outcome(other) != whole
    assert "Quantization table" in outcome(without(file, 0xDB))
    # Huffman tables that a file lacks are those of the standard, which this one was written with.
    assert outcome(without(file, 0xC4)) == whole


GROWTH = """
import sys
import numpy as np
from pathlib import Path
from greenload.backends.native.abi import Flag, KernelStep, Op
from greenload.backends.native.library import Program
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
file, first = Path(sys.argv[1]).read_bytes(), {first}
kept, begin = [], resident()
for side in range(200, 232):
    program = Program([*first, KernelStep(Op.RESIZE, height=side, width=side)], 1)
    out = np.empty((side, side, 3), np.uint8)
    assert not program.run([file], np.ones((1, 1)), [out])
    kept.append((program, out))
print(resident() - begin)
"""


def measured(code: str, file: Path) -> float:
    """What a process of its own prints."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    command = [sys.executable, "-c", code, str(file)]
    return float(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize(
    ("first", "most"),
    [
        ("[KernelStep(Op.DECODE)]", 25),
        ("[KernelStep(Op.DECODE), KernelStep(Op.FLIP, Flag.VERTICAL, 0)]", 60),
    ],
    ids=["decoded on demand", "decoded as a whole"],
)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
def test_many_programs_take_no_more_memory_than_one(first: str, most: float, tmp_path: Path) -> None:
    """An image takes 15 MB. Of a choice there is a program for each of the ways through it."""
    photo = np.repeat(np.repeat(pixels(100, 125, "photo"), 20, 0), 20, 1)
    (tmp_path / "large.jpg").write_bytes(encoded(photo))
    assert measured(GROWTH.replace("{first}", first), tmp_path / "large.jpg") < most


THREADS = """
import sys, threading
from pathlib import Path
from greenload.backends.native.abi import Form
from greenload.backends.native.store import Store
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
file, store = Path(sys.argv[1]).read_bytes(), Store(None, bytes(32), 4)
kept, enough = threading.Barrier(5), threading.Event()
def keep(index):
    store.keep(index, file, Form.PLANES)
    kept.wait()
    enough.wait()
begin = resident()
threads = [threading.Thread(target=keep, args=(index,)) for index in range(4)]
for thread in threads:
    thread.start()
kept.wait()
print(resident() - begin - store.state().bytes / 1e6)
enough.set()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
def test_threads_that_are_idle_hold_nothing_of_large_files_that_they_kept(tmp_path: Path) -> None:
    """The planes of this take 23 MB, in each of four threads."""
    photo = np.repeat(np.repeat(pixels(100, 125, "photo"), 35, 0), 35, 1)
    (tmp_path / "large.jpg").write_bytes(encoded(photo))
    assert measured(THREADS, tmp_path / "large.jpg") < 25


PROGRESSIVE = """
import sys
import numpy as np
from pathlib import Path
from greenload.backends.native.abi import KernelStep, Op
from greenload.backends.native.library import Program
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6
file, out = Path(sys.argv[1]).read_bytes(), np.empty((64, 64, 3), np.uint8)
program = Program([KernelStep(Op.DECODE), KernelStep(Op.RESIZE, height=64, width=64)], 0)
begin = resident()
assert not program.run([file], np.empty((1, 0)), [out])
print(MEASURED - begin)
"""
PEAK = "int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) * 1024 / 1e6"
AFTER = "resident()"


@pytest.mark.parametrize(("behind", "looked_at"), [(b"", AFTER), (b"\xff", PEAK)], ids=["kept", "handed to libjpeg"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
def test_the_coefficients_of_a_large_progressive_file(behind: bytes, looked_at: str, tmp_path: Path) -> None:
    """They take 74 MB, 25 MB of each component.

    None of it stays; and where a fill byte in front of the end makes the file libjpeg's, it isn't there twice.
    """
    photo = np.repeat(np.repeat(pixels(100, 100, "photo"), 35, 0), 35, 1)
    file = encoded(photo, progressive=True, subsampling=0)
    (tmp_path / "large.jpg").write_bytes(file[:-2] + behind + file[-2:])
    most = 110 if looked_at == PEAK else 30
    assert measured(PROGRESSIVE.replace("MEASURED", looked_at), tmp_path / "large.jpg") < most
