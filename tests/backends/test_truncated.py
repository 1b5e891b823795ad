"""Files that are cut off: filled alike for every backend where `Decode(truncated="fill")` asks for it, else refused."""

from __future__ import annotations

import io
import json
import re
import zlib
from pathlib import Path
from typing import Any

import damage
import encoders as e
import numpy as np
import pytest

import greenload as gl
from greenload import cli
from greenload.backends import registry
from greenload.backends.tables import reading, support
from greenload.errors import PipelineError, UsageError
from greenload.loading.pack import pack
from greenload.loading.verify import verify
from greenload.plans.pipeline import Pipeline
from greenload.sources import Files, formats
from greenload.sources.formats import FormatError, truncation
from greenload.specs import MAX_BYTES
from greenload.stages import Batch, CenterCrop, Decode

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.filterwarnings("ignore:.* have an EXIF orientation")  # tests/loading/test_survey.py

FILLED = ("JPEG", "PNG", "BMP")
FILES = {
    name: data
    for name, data in damage.whole().items()
    if formats.sniff(data) in FILLED and not name.startswith(("arithmetic", "interlaced"))
}
"""A file of each kind that is filled, by name."""


def opened(data: bytes, backend: str | None = None, max_bytes: int = MAX_BYTES) -> bytes:
    return formats.opened(data, backend and support(backend), max_bytes, "fill")[0]


def pixels(data: bytes) -> Any:
    """What TensorFlow's graph makes of a file; of a palette BMP, which it doesn't read, what Pillow does."""
    from greenload.backends.pillow import decode
    from greenload.backends.tf.truncation import decode_whole

    if formats.sniff(data) == "BMP" and data[28] <= 8:
        pytest.importorskip("PIL")
        return np.asarray(decode.decode(opened(data)))
    return decode_whole(tf.constant(data), truncated="fill").numpy()


@pytest.mark.parametrize("name", damage.whole())
def test_whole_files_stay_as_they_are_whatever_lies_behind_them(name: str) -> None:
    for data in (damage.whole()[name], damage.whole()[name] + bytes(1000), damage.whole()[name] + b"\xff\xd8\xff\xd9"):
        try:
            formats.header(data)
        except FormatError:
            continue
        assert opened(data) is data
        assert truncation.filled(data, MAX_BYTES) is None or formats.sniff(data) not in FILLED
        if formats.sniff(data) in FILLED:
            assert formats.header(data) == formats.opened(data, None, MAX_BYTES, "fill")[1]


def test_what_a_cut_off_file_has_lost_at_its_end_alone_is_restored() -> None:
    for name, data in FILES.items():
        if name == "palette.bmp":
            continue
        lost = {"JPEG": (1, 2), "PNG": (1, 4, 12, 15), "BMP": ()}[str(formats.sniff(data))]
        whole = pixels(data)
        for count in lost:
            np.testing.assert_array_equal(pixels(data[:-count]), whole, err_msg=f"{name} without {count} bytes")


