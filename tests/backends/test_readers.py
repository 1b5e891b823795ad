"""Folders of several kinds of files: each is decoded by a backend that reads it, and the plan says by which."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import encoders as e
import numpy as np
import odd_jpegs as oj
import pytest

import greenload as gl
from greenload import cli
from greenload.backends import replay
from greenload.backends.base import Availability, Records
from greenload.backends.chain import run_plan
from greenload.backends.dali.backend import DaliBackend
from greenload.backends.pillow.decode import decode
from greenload.backends.readers import Readers, png, upright
from greenload.backends.registry import make_readers
from greenload.backends.tables import TABLES, reading
from greenload.errors import RecordError, SourceError
from greenload.loading.verify import verify
from greenload.planning.choose import helpers, make_plan, readers_for
from greenload.plans.params import DrawLayout
from greenload.plans.plan import Plan
from greenload.sources import Files, formats
from greenload.stages import Batch, CenterCrop, Decode, RandomHorizontalFlip, Stage, primitives

pytest.importorskip("tensorflow")
pytest.importorskip("nvidia.dali")
Image = pytest.importorskip("PIL.Image")

SIDE = 24
KINDS = ("palette BMP", "TIFF", "GIF", "16-bit PNG", "WebP", "JPEG")
CROPPED: tuple[Stage, ...] = (Decode(), CenterCrop(SIDE), Batch(5))
WHOLE: tuple[Stage, ...] = (Decode(), RandomHorizontalFlip(), CenterCrop(SIDE), Batch(5))


def a_file(kind: str, number: int) -> bytes:
    shape = 30 + number, 37
    image = e.pixels(*shape, seed=number)
    match kind:
        case "palette BMP":
            return e.bmp(e.pixels(*shape, 1, seed=number), 8, colours=e.palette(256, number))
        case "TIFF":
            return e.tiff(image)
        case "16-bit PNG":
            return e.png(e.pixels(*shape, seed=number, levels=65536), 16)
    done = io.BytesIO()
    shown = Image.fromarray(image.astype(np.uint8))
    (shown.quantize(60) if kind == "GIF" else shown).save(done, kind)
    return done.getvalue()


def written(folder: Path, files: dict[str, bytes]) -> Files:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return Files([folder / name for name in files])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Three files of each kind, in turns."""
    files = {f"{number}.{kind.split()[-1].lower()}": a_file(kind, number) for number in range(3) for kind in KINDS}
    return written(tmp_path_factory.mktemp("mixed"), files)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def helped(source: Files, backend: str, stages: tuple[Stage, ...], **readers: str) -> Plan:
    """What ``"auto"`` makes where it chooses a backend."""
    return replace(
        make_plan(gl.Pipeline(source, *stages), backend, threads=2), readers=readers or readers_for(backend, helpers())
    )


def by_their_own(source: Files, stages: tuple[Stage, ...]) -> np.ndarray[Any, Any]:
    """Each file's pixels by a backend that reads its kind."""
    images = []
    for index in range(len(source)):
        data: Any = source.read(index)
        backend = reading(formats.opened(data, truncated="fill")[1].kind)[0]
        pipeline = gl.Pipeline(source, *stages)
        numbers = DrawLayout.of(pipeline).prepare(pipeline.seed, 0, np.array([index]))
        images.append(run_plan(make_plan(pipeline, backend, threads=1), Records([data], numbers, ["a file"]))[0])
    return np.stack(images)


def given(plan: Plan, **arguments: Any) -> np.ndarray[Any, Any]:
    return np.concatenate([images for images, _ in gl.iterate(plan, **arguments)])


def run(plan: Plan) -> np.ndarray[Any, Any]:
    """All records in one batch, without tf.data."""
    source, count = plan.pipeline.source, len(plan.pipeline.source)
    numbers = DrawLayout.of(plan.pipeline).prepare(0, 0, np.arange(count))
    return run_plan(
        plan, Records([source.read(i) for i in range(count)], numbers, list(map(source.name, range(count))))
    )


