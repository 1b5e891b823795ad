"""The Pillow backend's own: threads, what it is found to be, limits and switches of Pillow's that must not show."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import conformance as suite
import encoders as e
import numpy as np
import pytest

from greenload.backends import registry
from greenload.backends.base import Records
from greenload.backends.chain import run_plan
from greenload.backends.pillow import backend, decode
from greenload.backends.tables import support
from greenload.cli import doctor
from greenload.errors import BackendUnavailable, PipelineError, RecordError, UsageError
from greenload.loading.verdicts import Judge
from greenload.loading.verify import verify
from greenload.planning.choose import make_plan
from greenload.plans.params import DrawLayout
from greenload.sources import Arrays, Files, formats
from greenload.specs import MAX_BYTES
from greenload.stages import (
    Batch,
    CenterCrop,
    Decode,
    Normalize,
    Pad,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomVerticalFlip,
    Resize,
    Stage,
    ToDtype,
)

pil = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
Pixels = np.ndarray[Any, Any]


def runner_of(stages: tuple[Stage, ...], images: Any, threads: int = 2) -> tuple[Any, Records]:
    """A runner for stages that all are one segment, and the images as its records."""
    encoded = isinstance(images[0], bytes)
    source = Files([f"{k}.jpg" for k in range(len(images))]) if encoded else Arrays(np.stack(images))
    pipeline = suite.pipeline_of(source, stages)
    plan = make_plan(pipeline, "pillow", threads=threads)
    (segment,) = plan.segments
    return registry.make_runner(plan, segment, len(images)), suite.records_of(pipeline, images)


def decoded(data: bytes) -> Pixels:
    """A file's pixels by the backend."""
    head = formats.header(data)
    runner, records = runner_of((Decode(), CenterCrop((head.height, head.width))), [data])
    image: Pixels = runner.run(records)[0]
    runner.close()
    return image


@pytest.fixture
def fresh_probe() -> Iterator[None]:
    backend._probe.cache_clear()
    yield
    backend._probe.cache_clear()


def test_channels_in_reverse_are_mirrored() -> None:
    images = np.stack([suite.pixels(9, 13, "noise", k) for k in range(2)])[..., ::-1]  # BGR to RGB, without a copy
    pipeline = suite.pipeline_of(Arrays(images), (RandomHorizontalFlip(1.0),))
    found = run_plan(make_plan(pipeline, "pillow"), suite.records_of(pipeline, images))
    assert (found == images[:, :, ::-1]).all()


def named() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("greenload-pillow")]


def test_batches_of_several_threads_do_not_mix(bad_images: ModuleType) -> None:
    encoded = [bad_images.jpeg(40 + k, 60 - k, seed=k) for k in range(12)]
    before = len(named())
    runner, records = runner_of((Decode(), RandomResizedCrop(24), RandomHorizontalFlip()), encoded, threads=3)
    turned = [Records(encoded[k:] + encoded[:k], np.roll(records.numbers, -k, 0), records.names) for k in range(12)]
    alone = runner.run(records).copy()
    with ThreadPoolExecutor(6) as pool:
        for k, found in enumerate(pool.map(runner.run, turned * 3)):
            assert (found == np.roll(alone, -(k % 12), 0)).all()
    assert len(named()) == before + 3
    runner.close()
    runner.close()
    assert len(named()) == before
    with pytest.raises(UsageError, match="closed: make another"):
        runner.run(records)


FORKED = """
import os, sys
sys.path[:0] = [{support!r}]
import numpy as np
import conformance as suite
from greenload.backends import registry
from greenload.backends.chain import run_plan
from greenload.planning.choose import make_plan
from greenload.sources import Arrays
from greenload.stages import Resize
images = [suite.pixels(50, 60, "noise", k) for k in range(8)]
pipeline = suite.pipeline_of(Arrays(np.stack(images)), (Resize((20, 20)),))
plan, records = make_plan(pipeline, "pillow", threads=2), suite.records_of(pipeline, images)
here = registry.make_runner(plan, plan.segments[0], 8)
expected = here.run(records)
child = os.fork()
if not child:
    os._exit(0 if (run_plan(plan, records) == expected).all() else 1)
assert os.waitpid(child, 0)[1] == 0
assert (here.run(records) == expected).all()
assert "tensorflow" not in sys.modules
"""


