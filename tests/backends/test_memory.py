"""What decoding may take is told from headers, by one rule for all backends, and refused above the limit."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import encoders as e
import numpy as np
import pytest

import greenload as gl
from greenload.errors import PipelineError, RecordError
from greenload.loading.verify import verify
from greenload.plans.pipeline import Pipeline
from greenload.sources import Files, formats
from greenload.sources.formats import memory
from greenload.stages import Batch, CenterCrop, Decode

tf = pytest.importorskip("tensorflow")

JPEGS = ("420.jpg", "422-odd.jpg", "444.jpg", "arithmetic.jpg", "arithmetic-progressive.jpg", "cmyk.jpg", "grey.jpg")
MORE_JPEGS = ("progressive.jpg", "restarts.jpg", "ycck.jpg", "large.jpg")
OTHERS = {
    "PNG": e.png(e.pixels(30, 41)),
    "grey PNG": e.png(e.pixels(30, 41, 1)),
    "PNG with alpha": e.png(e.pixels(30, 41, 4)),
    "16-bit PNG": e.png(e.pixels(30, 41, 3, levels=65536), 16),
    "BMP": e.bmp(e.pixels(30, 41)),
    "WebP": e.kept("lossy.webp"),
    "lossless WebP": e.kept("alpha-lossless.webp"),
    "GIF": e.gif(e.pixels(30, 41, 1), e.palette(256)),
}


def needed(data: bytes) -> int:
    return memory.needed(data, formats.header(data))


def test_every_kind_has_its_bytes_a_pixel() -> None:
    assert set(formats.KINDS) <= set(memory.PIXEL_BYTES)


def test_what_a_jpeg_takes_follows_from_its_sides_and_components() -> None:
    for name, bytes_a_pixel in (("444.jpg", 11), ("progressive.jpg", 11), ("grey.jpg", 11), ("cmyk.jpg", 16)):
        assert needed(e.with_jpeg_size(e.kept(name), 48, 64)) == bytes_a_pixel * 48 * 64


@pytest.mark.parametrize("name", [*JPEGS, *MORE_JPEGS])
def test_the_graph_reckons_a_jpeg_as_the_header_does(name: str) -> None:
    from greenload.backends.tf.memory import jpeg_within

    data = e.kept(name)
    found, shape = needed(data), tf.io.extract_jpeg_shape(data)
    jpeg_within(tf.constant(data), shape, found)
    with pytest.raises(tf.errors.InvalidArgumentError, match="too large"):
        jpeg_within(tf.constant(data), shape, found - 1)


@pytest.mark.parametrize("kind", OTHERS)
def test_the_graph_takes_other_kinds_up_to_what_the_header_says(kind: str) -> None:
    from greenload.backends.tf.formats import _gif, _kinds, _webp

    data = OTHERS[kind]
    found = needed(data)
    formats.header(data, None, found)
    with pytest.raises(formats.FormatError, match=f"takes {found:,} bytes to decode, above the limit of {found - 1:,}"):
        formats.header(data, None, found - 1)
    if decode := {"GIF": _gif, "WebP": _webp}.get(formats.header(data).format):  # looked at when decoded
        decode(tf.constant(data), found)
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(tf.constant(data), found - 1)
        return
    for limit, accepted in ((found, True), (found - 1, False)):
        known = _kinds(tf.constant(data), limit)
        assert sum(bool(known[name]) for name in ("PNG", "16-bit PNG", "BMP")) == accepted


def test_the_limit_is_an_argument_that_round_trips_and_old_descriptions_load() -> None:
    assert Decode().max_bytes == 1 << 30
    assert Decode(max_bytes=np.int64(5)).to_dict() == {"stage": "Decode", "exif": False, "max_bytes": 5}
    assert str(Decode(max_bytes=5)) == "Decode(max_bytes=5)"
    pipeline = Pipeline(Files(["a.jpg"]), Decode(exif=True, max_bytes=12345), CenterCrop(8), Batch(2))
    assert Pipeline.from_dict(pipeline.to_dict()) == pipeline
    assert pipeline.max_bytes == 12345
    old = pipeline.to_dict()
    del old["stages"][0]["max_bytes"]
    assert Pipeline.from_dict(old).max_bytes == 1 << 30
    for wrong in (0, -1, True, 1.5, "1 GiB", 1 << 62, None):
        with pytest.raises(PipelineError, match="max_bytes must be a positive integer, such as 1073741824 for 1 GiB"):
            Decode(max_bytes=wrong)  # type: ignore[arg-type]


@pytest.fixture
def large_and_small(tmp_path: Path) -> list[Path]:
    """A progressive JPEG that takes more than the limit, between two images that take less."""
    files = {"0.png": e.png(e.pixels(20, 20)), "1.jpg": e.kept("progressive.jpg"), "2.png": e.png(e.pixels(25, 20))}
    assert needed(files["1.jpg"]) > LIMIT > needed(files["2.png"])
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return [tmp_path / name for name in files]


LIMIT = 20_000


@pytest.mark.slow
def test_every_backend_refuses_the_same_records_at_any_number_of_threads(large_and_small: list[Path]) -> None:
    pytest.importorskip("nvidia.dali")
    source = Files(large_and_small, [0, 1, 2])
    crop = Pipeline(source, Decode(max_bytes=LIMIT), CenterCrop(8), Batch(1))
    said = set()
    for backend, threads in (("tf", 2), ("pillow", 1), ("pillow", 3), ("dali-cpu", 1), ("dali-cpu", 3)):
        with pytest.raises(RecordError) as caught:
            list(gl.iterate(crop, backend=backend, threads=threads))
        said.add(str(caught.value))
    for backend in ("tf", "pillow"):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            left = [int(n) for _, labels in gl.iterate(crop, backend=backend, on_error="skip") for n in labels]
        assert left == [0, 2]
        assert any("left out 1 bad of 3 records" in str(warning.message) for warning in seen)
    assert len(said) == 1, said
    found = needed(large_and_small[1].read_bytes())
    assert (
        f"takes {found:,} bytes to decode, above the limit of {LIMIT:,}: pass Decode(max_bytes={found})" in said.pop()
    )
    # Another limit isn't judged by what was remembered under this one.
    assert verify(source, max_bytes=LIMIT).bad_indices == (1,)
    assert verify(source).bad_indices == ()


SIXTEEN = """
import sys, zlib
sys.path.insert(0, {support!r})
import encoders as e
import numpy as np
import tensorflow as tf
from greenload.backends.tf.formats import decode_full
side = 2000
rows = (b"\\0" + bytes(range(256)) * (6 * side // 256) + bytes(6 * side % 256)) * side
head = side.to_bytes(4, "big") * 2 + bytes((16, 2, 0, 0, 0))
chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
data = b"\\x89PNG\\r\\n\\x1a\\n" + b"".join(e.chunk(*chunk) for chunk in chunks)
decode = tf.function(lambda d: tf.reduce_max(decode_full(d)), input_signature=[tf.TensorSpec((), tf.string)])
decode(tf.constant(e.png(e.pixels(4, 4, 3, levels=65536), 16)))
given = tf.constant(data)
def held(name):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(name))
open("/proc/self/clear_refs", "w").write("5")
before = held("VmRSS")
decode(given)
print((held("VmHWM") - before) / side**2)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="peaks of memory are read and reset in /proc")
def test_a_16_bit_png_takes_no_more_than_is_reckoned() -> None:
    code = SIXTEEN.format(support=str(Path(e.__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-2000:]
    assert 6.0 < float(done.stdout) <= memory.PIXEL_BYTES["16-bit PNG"] + 1.0  # 22 where values are widened to int32


def test_all_16_bit_values_are_rounded_to_the_nearest_level() -> None:
    from greenload.backends.tf.formats import _sixteen

    values = np.arange(65536).reshape(256, 256, 1)
    found: Any = _sixteen(tf.constant(e.png(values, 16))).numpy()
    np.testing.assert_array_equal(found[..., 0], np.rint(values[..., 0] / 257))