@pytest.mark.slow
@pytest.mark.parametrize("stages", [CROPPED, WHOLE], ids=["cropped", "whole"])
def test_every_kind_has_the_pixels_of_its_own_backend(mixed: Files, stages: tuple[Stage, ...]) -> None:
    wanted = by_their_own(mixed, stages)
    for backend in ("pillow", "dali-cpu"):
        plan = helped(mixed, backend, stages)
        assert plan.readers, backend
        np.testing.assert_array_equal(given(plan), wanted, backend)
    if stages is CROPPED:  # single samples, which are tf's, in the form that goes on by itself
        dataset = gl.load(make_plan(gl.Pipeline(mixed, *stages[:-1]), "auto"))
        np.testing.assert_array_equal(np.stack([np.asarray(image) for image, _ in dataset]), wanted)


@pytest.mark.slow
def test_batches_that_cross_from_tf_data(mixed: Files) -> None:
    plan = make_plan(gl.Pipeline(mixed, *CROPPED), "auto")
    assert plan.decoder != "tf"
    images = [np.asarray(images) for images, _ in gl.load(plan, epochs=1)]
    np.testing.assert_array_equal(np.concatenate(images), by_their_own(mixed, CROPPED))


def test_the_plan_says_who_reads_what(mixed: Files) -> None:
    plan = make_plan(gl.Pipeline(mixed, *CROPPED[:-1]), "auto")
    assert plan.decoder == "tf"
    assert "Decode + crop: tf; palette BMP by pillow; TIFF by dali-cpu" in plan.describe().splitlines()
    assert json.loads(json.dumps(plan.to_dict()))["readers"] == {"palette BMP": "pillow", "TIFF": "dali-cpu"}
    assert hash(plan) == hash(replace(plan, readers=None))
    named = make_plan(plan.pipeline, "tf")
    assert named.readers is None and "readers" not in named.to_dict()
    assert "pillow" not in named.describe()


def test_a_backend_that_reads_all_that_is_there_comes_first(tmp_path: Path) -> None:
    files = {f"{number}.{kind.split()[-1].lower()}": a_file(kind, number) for number in range(4) for kind in KINDS[:2]}
    plan = make_plan(gl.Pipeline(written(tmp_path, files), *CROPPED), "auto")
    assert plan.decoder == "dali-cpu"


def test_a_kind_that_the_look_at_a_few_records_missed_is_read_too(tmp_path: Path) -> None:
    jpeg = a_file("JPEG", 0)
    files = {f"{number:02}.jpg": a_file("TIFF", 1) if number == 21 else jpeg for number in range(40)}
    plan = make_plan(gl.Pipeline(written(tmp_path, files), *CROPPED), "auto")
    assert len(given(plan)) == 40


def test_a_backend_that_was_named_refuses_by_name(mixed: Files) -> None:
    for backend, refusal in (
        ("pillow", "TIFF is not read by backend 'pillow': use 'dali-cpu', or convert"),
        ("tf", "palette BMP is not read by backend 'tf': use 'dali-cpu' or 'pillow', or convert"),
        ("dali-cpu", "GIF is not read by backend 'dali-cpu': use 'tf' or 'pillow', or convert"),
    ):
        with pytest.raises(RecordError, match=refusal):
            run(make_plan(gl.Pipeline(mixed, *CROPPED), backend))


SAID = r"2 of the 12 records looked at are of kinds that no backend here reads: 2 TIFF; convert them to JPEG or PNG"


