"""What decoding drops is counted, and said once: orientations, and pixels in the low bits of 16."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import encoders as e
import numpy as np
import pytest

import greenload as gl
from greenload import cli
from greenload.profiling import profile as profiling
from greenload.sources import Files
from greenload.stages import Batch, CenterCrop, Decode, Stage

pytest.importorskip("tensorflow")
pytestmark = pytest.mark.slow
SMALL: tuple[Stage, ...] = (CenterCrop(4), Batch(4))
TURN = "of the 8 records looked at have an EXIF orientation, which Decode() doesn't apply: Decode(exif=True) turns them"
LOW = "of the 8 records looked at are 16-bit PNGs without a value above 4,240"


def made(folder: Path) -> list[Path]:
    """Eight files: three JPEGs and a PNG that are to be turned, and a 16-bit PNG of 12 bits."""
    plain, image = e.kept("420.jpg"), e.pixels(9, 9)
    block = b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
    files = {
        "a.jpg": plain,
        "b.jpg": e.with_exif(plain, 6),
        "c.jpg": e.with_exif(plain, 3, ">"),
        "d.jpg": e.with_exif(plain, 1),
        "e.jpg": e.with_exif(plain, 8),
        "f.png": e.png(image, before=e.chunk(b"eXIf", block)),
        "g.png": e.png(e.pixels(9, 9, 1, levels=4096), 16),
        "h.png": e.png(e.pixels(9, 9, 1, levels=65536), 16),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in files]


def said(call: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize("backend", [pytest.param("tf", marks=pytest.mark.long), "dali-cpu"])
def test_load_and_iterate_say_what_is_dropped(backend: str, tmp_path: Path) -> None:
    if backend == "dali-cpu":
        pytest.importorskip("nvidia.dali")
    source = Files(made(tmp_path))
    plain, upright = (gl.Pipeline(source, Decode(exif), *SMALL) for exif in (False, True))
    for pipeline, expected in (
        (plain, [f"4 {TURN}", f"1 {LOW}"]),
        (upright, [f"1 {LOW}"]),
    ):
        for call in (
            lambda pipeline=pipeline: gl.load(pipeline, backend, epochs=1),
            lambda pipeline=pipeline: gl.iterate(pipeline, backend=backend).close(),
        ):
            found = said(call)
            assert [text[: len(start)] for text, start in zip(found, expected, strict=True)] == expected
    ordinary = Files([tmp_path / name for name in ("a.jpg", "d.jpg", "h.png")])
    assert said(lambda: gl.load(gl.Pipeline(ordinary, Decode(), *SMALL), backend, epochs=1)) == []


def test_a_look_is_at_a_few_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(e.with_exif(e.kept("420.jpg"), 6))
    read: list[int] = []
    source, read_one = Files([path] * 5000), Files.read

    def spied(self: Files, index: int) -> bytes:
        if self is source:  # another test's dataset may still be reading ahead
            read.append(index)
        return read_one(self, index)

    monkeypatch.setattr(Files, "read", spied)
    pipeline = gl.Pipeline(source, Decode(), *SMALL)
    (text,) = said(lambda: gl.load(gl.make_plan(pipeline, "tf"), epochs=1))
    assert text.startswith("16 of the 16 records looked at have an EXIF orientation")
    assert 16 <= len(read) <= 40


def test_pixels_are_no_files() -> None:
    images = gl.Arrays(np.zeros((4, 8, 8, 3), np.uint8))
    assert said(lambda: gl.load(gl.Pipeline(images, *SMALL), "tf", epochs=1)) == []


def test_profile_says_it_before_it_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(**_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(profiling, "discover", stop)
    pipeline = gl.Pipeline(Files(made(tmp_path)), Decode(), *SMALL)

    def profile() -> None:
        with pytest.raises(KeyboardInterrupt):
            gl.profile(pipeline, "tf")

    assert len(said(profile)) == 2


def test_check_counts_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    made(folder)
    (folder / "i.jpg").write_bytes(e.with_exif(e.kept("420.jpg"), 6)[:-2])
    result = tmp_path / "check.json"
    assert cli.main(["check", str(folder), "--json", str(result)]) == 1
    found = json.loads(result.read_text())
    assert (found["samples"], len(found["bad"])) == (9, 1)
    assert (found["turned"], found["low_bits"]) == (4, 1)
    printed = " ".join(capsys.readouterr().out.split())
    assert "4 of the 8 images that decode have an EXIF orientation, which Decode() doesn't apply" in printed
    assert "1 of the 8 images that decode are 16-bit PNGs without a value above 4,240" in printed