@pytest.mark.slow
def test_a_forked_child_makes_its_own() -> None:
    code = FORKED.format(support=str(e.IMAGES.parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_first_bad_record_is_named_and_the_runner_goes_on(bad_images: ModuleType) -> None:
    good = [bad_images.jpeg(30, 40, seed=k) for k in range(8)]
    runner, records = runner_of((Decode(), Resize((8, 8))), good)
    broken = bad_images.build()["broken-huffman-table.jpg"].data
    bad = [*good[:3], broken, good[4], broken, *good[6:]]
    with pytest.raises(RecordError) as caught:
        runner.run(Records(bad, records.numbers, records.names))
    assert caught.value.path == "images[3]"
    assert caught.value.reason.startswith("can't be decoded: ")
    assert runner.run(records).shape == (8, 8, 8, 3)
    runner.close()


def test_an_image_too_small_is_named_where_a_segment_begins() -> None:
    images = [suite.pixels(height, width, "noise") for height, width in ((40, 40), (40, 30))]
    stages = (Decode(), RandomHorizontalFlip(), RandomCrop(36, padding=1))
    pipeline = suite.pipeline_of(Files(["a", "b"]), stages)
    plan = make_plan(pipeline, {"RandomCrop": "pillow"})
    segment = next(s for s in plan.segments if s.backend == "pillow")
    runner = registry.make_runner(plan, segment, 2)
    with pytest.raises(RecordError, match="at least 36×36 pixels with its padding") as caught:
        runner.run(suite.records_of(pipeline, images))
    assert caught.value.path == "images[1]"
    runner.close()


def test_results_are_the_callers_and_inputs_stay_as_they_are() -> None:
    images = [suite.pixels(20, 30, "noise", k) for k in range(4)]
    for stages in (
        (RandomErasing(1.0),),
        (Pad(2),),
        (RandomVerticalFlip(1.0),),
        (RandomHorizontalFlip(0.0),),
        (CenterCrop(9), RandomHorizontalFlip(1.0)),
        (ToDtype("float32", scale=True), RandomErasing(1.0), Normalize(suite.MEAN, suite.STD)),
    ):
        for given in (images, [image.astype(np.float32) / 255 for image in images]):
            frozen = [image.copy() for image in given]
            for image in frozen:
                image.flags.writeable = False  # as views that another backend hands over may be
            runner, records = runner_of(stages, frozen)
            first = runner.run(records)
            kept = first.copy()
            second = runner.run(records)
            first[...] = 0
            assert (second == kept).all()
            assert all((a == b).all() for a, b in zip(frozen, given, strict=True))
            runner.close()


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_any_number_of_channels(channels: int, dtype: str) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 41, 30, channels)).astype(dtype)
    if dtype == "float32":
        images /= 255
    stages = (RandomHorizontalFlip(1.0), CenterCrop(29), Resize((50, 20)), RandomVerticalFlip(1.0))
    pipeline = suite.pipeline_of(Arrays(images), stages)
    records = suite.records_of(pipeline, images)
    found = suite.Difference.of(
        suite.run("pillow", pipeline, records), suite.reference(pipeline, images, records.numbers)
    )
    assert found.within(suite.held(make_plan(pipeline, "pillow")))


def test_images_of_different_sizes_cross_to_another_backend_and_from_it(bad_images: ModuleType) -> None:
    pytest.importorskip("nvidia.dali")
    encoded = [bad_images.jpeg(40 + 9 * k, 90 - 7 * k, seed=k) for k in range(6)]
    pipeline, records = suite.decoding(encoded, (RandomResizedCrop(24), RandomHorizontalFlip()))
    alone = suite.run("pillow", pipeline, records)
    first, resize, flip = (step.name for step in make_plan(pipeline, "pillow").steps if step.kind == "pixels")
    for wanted in (
        {first: "dali-cpu", resize: "pillow", flip: "dali-cpu"},
        {first: "dali-cpu", resize: "pillow", flip: "pillow"},
    ):
        assert (run_plan(make_plan(pipeline, wanted), records) == alone).all()
    wanted = {first: "pillow", resize: "dali-cpu", flip: "dali-cpu"}
    assert (run_plan(make_plan(pipeline, wanted), records) == suite.run("dali-cpu", pipeline, records)).all()


def test_params_follow_from_the_sizes_where_a_segment_begins() -> None:
    pytest.importorskip("nvidia.dali")
    images = np.stack([suite.pixels(30, 40, "noise", k) for k in range(6)])
    pipeline = suite.pipeline_of(Arrays(images), (Pad(9), RandomErasing(1.0)))
    records = suite.records_of(pipeline, images)
    mixed = make_plan(pipeline, {"Pad": "dali-cpu", "RandomErasing": "pillow"})
    assert (run_plan(mixed, records) == suite.run("pillow", pipeline, records)).all()