@pytest.mark.slow
def test_what_no_backend_here_reads_is_counted_before_the_first_epoch(
    mixed: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    for asked in ("availability", "presence"):
        monkeypatch.setattr(DaliBackend, asked, lambda self: Availability(self.name, False, "not installed", "pip"))
    pipeline = gl.Pipeline(Files([mixed.name(index) for index in range(12)]), *CROPPED)
    with pytest.warns(UserWarning, match=SAID):
        batches = gl.iterate(pipeline)
    with pytest.raises(RecordError, match=r"0\.tiff: TIFF is not supported by the backends that can run here: install"):
        next(batches)
    with pytest.warns(UserWarning, match=r"left out 2 bad of 12 records: .*what 'dali-cpu' needs") as said:
        assert len(given(make_plan(pipeline, "auto"), on_error="skip")) == 10
    assert len(said) == 1
    with pytest.raises(SourceError, match="all 1 records are of kinds that no backend here reads: TIFF; convert them"):
        gl.iterate(gl.Pipeline(Files([mixed.name(1)]), *CROPPED))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tf", "pillow", "dali-cpu"])
def test_a_broken_file_that_another_backend_decodes_is_named(backend: str, tmp_path: Path) -> None:
    match backend:
        case "tf":
            good = a_file("palette BMP", 0)
            broken = good[:-30]
        case "pillow":  # its checksum holds, but its pixels can't be decompressed
            good = a_file("16-bit PNG", 0)
            broken = good[:33] + e.chunk(b"IDAT", b"x" * 400) + e.chunk(b"IEND", b"")
        case _:  # with more colours than its palette has
            good = a_file("GIF", 0)
            whole = e.gif(e.pixels(30, 37, 1), e.palette(256))
            broken = whole[:10] + b"\xf1" + whole[11 : 13 + 3 * 4] + whole[13 + 3 * 256 :]
    source = written(tmp_path, {"a": a_file("JPEG", 0), "b": good, "c": broken, "d": good})
    plan = helped(source, backend, CROPPED)
    with pytest.raises(RecordError, match=r"/c: .*(decoded|has colour|truncated BMP)"):
        list(gl.load(plan, epochs=1)) if backend == "tf" else given(plan)
    found = verify(source, remember=False, backend=backend, readers=plan.readers)
    assert found.bad_indices == (2,)


@pytest.mark.slow
def test_verification_is_remembered_apart_for_what_others_read(mixed: Files, tmp_path: Path) -> None:
    source = Files([mixed.name(index) for index in range(6)])
    assert len(verify(source).bad) == 2
    assert len(verify(source, readers=readers_for("tf", ["pillow"])).bad) == 1
    assert len(verify(source).bad) == 2
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 2


@pytest.mark.slow
def test_check_judges_by_what_load_would_do(mixed: Files, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(Path(mixed.name(0)).parent)
    assert cli.main(["check", folder]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "18 of 18 images decode"
    assert cli.main(["check", folder, "--backend", "tf"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "12 of 18 images decode, 6 do not"
    assert cli.main(["check", folder, "--backend", "opencv"]) == 2
    assert "--backend must be one of auto, tf, dali-cpu, dali, pillow, native, not 'opencv'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tf", "pillow"])
def test_the_limit_of_memory_holds_for_them(backend: str, mixed: Files) -> None:
    source = Files([mixed.name(1 if backend == "tf" else 3)])
    needed = 30 * 37 * (10 if backend == "tf" else 13)
    for limit, read in ((needed, True), (needed - 1, False)):
        plan = helped(source, backend, (Decode(max_bytes=limit), *CROPPED[1:]))
        if read:
            assert len(run(plan)) == 1
            continue
        with pytest.raises(RecordError, match=rf"takes {needed:,} bytes to decode, above the limit of {limit:,}"):
            run(plan)


@pytest.mark.parametrize("backend", ["pillow", "dali-cpu"])
def test_they_are_turned_upright_where_that_is_asked(backend: str, tmp_path: Path) -> None:
    files = {str(value): e.with_exif(e.kept("420.jpg"), value) for value in range(1, 9)}
    source = written(tmp_path, files)
    stages = (Decode(exif=True), CenterCrop(SIDE), Batch(8))
    wanted = given(make_plan(gl.Pipeline(source, *stages), backend))
    np.testing.assert_array_equal(given(helped(source, backend, stages, JPEG="pillow")), wanted)


@pytest.mark.slow
@pytest.mark.parametrize("backend", [pytest.param("tf", marks=pytest.mark.slow), "pillow", "dali-cpu"])
def test_each_is_turned_once_and_filled_where_it_is_cut_off(backend: str, tmp_path: Path) -> None:
    image, shape = e.pixels(30, 37), (30, 37, 1)
    files = {f"{turn}.tif": e.tiff(image, compression=8, extra={274: [turn]}) for turn in (3, 5, 6)}
    files["cut.bmp"] = e.bmp(e.pixels(*shape), 8, colours=e.palette(256))[:-400]
    exif = struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x112, 3, 1, 6, 0, 0)
    deep = e.png(e.pixels(30, 37, levels=65536), 16, before=e.chunk(b"eXIf", exif))
    files |= {"deep.png": deep, "cut.png": deep[:-900], "some.gif": a_file("GIF", 1)}
    files["partial.jpg"] = e.with_exif(oj.jpeg(image, frame=0xC2, scans=oj.progressive(3)[:4], jfif=True), 8)
    source = written(tmp_path, files)
    kinds = {formats.opened(source.read(i), truncated="fill")[1].kind for i in range(len(source))}  # type: ignore[arg-type]
    for first in (CROPPED[1:], WHOLE[1:]):
        stages = (Decode(exif=True, truncated="fill"), *first)
        plan = helped(source, backend, stages)
        assert kinds & set(plan.readers or ())
        np.testing.assert_array_equal(given(plan), by_their_own(source, stages))


def test_dali_has_partial_progressive_jpegs_decoded_by_others(tmp_path: Path) -> None:
    partial = oj.jpeg(e.pixels(90, 120), frame=0xC2, scans=oj.progressive(3)[:4])
    source = written(tmp_path, {"a.jpg": a_file("JPEG", 0), "b.jpg": partial})
    assert formats.header(partial).kind == "partial progressive JPEG"
    for reader in ("pillow", "tf"):
        readers = readers_for("dali-cpu", [reader])
        assert readers["partial progressive JPEG"] == reader
        plan = helped(source, "dali-cpu", CROPPED, **readers)
        np.testing.assert_array_equal(run(plan), by_their_own(source, CROPPED))
    with pytest.raises(RecordError, match="partial progressive JPEG is not read by backend 'dali-cpu': use 'tf' or"):
        run(make_plan(plan.pipeline, "dali-cpu"))


def test_tf_reads_every_kind_of_jpeg() -> None:
    """Its graph hands on none, so that JPEGs pay nothing."""
    assert {kind for kind in formats.KINDS if kind.endswith("JPEG")} <= set(TABLES["tf"].kinds)


def test_a_png_that_is_handed_on_holds_the_pixels() -> None:
    for shape in ((1, 1), (3, 70_000), (300, 250)):
        image = e.pixels(*shape).astype(np.uint8)
        np.testing.assert_array_equal(np.asarray(decode(png(image))), image)
        formats.header(png(image))
        for turn in range(1, 9):
            np.testing.assert_array_equal(upright(image, turn), np.asarray(decode(png(image), orientation=turn)))


def test_a_batch_of_pixels_holds_no_file_for_them() -> None:
    """What a backend that doesn't decode is given."""
    pixels = [np.zeros((2, 3, 3), np.uint8)]
    assert make_readers({"TIFF": "dali-cpu"}, 1).files(pixels, "pillow", primitives.Decode()) == []


@pytest.mark.parametrize("backend", ["pillow", "dali-cpu"])
def test_in_a_profile_their_work_is_the_decoding_steps(
    backend: str, mixed: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = helped(mixed, backend, CROPPED)
    numbers = np.zeros((18, DrawLayout.of(plan.pipeline).count))
    parts = [Records([mixed.read(i) for i in range(18)], numbers, [mixed.name(i) for i in range(18)])]
    (segment,) = plan.segments
    kinds = sum(formats.header(data).kind in (plan.readers or ()) for data in parts[0].images)
    full, without = replay.pair(plan, segment, segment.steps[0], parts)
    done = replay.through(plan, segment, parts)
    idle = replay.idle_runner(plan, segment, 18, parts, done)
    decoded: list[str] = []
    pixels = Readers.pixels

    def spied(self: Readers, data: bytes, head: Any) -> Any:
        if any(data is image for image in parts[0].images):  # another test's batches may still be decoded
            decoded.append(head.kind)
        return pixels(self, data, head)

    monkeypatch.setattr(Readers, "pixels", spied)
    full.run(18)
    assert len(decoded) == kinds > 0
    without.run(18)
    idle.run(parts[0])
    assert len(decoded) == kinds
    for one in (full, without, idle):
        one.close()