def cut_off(folder: Path, each: int = 3) -> list[Path]:
    """Files that are cut off at several places behind their pixels' beginning."""
    made = []
    for name, whole in FILES.items():
        for cut in np.linspace(len(whole) // 3, len(whole) - 3, each).astype(int).tolist():
            try:
                opened(whole[:cut])
            except FormatError:
                continue
            made.append(folder / f"{cut}-{name}")
            made[-1].write_bytes(whole[:cut])
    made.append(folder / "reserved.jpg")
    made[-1].write_bytes(e.kept("large.jpg")[:-2000] + bytes(2000))
    return made


@pytest.mark.slow
def test_every_backend_gives_cut_off_files_the_same_pixels_wholly_and_in_windows(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    pytest.importorskip("PIL")
    of_backends: dict[tuple[str, ...], list[Path]] = {}
    for path in cut_off(tmp_path):
        kind = formats.opened(path.read_bytes(), truncated="fill")[1].kind
        able = tuple(name for name in reading(kind) if name != "dali")
        of_backends.setdefault(able, []).append(path)
    every = ("tf", "dali-cpu", "pillow")
    assert sorted(of_backends) == [every[1:], every[:2], every, (*every, "native")]
    assert sum(map(len, of_backends.values())) > 50
    for able, paths in of_backends.items():
        source = Files(paths, list(range(len(paths))))
        pipeline = Pipeline(source, Decode(truncated="fill"), CenterCrop(16), Batch(len(paths)))
        wholes = [pixels(path.read_bytes()) for path in paths]
        for backend in (name for name in able if registry.get(name).availability().usable):
            windows, _ = next(iter(gl.iterate(pipeline, backend=backend)))
            for path, whole, window in zip(paths, wholes, np.asarray(windows), strict=True):
                top, left = (round((side - 16) / 2) for side in whole.shape[:2])
                expected = whole[top : top + 16, left : left + 16]
                np.testing.assert_array_equal(window, expected, err_msg=f"{path.name} on {backend}")
        for path, whole in list(zip(paths, wholes, strict=True))[::6]:
            for backend in set(able) & {"dali-cpu", "pillow"}:
                image = decoded_by(backend, path.read_bytes())
                np.testing.assert_array_equal(image, whole, err_msg=f"{path.name} on {backend}, whole")


def decoded_by(backend: str, data: bytes) -> Any:
    from greenload.backends.dali.decoder import DaliDecoder
    from greenload.backends.pillow import decode

    file, head = formats.opened(data, support(backend), truncated="fill")
    if backend == "pillow":
        return np.asarray(decode.decode(file))
    return DaliDecoder().pixels(formats.plain(file, head), head.kind)


@pytest.mark.parametrize("name", ["large.jpg", "444.jpg", "grey.jpg", "restarts.jpg"])
def test_the_upper_rows_of_a_jpeg_are_the_whole_s_and_the_rest_is_grey(name: str) -> None:
    data = FILES[name]
    whole, begin, before = pixels(data), data.index(b"\xff\xda") + 14, 0
    for share in (0.2, 0.5, 0.8, 0.95):
        image = pixels(data[: begin + int((len(data) - begin) * share)])
        differs = np.flatnonzero((image != whole).any(axis=(1, 2)))
        same = int(differs[0])
        assert before <= same >= (share - 0.2) * len(whole) - 16, share
        before = same
        if share <= 0.5:
            assert (image[-1] == 128).all()


@pytest.mark.parametrize("name", ["rgb.png", "grey-1.png", "palette.png", "rgba.png", "rgb-16.png", "grey-alpha.png"])
def test_the_rows_of_a_png_that_are_there_wholly_are_the_whole_s_and_the_rest_is_empty(name: str) -> None:
    data = FILES[name]
    whole, at = pixels(data), data.index(b"IDAT") + 4
    black = np.zeros(3, np.uint8)
    if b"PLTE" in data:
        black = np.frombuffer(data, np.uint8, 3, data.index(b"PLTE") + 4)
    length = formats.png.row_lengths(data)[0][0]
    for end in range(at + 30, len(data) - 16, max(1, (len(data) - at) // 7)):
        rows = len(zlib.decompressobj().decompress(data[at:end])) // length
        if rows:
            image = pixels(data[:end])
            np.testing.assert_array_equal(image[:rows], whole[:rows], err_msg=f"{end} bytes")
            assert (image[rows:] == black).all()


@pytest.mark.parametrize("name", ["rgb.png", "palette.png"])
def test_damage_in_a_cut_off_png_hides_no_row_in_front_of_it(name: str) -> None:
    data = FILES[name]
    begin, end, length = data.index(b"IDAT") + 4, len(data) - 16, formats.png.row_lengths(data)[0][0]
    whole, at = pixels(data), (2 * begin + 3 * end) // 5
    behind = bytes(np.random.default_rng(1).integers(0, 256, (end - at) // 2, np.uint8))
    stream, found = zlib.decompressobj(), b""
    for place in range(at + len(behind) - begin):
        try:
            found += stream.decompress((data[:at] + behind)[begin + place : begin + place + 1])
        except zlib.error:
            break
    rows = [found[row * length] for row in range(len(found) // length)]
    there = next((row for row, kind in enumerate(rows) if kind > 4), len(rows))
    sure = len(zlib.decompressobj().decompress(data[begin:at])) // length
    image = pixels(data[:at] + behind)
    assert 0 < sure <= there < len(whole)
    np.testing.assert_array_equal(image[:sure], whole[:sure])
    kept = zlib.decompress(formats.png.pixels(opened(data[:at] + behind))[1])
    assert kept == found[: there * length] + bytes(len(kept) - there * length)


def test_a_row_that_no_decoder_reads_ends_what_is_there_of_a_png() -> None:
    rows = bytes([0, *range(30)]) * 10
    body = zlib.compress(rows[: 6 * 31] + b"\x05" + rows[6 * 31 + 1 :])
    head = e.chunk(b"IHDR", (10).to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0)))
    image = pixels(b"\x89PNG\r\n\x1a\n" + head + e.chunk(b"IDAT", body))
    assert (image[:6].reshape(6, 30) == range(30)).all()
    assert not image[6:].any()


@pytest.mark.parametrize("count", [100, 511, 512, 5000])
def test_zeros_that_reach_past_the_pixels_of_a_cut_off_png_are_none(count: int) -> None:
    cut = FILES["rgb.png"][:-40].rstrip(b"\0")
    assert opened(cut + bytes(count)) == opened(cut)


def test_a_cut_off_bmp_keeps_the_rows_it_has() -> None:
    whole, cut = pixels(FILES["top-down.bmp"]), pixels(FILES["top-down.bmp"][:-1500])
    np.testing.assert_array_equal(cut[:30], whole[:30])
    assert (cut[-9:] == 0).all()
    np.testing.assert_array_equal(pixels(FILES["rgb.bmp"][:-1500])[-29:], pixels(FILES["rgb.bmp"])[-29:])


def test_cutting_between_a_progressive_jpeg_s_scans_leaves_no_coefficient_imprecise() -> None:
    pytest.importorskip("PIL")
    from PIL import Image

    data = FILES["progressive.jpg"]
    scans = [match.start() for match in re.finditer(rb"\xff\xda", data)]
    for at in scans[1:]:
        for end in (at, at + 1, at + 5, at + 10):  # in front of the scan, in its marker, in its header, behind it
            image = Image.open(io.BytesIO(opened(data[:end])))
            image.load()
            formats.header(opened(data[:end]))
    assert opened(data[: scans[2] + 5]) == opened(data[: scans[2]])


def half_and(behind: bytes) -> bytes:
    """Half of a JPEG, and what stands behind it."""
    return FILES["420.jpg"][: len(FILES["420.jpg"]) // 2].rstrip(b"\xff") + behind


DAMAGED = {
    FILES["420.jpg"]: "marker D8 out of place",
    FILES["420.jpg"] + bytes(600): "marker D8 out of place",
    FILES["420.jpg"][:-30]: "marker D8 out of place",
    b"\xff\x01\xff\xf0" + FILES["420.jpg"][-90:]: "marker 01 out of place",
    b"\xff\x01\0\0" + FILES["420.jpg"][-90:]: "marker 01 out of place",
    b"\xff\xc0\xff\xf0" + FILES["420.jpg"][-90:]: "a second frame",
    b"\xff\xe1\0\0" + FILES["420.jpg"][-90:-2]: "a segment of 0 bytes",
    b"\xff\xe1\xff\xf0" + FILES["420.jpg"][-90:]: "broken JPEG: it has an end, but a part's length reaches past it",
}
"""What stands behind half of a JPEG that isn't only cut off, and why it is refused: decoders differ in what they make
of it, and those that look at a file's end alone take it for whole."""


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (damage.whole()["made.gif"][:-40], "truncated GIF: .*fills JPEG, PNG and BMP, not GIF: remove it"),
        (damage.whole()["lossy.webp"][:-40], "truncated WebP: .*fills JPEG, PNG and BMP, not WebP: remove it"),
        (damage.whole()["rgb.tif"][:-40], "truncated TIFF: .*fills JPEG, PNG and BMP, not TIFF: remove it"),
        (damage.whole()["interlaced.png"][:-400], "truncated interlaced PNG can't be filled"),
        (e.kept("arithmetic.jpg")[:-40], "truncated arithmetic-coded JPEG can't be filled"),
        (e.kept("420.jpg")[: e.kept("420.jpg").index(b"\xff\xda") + 14], "truncated JPEG: .*finds no pixels in it"),
        (FILES["rgb.png"][:60], "truncated PNG: .*finds no pixels in it"),
        # A thumbnail's end marker isn't the picture's.
        (e.with_exif_block(e.kept("420.jpg"), b"II*\0" + b"\xff\xd8\xff\xd9" * 9)[:60], "truncated JPEG: "),
        (e.with_jpeg_size(e.kept("420.jpg"), 60000, 60000)[:-9], "too large"),
        (e.kept("420.jpg")[:300] + b"\xff\xc0" + e.kept("420.jpg")[300:-30], "broken JPEG|can't be"),
        (FILES["rgb.png"][:200] + b"!" + FILES["rgb.png"][201:-12], "the checksum of its IDAT chunk"),
        (FILES["rgb.png"][:200] + b"!" + FILES["rgb.png"][201:] + bytes(9), "the checksum of its IDAT chunk"),
        *((half_and(behind), why) for behind, why in DAMAGED.items()),
        (FILES["rgb.png"][:33] + b"\0\1\0\0" + FILES["rgb.png"][37:], "broken PNG: it has an end"),
    ],
)
def test_what_cannot_be_filled_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        opened(data)


def test_a_gpu_refuses_cut_off_jpegs_and_takes_png() -> None:
    with pytest.raises(FormatError, match="fills it on 'tf', 'dali-cpu', 'pillow' and 'native', not on 'dali'"):
        opened(e.kept("420.jpg")[:-40], "dali")
    opened(FILES["rgb.png"][:-40], "dali")


def test_filling_holds_the_limit_of_memory_and_is_bounded_by_what_the_header_promises() -> None:
    rows = zlib.compress(bytes(1 << 26), 9)  # 64 MB of 64 kB
    head = e.chunk(b"IHDR", (100).to_bytes(4, "big") * 2 + bytes((8, 2, 0, 0, 0)))
    bomb = b"\x89PNG\r\n\x1a\n" + head + e.chunk(b"IDAT", rows)[:-9]
    assert len(opened(bomb)) < 1000
    for name in ("rgb.png", "rgb.bmp", "420.jpg"):
        with pytest.raises(FormatError, match=r"above the limit of 1,000|truncated BMP"):
            opened(FILES[name][:-40], None, 1000)


def test_whatever_bytes_are_cut_off_are_filled_or_refused() -> None:
    random = np.random.default_rng(4)
    filled = 0
    for index in range(600):
        data = damage.damaged(77, index).data
        data = data[: int(random.integers(0, len(data) + 1))]
        try:
            file, head = formats.opened(data, None, MAX_BYTES, "fill")
        except FormatError:
            continue
        filled += file is not data
        assert formats.header(file) == head
    assert filled > 100


@pytest.mark.slow
def test_python_is_asked_of_no_whole_file(monkeypatch: pytest.MonkeyPatch) -> None:
    from greenload.backends.tf import truncation as tf_truncation

    asked = []
    own = {*FILES.values(), FILES["420.jpg"] + b"\0"}
    opened = tf_truncation.formats.opened

    def spied(data: bytes, *arguments: Any) -> Any:
        if data not in own:  # another test's dataset may still decode
            return opened(data, *arguments)
        asked.append(data)
        return data, None

    monkeypatch.setattr(tf_truncation.formats, "opened", spied)
    tf_truncation._filling.cache_clear()
    for data in FILES.values():
        if data[:2] != b"BM" or data[28] > 8:
            tf_truncation.decode_whole(tf.constant(data), truncated="fill")
    assert not asked
    tf_truncation.decode_whole(tf.constant(FILES["420.jpg"] + b"\0"), truncated="fill")
    assert len(asked) == 1
    tf_truncation._filling.cache_clear()


def test_the_argument_round_trips_and_old_descriptions_load() -> None:
    assert Decode() == Decode(truncated="error")
    assert Decode().to_dict() == {"stage": "Decode", "exif": False}
    assert str(Decode(truncated="fill")) == "Decode(truncated='fill')"
    pipeline = Pipeline(Files(["a.jpg"]), Decode(truncated="fill"), CenterCrop(8), Batch(2))
    assert Pipeline.from_dict(json.loads(json.dumps(pipeline.to_dict()))) == pipeline
    assert pipeline.truncated == "fill"
    for wrong in ("FILL", True, None, ["fill"]):
        with pytest.raises(PipelineError, match="Decode: truncated must be 'error' or 'fill', not "):
            Decode(truncated=wrong)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="truncated must be 'error' or 'fill', not "):
            verify(Files(["a.jpg"]), truncated=wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_verifying_checking_and_packing_judge_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files = {
        "0.jpg": e.kept("420.jpg"),
        "1.jpg": e.kept("420.jpg")[:-60],
        "2.png": FILES["rgb.png"][:-60],
        "3.webp": e.kept("lossy.webp")[:-60],
        "4.jpg": b"no image",
        "5.jpg": e.kept("progressive.jpg")[:-60],
        **{f"{6 + number}.jpg": half_and(behind) for number, behind in enumerate(DAMAGED)},
    }
    bad = [1, 2, 3, 4, 5, *range(6, len(files))]
    folder = tmp_path / "data" / "class"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    source = Files([folder / name for name in files], list(range(len(files))))
    for _ in range(2):  # found, then remembered: each under its own name
        assert verify(source).bad_indices == tuple(bad)
        still_bad = verify(source, truncated="fill")
        assert still_bad.bad_indices == (3, 4, *bad[5:])
        assert re.search(r"3\.webp: truncated WebP: .*not WebP: remove it", str(still_bad.bad[0]))
    result = tmp_path / "check.json"
    assert cli.main(["check", str(folder.parent), "--json", str(result)]) == 1
    found = json.loads(result.read_text())
    assert (len(found["bad"]), found["fillable"]) == (len(bad), 3)
    assert found["bad"][0]["reason"].endswith('fetch it anew, or pass Decode(truncated="fill") for what is there of it')
    printed = capsys.readouterr().out
    assert 'Decode(truncated="fill") would take what is there of 3 of the 13 bad' in printed
    assert cli.main(["check", str(folder.parent), "--truncated", "fill", "--json", str(result)]) == 1
    still = {Path(one["path"]).name for one in json.loads(result.read_text())["bad"]}
    assert still == {list(files)[index] for index in (3, 4, *bad[5:])}
    assert "would take" not in capsys.readouterr().out

    pipeline = Pipeline(source, Decode(truncated="fill"), CenterCrop(8), Batch(2))
    with pytest.warns(UserWarning, match="left out 10 bad of 14 records"):
        labels = [int(n) for _, batch in gl.load(pipeline, backend="tf", epochs=1, on_error="skip") for n in batch]
    assert labels == [0, 1, 2, 5]
    packed = pack(source, tmp_path / "packed", on_error="skip", truncated="fill")
    assert (packed.samples, len(packed.skipped)) == (4, 10)