# decoding


def without_adobe(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]


@pytest.mark.slow
def test_cmyk_with_black_decodes_as_in_tensorflow_and_as_pillow_shows_it() -> None:
    tensorflow = pytest.importorskip("tensorflow")
    inks = np.random.default_rng(0).integers(0, 256, (64, 80, 4), np.uint8)
    file = io.BytesIO()
    pil.fromarray(inks, "CMYK").save(file, "JPEG", quality=100)
    adobe = file.getvalue()
    expected = tensorflow.io.decode_jpeg(adobe, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    for data in (adobe, without_adobe(adobe)):
        assert (decoded(data) == expected).all()
        assert abs(np.array(pil.open(io.BytesIO(data)).convert("RGB")).astype(int) - expected).max() <= 1
    assert (expected != 255).mean() > 0.9


def test_pillows_own_limit_of_pixels_and_its_warnings_do_not_show(
    bad_images: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pil, "MAX_IMAGE_PIXELS", 100)
    levels = e.pixels(31, 45, 1)
    files = [
        bad_images.jpeg(31, 45),
        e.with_exif_block(bad_images.jpeg(31, 45), b"Exif\0\0MM\0*" + bytes(300)),
        e.png(levels, colours=e.palette(256), alpha=bytes(range(256))),
        e.bmp(e.pixels(31, 45)),
        e.gif(levels, e.palette(256)),
    ]
    runner, records = runner_of((Decode(), CenterCrop((30, 44))), files)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert runner.run(records).shape == (5, 30, 44, 3)
    runner.close()


def test_a_gif_has_the_canvas_that_pillow_gives_it() -> None:
    levels, palette = e.pixels(31, 45, 1), e.palette(256)
    for transparent in (None, 200):
        data = e.gif(levels, palette, place=(5, 9), canvas=(60, 70))
        if transparent is not None:
            data = data[:781] + b"!\xf9\4\1\0\0" + bytes([transparent]) + b"\0" + data[781:]
        expected = np.array(pil.open(io.BytesIO(data)).convert("RGB"))
        assert expected.shape == (60, 70, 3)
        assert (decoded(data) == expected).all()
    with pytest.raises(formats.FormatError, match="GIF of 65535×65535 pixels is too large"):
        decoded(e.gif(levels, palette, canvas=(65535, 65535)))


def test_damage_is_refused_even_where_a_program_told_pillow_to_pass_over_it(
    bad_images: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import PIL.ImageFile

    whole = e.png(e.pixels(31, 45))
    body = whole.index(b"IDAT")
    half = whole[body + 4 : body + 400]
    cut = whole[: body - 4] + e.chunk(b"IDAT", half) + e.chunk(b"IEND", b"")
    with pytest.raises(RecordError, match=r"truncated PNG: .* rows"):
        decoded(cut)
    monkeypatch.setattr(PIL.ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(RecordError, match="LOAD_TRUNCATED_IMAGES is set"):
        decoded(cut)


def test_a_pillow_without_webp_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = e.kept("lossy.webp")
    (tmp_path / "lossy.webp").write_bytes(data)
    monkeypatch.delattr("PIL._webp", raising=False)
    monkeypatch.setitem(sys.modules, "PIL._webp", None)
    with pytest.raises(RecordError, match=r"built without libwebp, so it reads no WebP: .*use backend 'tf'"):
        decoded(data)
    why = Judge("pillow", MAX_BYTES, "error", None).reason(Files([tmp_path / "lossy.webp"]), 0)
    assert why.startswith("this Pillow is built without libwebp")


@pytest.mark.slow
def test_verifying_goes_by_what_pillow_reads(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    levels, colours = e.pixels(9, 9, 1), e.palette(256)
    whole = e.bmp(levels, 8, colours=colours)
    files = [whole, e.png(np.full((9, 9, 3), 40_000), 16), e.gif(levels, colours), e.tiff(e.pixels(9, 9)), whole[:-1]]
    for k, data in enumerate(files):
        (tmp_path / f"{k}.bmp").write_bytes(data)
    paths = [tmp_path / f"{k}.bmp" for k in range(len(files))]
    found = verify(Files(paths), backend="pillow", remember=False)
    assert found.bad_indices == (1, 3, 4)
    reasons = [error.reason for error in found.bad]
    assert reasons[0].startswith("16-bit PNG is not read by backend 'pillow': use 'tf' or 'dali-cpu'")
    assert reasons[1].startswith("TIFF is not read by backend 'pillow': use 'dali-cpu'")
    assert reasons[2].startswith("truncated BMP")


# what its table has, and what is found


def test_what_pillow_can_not_hold_is_refused_with_a_backend_that_does() -> None:
    source = Arrays(np.zeros((2, 9, 9, 3), np.uint8))
    for stage in (Resize((4, 4), antialias=False), ToDtype("bfloat16")):
        with pytest.raises(PipelineError, match=r"can't run on backend 'pillow' to tolerance.*use backend='tf'"):
            make_plan(suite.pipeline_of(source, (stage,)), "pillow")
    for stages in ((Resize((4, 4)),), (Resize((4, 4)), Batch(2), ToDtype("float16"))):
        assert DrawLayout.of(make_plan(suite.pipeline_of(source, stages), "pillow").pipeline).count == 0


def test_kernels_are_told_by_what_the_compiler_left(tmp_path: Path) -> None:
    library = tmp_path / "core.so"
    for content, expected in (
        (b"\0GNU C17 12.2.0 -mavx2 -msse4 -O3\0", "AVX2 kernels"),
        (b"\0GNU C17 12.2.0 -O3\0GNU C17 12.2.0 -msse4 -O3\0", "SSE4 kernels"),
        (b"\0GNU C17 12.2.0 -mno-avx2 -O3\0 -mavx2", "instruction set unknown"),
        (b"stripped", "instruction set unknown"),
    ):
        library.write_bytes(content)
        assert backend.kernels(library) == expected
    assert backend.kernels(tmp_path / "none.so") == "instruction set unknown"


def test_plain_pillow_is_usable_and_said_to_cost_more(fresh_probe: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pil, "__version__", "12.1.1.post0")
    found = registry.get("pillow").availability()
    assert (found.usable, found.remedy) == (True, "")
    assert found.detail.startswith("Pillow-SIMD 12.1.1.post0, ")
    monkeypatch.setattr(pil, "__version__", "12.1.1")
    backend._probe.cache_clear()
    found = registry.get("pillow").availability()
    assert found.usable
    assert found.detail == "Pillow 12.1.1, not Pillow-SIMD: resizing costs several times as much CPU"
    assert found.remedy.endswith('CC="cc -mavx2" pip install pillow-simd')
    part = doctor._part("Pillow-SIMD", doctor._pillow, backend.FASTER)
    assert not part.usable
    assert "not Pillow-SIMD" in part.detail


def test_without_pillow_the_remedy_is_named(fresh_probe: None, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(suite.pipeline_of(Arrays(np.zeros((2, 9, 9, 3), np.uint8)), (Resize((4, 4)),)), "pillow")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(BackendUnavailable, match=r"Pillow can't be imported: .*pip install 'greenload\[pillow\]'"):
        registry.make_runner(plan, plan.segments[0], 2)
    assert not registry.get("pillow").availability().usable


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("missing", [1, 400])
def test_a_png_that_lacks_rows_is_refused_not_black(interlaced: bool, missing: int) -> None:
    whole = e.png(e.pixels(11, 13), interlaced=interlaced)
    begin = whole.index(b"IDAT")
    length = int.from_bytes(whole[begin - 4 : begin], "big")
    rows = zlib.decompress(whole[begin + 4 : begin + 4 + length])
    short = e.chunk(b"IDAT", zlib.compress(rows[: len(rows) - missing]))
    cut = whole[: begin - 4] + short + whole[begin + 8 + length :]
    formats.header(cut, support("pillow"))  # its chunks are whole
    decode.decode(whole)
    with pytest.raises(formats.FormatError, match=f"{len(rows) - missing} bytes of rows, .* promises {len(rows)}"):
        decode.decode(cut)


def test_small_images_start_no_threads_and_are_refused_once_closed() -> None:
    for side, threads in ((16, False), (200, True)):
        images = np.zeros((4, side, side, 3), np.uint8)
        pipeline = suite.pipeline_of(Arrays(images), (RandomHorizontalFlip(),))
        plan = make_plan(pipeline, "pillow", threads=2)
        records = suite.records_of(pipeline, images)
        before = threading.active_count()
        runner = registry.make_runner(plan, plan.segments[0], 4)
        assert (np.asarray(runner.run(records)) == 0).all()
        assert (threading.active_count() > before) == threads
        runner.close()
        with pytest.raises(UsageError, match="closed"):
            runner.run(records)
