"""A sample of the odd pictures of `python -m bench.odd_pictures`: what two backends read has the same pixels."""

from __future__ import annotations

import itertools
from collections import Counter

import encoders as e
import numpy as np
import odd_images
import odd_jpegs as oj
import pytest

from bench import odd_pictures
from greenload.backends.tables import support
from greenload.sources import formats

EVERY = 13
"""One picture of so many; all are looked at in `make bench`."""


@pytest.mark.slow
def test_the_pictures_are_the_same_every_time_and_of_every_kind() -> None:
    made = odd_images.pictures()
    again = itertools.chain(odd_images.pngs(), odd_images.gifs(), odd_images.webps())
    assert all(made[name] == data for name, data in again)
    assert len(made) >= 1000
    kinds = Counter(odd_pictures.kind(data) for data in made.values())
    assert set(kinds) == {*formats.KINDS, ""}
    assert min(kinds.values()) >= 10


def test_an_exception_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    grey, light = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 7, np.uint8)
    given = {"tf": [(grey, ""), (grey, ""), (grey, "")], "pillow": [(light, ""), (None, "cut"), (None, "no TIFF")]}
    monkeypatch.setattr(odd_pictures, "decoded", lambda files, backend, way: given[backend])
    jpeg = oj.jpeg(e.pixels(4, 4))
    pictures = {"one": jpeg, "two": jpeg, "three": e.tiff(e.pixels(4, 4))}
    found = odd_pictures.look(pictures, ("tf", "pillow"))
    assert [picture.difference for picture in found] == [7, 0, 0]
    assert [picture.readers for picture in found] == [("tf", "pillow"), ("tf", "pillow"), ()]
    assert found[0].faults[0] == "pillow, whole: 7 levels from tf"
    assert found[1].faults[0] == "pillow, whole: cut"
    assert found[2].faults[0].startswith("tf, whole: decoded, though TIFF is not read by backend 'tf'")
    assert "3 odd pictures, 2 read by two backends or more (2 JPEG): 3 exceptions, at most 7 levels" in (
        odd_pictures.summary(found)
    )


@pytest.mark.slow
def test_what_two_backends_read_has_the_same_pixels() -> None:
    pytest.importorskip("tensorflow")
    pytest.importorskip("nvidia.dali")
    pytest.importorskip("PIL.Image")
    found = odd_pictures.look(odd_pictures.pictures(EVERY))
    assert [(picture.name, picture.faults) for picture in found if picture.faults] == []
    shared = Counter(picture.kind for picture in found if len(picture.readers) > 1)
    assert set(shared) == {*formats.KINDS} - {"TIFF"}
    assert shared.total() > 50


def test_a_partial_progressive_jpeg_is_told_by_what_its_scans_send() -> None:
    image = e.pixels(90, 120)
    for scans in (oj.progressive(3), oj.spectral(3)):
        for count in range(1, len(scans) + 1):
            kind = formats.header(oj.jpeg(image, frame=0xC2, scans=scans[:count])).kind
            assert kind == ("JPEG" if count == len(scans) else "partial progressive JPEG")
    whole = e.kept("arithmetic-progressive.jpg")
    last = whole.rindex(b"\xff\xda")
    assert formats.header(whole).kind == "JPEG"
    assert formats.header(whole[:last] + b"\xff\xd9").kind == "partial progressive JPEG"
    cut = oj.jpeg(image, frame=0xC2, scans=oj.progressive(3)[:4])
    for backend in ("dali-cpu", "dali"):
        with pytest.raises(formats.FormatError, match=f"partial progressive JPEG is not read by backend '{backend}'"):
            formats.header(cut, support(backend))
    assert formats.header(cut, support("tf")) == formats.header(cut, support("pillow"))


@pytest.mark.slow
@pytest.mark.parametrize("sampling", ["4:2:0", "4:1:1", "1 by 4"])
def test_any_window_of_a_partial_progressive_jpeg_is_that_of_the_whole(sampling: str) -> None:
    tf = pytest.importorskip("tensorflow")
    from greenload.backends.tf import decode
    from greenload.backends.tf.formats import decode_full

    image = e.pixels(200, 250)
    scans = oj.progressive(3)[:2]
    data = oj.jpeg(image, sampling=odd_images.SAMPLINGS[sampling], frame=0xC2, scans=scans, jfif=True)
    whole = decode_full(tf.constant(data)).numpy()
    random = np.random.default_rng(0)
    for _ in range(30):
        height, width = random.integers(1, 60, 2)
        top, left = random.integers(200 - height), random.integers(250 - width)
        window = tf.constant([top, left, height, width], tf.int32)
        found = decode.window_of(tf.constant(data), tf.constant([200, 250, 3]), window).numpy()
        assert (found == whole[top : top + height, left : left + width]).all()


@pytest.mark.slow
def test_only_what_isnt_plainly_baseline_is_decoded_with_a_wide_margin() -> None:
    tf = pytest.importorskip("tensorflow")
    from greenload.backends.tf.decode import is_baseline

    image = e.pixels(90, 120)
    thumbnail = b"\xff\xe1" + (400).to_bytes(2, "big") + oj.jpeg(e.pixels(8, 8)).ljust(398, b"\0")[:398]
    for data, expected in (
        (oj.jpeg(image), True),
        (oj.jpeg(image, jfif=True, before=thumbnail), True),
        (oj.jpeg(image, frame=0xC2, scans=oj.progressive(3)), False),
        (oj.jpeg(image, frame=0xC2, scans=oj.progressive(3), before=thumbnail), False),
        (e.kept("grey.jpg"), True),
        (e.kept("cmyk.jpg"), True),
    ):
        assert bool(is_baseline(tf.constant(data), tf.io.extract_jpeg_shape(data))) is expected
