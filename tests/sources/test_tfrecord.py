"""TFRecord files and Examples without TensorFlow, held against TensorFlow's own; and files that are damaged."""

from __future__ import annotations

import gzip
import os
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import record_files
from hypothesis import given, settings
from hypothesis import strategies as st

from greenload.errors import GreenloadError, RecordError, SourceError
from greenload.sources import TFRecords, record_readers
from greenload.sources.formats import record_index, tf_example, tfrecord
from greenload.sources.formats.crc32c import crc32c_of, masked
from greenload.system import file_output

tf = pytest.importorskip("tensorflow")


def one_line(caught: Any) -> str:
    assert isinstance(caught.value, GreenloadError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def crc32c(data: bytes) -> int:
    return int(crc32c_of(np.frombuffer(data, np.uint8), np.zeros(1, np.int64), np.array([len(data)]))[0])


def test_the_checksum_is_the_one_of_the_rfc() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, appendix B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@pytest.mark.slow
@given(st.lists(st.binary(max_size=700) | st.binary(min_size=60, max_size=70).map(lambda b: b * 30), max_size=12))
@settings(deadline=None, max_examples=60)
def test_files_are_those_of_tensorflow(tmp_path_factory: pytest.TempPathFactory, records: list[bytes]) -> None:
    path = record_files.write(tmp_path_factory.mktemp("f") / "x.tfrecord", records)
    assert tfrecord.framed(records) == path.read_bytes()
    with tfrecord.opened(str(path), "plain") as file:
        read = list(tfrecord.records(file, str(path)))
    assert [record for _, record in read] == records
    index = record_index.build(str(path), "plain", "image", None)
    assert index.records.tolist() == [at for at, _ in read]
    assert index.sizes.tolist() == [len(record) for record in records]
    data = path.read_bytes()
    bodies = [data[at + tfrecord.HEADER :][: len(record) + tfrecord.FOOTER] for at, record in read]
    assert tfrecord.intact(bodies) == [True] * len(records)
    for body in bodies[:2]:
        place = len(body) // 2
        assert tfrecord.intact([body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]]) == [False]


def test_many_checksums_are_those_of_one() -> None:
    random = np.random.default_rng(0)
    data = random.integers(0, 256, 300_000, np.uint8)
    lengths = random.integers(0, 3000, 100)
    lengths[:4] = 200_000, 64, 65, 8
    starts = random.integers(0, 100_000, 100)
    found = crc32c_of(data, starts, lengths)
    assert found.tolist() == [crc32c(data[a : a + n].tobytes()) for a, n in zip(starts, lengths, strict=True)]
    assert masked(found).dtype == np.uint32


VALUES = (
    st.lists(st.binary(max_size=200), max_size=3)
    | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)
    | st.lists(st.floats(0, 1, width=32), max_size=3)
)


@pytest.mark.slow
@given(
    st.lists(
        st.tuples(
            st.binary(min_size=1, max_size=300),
            st.integers(-(2**63), 2**63 - 1),
            st.dictionaries(st.text(max_size=6).filter(lambda key: key not in ("image", "label")), VALUES, max_size=4),
        ),
        min_size=1,
        max_size=6,
    )
)
@settings(deadline=None, max_examples=80)
def test_images_and_labels_are_found_in_any_example(content: list[tuple[bytes, int, dict[str, Any]]]) -> None:
    messages = [record_files.example({"image": image, "label": label} | more) for image, label, more in content]
    lengths = np.array([len(message) for message in messages])
    joined = b"".join(messages)
    found = tf_example.columns(np.frombuffer(joined, np.uint8), np.cumsum(lengths) - lengths, lengths, "image", "label")
    assert found.labels.tolist() == [label for _, label, _ in content]
    for start, length, (image, _, _) in zip(found.starts, found.lengths, content, strict=True):
        assert joined[start : start + length] == image
    for message, (image, label, more) in zip(messages, content, strict=True):
        start, length, number = tf_example.locate(message, "image", "label")
        assert (message[start : start + length], number) == (image, label)
        assert set(tf_example.keys(message)) == {"image", "label", *more}
        parsed = tf.train.Example.FromString(tf_example.serialize(image, label)).features.feature
        assert list(parsed["image"].bytes_list.value) == [image]
        assert list(parsed["label"].int64_list.value) == [label]


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_an_example_or_are_refused(message: bytes) -> None:
    sizes = np.array([len(message)])
    found = tf_example.columns(np.frombuffer(message + b"\0", np.uint8), np.zeros(1, np.int64), sizes, "a", "b")
    try:
        start, length, label = tf_example.locate(message, "a", "b")
    except tf_example.ExampleError:
        assert found.lengths.tolist() == [-1]
    else:
        assert (found.starts[0], found.lengths[0], found.labels[0]) == (start, length, label)


def test_unusual_examples_are_read_by_hand() -> None:
    image, label = (
        tf_example._field(0x0A, tf_example._field(0x0A, b"pixels")),
        b"\x1a\x02\x08\x07",
    )  # an unpacked integer

    def entry(key: bytes, value: bytes) -> bytes:
        return tf_example._field(0x0A, tf_example._field(0x0A, key) + tf_example._field(0x12, value))

    turned = tf_example._field(0x0A, tf_example._field(0x12, image) + tf_example._field(0x0A, b"i"))  # value before key
    twice = entry(b"i", b"") + entry(b"l", label) + entry(b"i", image)  # the last one counts
    split = tf_example._field(0x0A, entry(b"i", image)) + tf_example._field(0x0A, entry(b"l", label))
    unknown = b"\x10\x05" + tf_example._field(0x0A, turned + entry(b"l", label))
    for message in (tf_example._field(0x0A, twice), split, unknown):
        start, length, number = tf_example.locate(message, "i", "l")
        assert (message[start : start + length], number) == (b"pixels", 7)
        parsed = tf.train.Example.FromString(message).features.feature
        assert list(parsed["i"].bytes_list.value) == [b"pixels"]
        found = tf_example.columns(
            np.frombuffer(message, np.uint8), np.zeros(1, np.int64), np.array([len(message)]), "i", "l"
        )
        assert (found.starts[0], found.lengths[0], found.labels[0]) == (start, length, 7)


IMAGES = [bytes([i]) * (50 + i) for i in range(9)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return record_files.write(tmp_path / "set" / "a.tfrecord", record_files.labelled(IMAGES))


def test_a_cut_file_is_refused_with_its_byte(path: Path) -> None:
    whole = path.read_bytes()
    last = int(record_index.build(str(path), "plain", "image/encoded", None).records[-1])
    for size in (len(whole) - 1, last + 20, last + 13, last + 5):
        path.write_bytes(whole[:size])
        with pytest.raises(SourceError, match=rf"a\.tfrecord: the record at byte {last} is cut: only {size - last} of"):
            len(TFRecords(path))
        path.with_suffix(".gz").write_bytes(gzip.compress(whole[:size]))
        with pytest.raises(SourceError, match=rf"the record at byte {last} is cut"):
            len(TFRecords(path.with_suffix(".gz")))
    path.with_suffix(".gz").write_bytes(gzip.compress(whole)[:-30])
    with pytest.raises(SourceError, match="can't be read") as caught:
        len(TFRecords(path.with_suffix(".gz")))
    one_line(caught)


@pytest.mark.parametrize("bit", [0, 17, 63, 64, 90])
def test_a_damaged_length_is_refused_with_its_byte(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    third = int(record_index.build(str(path), "plain", "image/encoded", None).records[2])
    data[third + bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    with pytest.raises(SourceError, match=f"the length at byte {third} doesn't fit its checksum") as caught:
        len(TFRecords(path))
    assert str(path) in one_line(caught)


def test_damaged_bytes_are_found_by_their_checksum(path: Path) -> None:
    data = bytearray(path.read_bytes())
    index = record_index.build(str(path), "plain", "image/encoded", None)
    data[int(index.starts[4]) + 3] ^= 4
    path.write_bytes(data)
    source = TFRecords(path)
    assert source.damaged(range(9)) == [4]
    assert source.read(4) != IMAGES[4]  # reading alone doesn't test it


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tfrecord").write_bytes(b"this is no file of records at all")
    with pytest.raises(SourceError, match="no TFRecord file") as caught:
        len(TFRecords(tmp_path))
    one_line(caught)
    record_files.write(tmp_path / "a.tfrecord", [b"no example \xff"])
    with pytest.raises(SourceError, match=r"must be tf\.train\.Example messages"):
        len(TFRecords(tmp_path))
    record_files.write(tmp_path / "a.tfrecord", [])
    with pytest.raises(SourceError, match="there are no records in 1 files"):
        len(TFRecords(tmp_path))
    with pytest.raises(SourceError, match="does not exist"):
        TFRecords(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="no file is of this pattern"):
        len(TFRecords(tmp_path / "*.nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no TFRecord files in it"):
        len(TFRecords(tmp_path / "empty"))


def test_keys_are_named_and_those_found_are_said(tmp_path: Path) -> None:
    record = record_files.example({"jpeg": b"x", "class": 5, "label": b"text", "box": [0.5]})
    path = record_files.write(tmp_path / "a.tfrecord", [record])
    with pytest.raises(SourceError) as caught:
        len(TFRecords(path))
    message = one_line(caught)
    assert "no 'image/encoded' or 'image'" in message
    assert "'box' (float), 'class' (int64), 'jpeg' (bytes), 'label' (bytes)" in message
    assert "image=" in message
    with pytest.raises(SourceError, match="label must be one value of int64, but 'label' holds bytes"):
        len(TFRecords(path, image="jpeg"))
    with pytest.raises(SourceError, match=r"no 'species'.*label=None"):
        len(TFRecords(path, image="jpeg", label="species"))
    assert TFRecords(path, image="jpeg", label="class").labels.tolist() == [5]
    assert TFRecords(path, image="jpeg", label=None).labels.tolist() == [0]


def test_a_record_that_lacks_something_is_one_bad_record(tmp_path: Path) -> None:
    good = [record_files.example({"image": image, "label": 1}) for image in IMAGES[:2]]
    bad = [record_files.example({"label": 1}), record_files.example({"image": b"x"}), b"\xff\xff", b""]
    path = record_files.write(tmp_path / "a.tfrecord", [good[0], *bad, good[1]])
    source = TFRecords(path)
    assert len(source) == 6
    assert source.read(5) == IMAGES[1]
    reasons = []
    for i in range(1, 5):
        with pytest.raises(RecordError) as caught:
            source.read(i)
        assert caught.value.path == f"{path}[{i}]"
        reasons.append(caught.value.reason)
    assert reasons[0] == "has no 'image'; its keys: 'label'"
    assert reasons[1] == "has no 'label'; its keys: 'image'"
    assert "is no Example" in reasons[2]
    assert source.read_many(range(6))[1:5] == [None] * 4


def test_a_sequence_is_told_from_an_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = record_files.example({"image": IMAGES[0], "label": 1})
    sequence = tf.train.SequenceExample.FromString(example)
    context = sequence.SerializeToString()  # without frames there is nothing to ignore, and nothing to tell it by
    frames = sequence.feature_lists.feature_list["frames"].feature
    frames.add().bytes_list.value.append(IMAGES[1])
    whole = sequence.SerializeToString()
    split = whole[len(context) :] + context  # protocol buffers may come in any order
    empty = context + b"\x12\x00"
    for made in (whole, split, empty):
        assert tf.train.SequenceExample.FromString(made).context.feature["image"].bytes_list.value[0] == IMAGES[0]
    assert sum(len(found.feature) for found in sequence.feature_lists.feature_list.values()) == 1

    path = record_files.write(tmp_path / "a.tfrecord", [context, example, whole, split, empty])
    source = TFRecords(path)
    assert [source.read(0), source.read(1)] == [IMAGES[0]] * 2
    assert source.read_many(range(2, 5)) == [None] * 3
    for index in (2, 3, 4):
        with pytest.raises(RecordError, match=r"is a tf\.train\.SequenceExample, whose frames .* write each frame as"):
            source.read(index)
    # An index of an older version, which took them for Examples, isn't used.
    monkeypatch.setattr(record_index, "_VERSION", 1)
    record_index.remember(
        str(path), record_index.stamp(str(path), "plain", "image", "label"), TFRecords(path).table.index
    )
    monkeypatch.undo()
    assert TFRecords(path).read_many([2]) == [None]

    first = record_files.write(tmp_path / "b.tfrecord", [whole])
    with pytest.raises(SourceError) as caught:
        len(TFRecords(first))
    assert "must be tf.train.Example messages, but the first is a tf.train.SequenceExample" in one_line(caught)


def test_an_index_is_kept_beside_the_file_and_made_anew_when_stale(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    build = record_index.build
    monkeypatch.setattr(record_index, "build", lambda name, *rest: built.append(name) or build(name, *rest))
    for _ in range(2):
        assert TFRecords(path).labels.tolist() == [i % 3 for i in range(9)]
    assert len(built) == 1
    index = path.with_name("a.tfrecord.index")
    assert index.exists()
    assert TFRecords(path.parent).files == (str(path),)  # it isn't taken for a file of records
    whole = index.read_bytes()
    for damaged in (b"", whole[:-1], whole[:100], whole[:20] + b"\n", whole[:-3] + b"xyz"):
        index.write_bytes(damaged)
        with pytest.warns(UserWarning, match="this index of records is damaged and not used .*: it is built anew"):
            assert TFRecords(path).labels.tolist() == [i % 3 for i in range(9)]
        assert index.read_bytes() == whole
    count = len(built)
    assert TFRecords(path, label=None).labels.tolist() == [0] * 9
    os.utime(path, ns=(5, 5))
    assert len(TFRecords(path)) == 9
    record_files.write(path, record_files.labelled(IMAGES[:4]))
    assert len(TFRecords(path)) == 4
    assert len(built) == count + 3
    assert sorted(file.name for file in path.parent.iterdir()) == ["a.tfrecord", "a.tfrecord.index"]


def test_where_the_folder_cannot_be_written_the_index_is_kept_in_the_users(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "cache" / name))
    replace = file_output.replace

    def refuse(place: str, data: bytes) -> None:
        if Path(place).parent == path.parent:
            raise PermissionError(13, "Permission denied")
        replace(place, data)

    monkeypatch.setattr(file_output, "replace", refuse)
    assert len(TFRecords(path)) == 9
    assert [file.name for file in path.parent.iterdir()] == ["a.tfrecord"]
    assert len(list((tmp_path / "cache").rglob("*.index"))) == 1
    monkeypatch.setattr(record_index, "build", None)
    assert len(TFRecords(path)) == 9


@pytest.mark.parametrize("kind", ["text", "link", "folder", "pipe"])
def test_what_is_no_index_keeps_its_name(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    beside, own = path.with_name("a.tfrecord.index"), tmp_path / "own.txt"
    if kind == "text":
        beside.write_text('{"the user\'s": "own"}')
    elif kind == "link":
        own.write_text("mine")
        beside.symlink_to(own)
    elif kind == "folder":
        beside.mkdir()
    else:
        os.mkfifo(beside)
    before = os.lstat(beside)
    assert len(TFRecords(path)) == 9
    assert (os.lstat(beside).st_ino, os.lstat(beside).st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not own.exists() or own.read_text() == "mine"
    assert len(list((tmp_path / "cache").rglob("*.index"))) == 1
    monkeypatch.setattr(record_index, "build", None)
    assert len(TFRecords(path)) == 9


def test_a_folder_must_hold_one_whole_set(tmp_path: Path) -> None:
    records = record_files.labelled(IMAGES[:2])
    for i in range(2):
        record_files.write(tmp_path / f"train-{i:05}-of-00003", records)
    with pytest.raises(SourceError, match="only 2 of the 3 files of 'train'"):
        len(TFRecords(tmp_path))
    record_files.write(tmp_path / "train-00002-of-00003", records)
    assert len(TFRecords(tmp_path)) == 6
    record_files.write(tmp_path / "validation-00000-of-00001", records)
    with pytest.raises(SourceError, match=r"several sets of files: train-\*-of-00003, validation-\*-of-00001"):
        len(TFRecords(tmp_path))
    assert len(TFRecords(tmp_path / "train-*")) == 6
    source = TFRecords(tmp_path / "train-*")
    assert source.name(3) == str(tmp_path / "train-00001-of-00003[1]")


def test_records_that_lie_together_are_read_in_one_call(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = TFRecords(path)
    assert source.read(0) == IMAGES[0]
    calls: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *how: calls.append(how[1]) or pread(*how))
    assert source.read_many([8, 0, 3, 4, 3]) == [IMAGES[i] for i in (8, 0, 3, 4, 3)]
    assert len(calls) == 2  # the second 3 is read again: it doesn't lie behind the first


def test_a_file_that_shrinks_after_it_was_indexed(path: Path) -> None:
    source = TFRecords(path)
    assert len(source) == 9
    os.truncate(path, 400)
    with pytest.raises(RecordError, match="can't be read: the file has changed"):
        source.read(8)


def test_a_file_stays_open_while_a_thread_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one file is kept open here, so that each thread displaces what the others read."""
    monkeypatch.setattr(record_readers, "_OPEN_FILES", 1)
    content = {str(tmp_path / name): name.encode() * 1000 for name in "abcd"}
    for path, data in content.items():
        Path(path).write_bytes(data)
    reader = record_readers.PlainReader()

    def look(turn: int) -> bool:
        path = list(content)[turn % len(content)]
        return reader.read([record_readers.ByteRange(path, 0, 10, 500)]) == [content[path][10:510]]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(look, range(4000)))


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_compressed_files_are_read_on_from_where_several_readers_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(record_readers, "_PASSED_BYTES", 20_000)
    content = np.random.default_rng(0).bytes(1_000_000)
    path = tmp_path / "file"
    path.write_bytes(pack(content))
    opened: list[str] = []
    first = tfrecord.packing

    def spied(name: str) -> Any:
        if name == str(path):  # another test's dataset may still be reading ahead
            opened.append(name)
        return first(name)

    monkeypatch.setattr(tfrecord, "packing", spied)
    reader = record_readers.SequentialReader()

    def has(start: int, length: int) -> bool:
        data = reader.read([record_readers.ByteRange(str(path), 0, start, length)])[0]
        return data == (content[start : start + length] if start + length <= len(content) else None)

    swapped = [place + 10_000 * (1 - 2 * (i % 2)) for i, place in enumerate(range(0, 800_000, 10_000))]
    assert all(has(max(0, place), 9_000) for place in swapped)
    assert len(opened) == 1
    assert all(has(i * 1_000 + lead, 900) for i in range(200) for lead in (0, 300_000, 600_000))
    assert len(opened) == 4
    assert has(999_000, 1_000)
    assert has(999_000, 1_001)
    places = np.random.default_rng(1).integers(0, len(content), (40, 2))
    assert all(has(int(start), int(length) % 100_000 + 1) for start, length in places)
    assert len(reader._streams) <= 4


def test_a_file_of_nothing_but_empty_records_is_indexed() -> None:
    found = record_index.located([b"", b""], np.zeros(2, np.int64), "image", "label")
    assert found.lengths.tolist() == [-1, -1]


def test_an_index_from_the_end_is_of_the_file_that_it_lies_in(tmp_path: Path) -> None:
    for name, some in (("a", IMAGES[:3]), ("b", IMAGES[3:9])):
        record_files.write(tmp_path / name, record_files.labelled(some))
    source = TFRecords([tmp_path / "a", tmp_path / "b"])
    assert [source.read(i) for i in range(-9, 0)] == IMAGES[:9]
    with pytest.raises(IndexError):
        source.read(9)


@pytest.mark.parametrize("data", [5, [5], b"folder"])
def test_what_names_no_files_is_refused(data: Any) -> None:
    with pytest.raises(SourceError, match="TFRecords takes a folder"):
        TFRecords(data)


GOOD = tf_example.serialize(b"x" * 100, 1)


def header(size: int) -> bytes:
    """A record's, whose checksum holds."""
    length = np.frombuffer(size.to_bytes(8, "little"), np.uint8)
    check = masked(crc32c_of(length, np.zeros(1, np.int64), np.full(1, 8, np.int64)))
    return length.tobytes() + check.astype("<u4").tobytes()


def zeros_behind(path: Path, begin: bytes, size: int, kind: str) -> Path:
    """A file of some bytes, then zeros up to a size: sparse where it is plain."""
    if kind == "plain":
        path.write_bytes(begin)
        os.truncate(path, size)
        return path
    packed = zlib.compressobj(6, zlib.DEFLATED, 31 if kind == "gzip" else 15)
    with path.open("wb") as file:
        file.write(packed.compress(begin))
        for _ in range(size >> 20):
            file.write(packed.compress(bytes(1 << 20)))
        file.write(packed.flush())
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "gzip", "zlib"])
@pytest.mark.parametrize(
    ("begin", "said"),
    [
        (tfrecord.framed([GOOD]), "the length at byte 150 doesn't fit its checksum"),
        (tfrecord.framed([GOOD]) + header(1 << 40), "byte 150"),
        (header(1 << 40), "at byte 0 claims 1,099,511,627,776"),
        (header((1 << 63) - 1), "at byte 0 claims"),
    ],
)
def test_memory_follows_what_is_there_not_what_a_length_claims(
    tmp_path: Path, kind: str, begin: bytes, said: str
) -> None:
    path = zeros_behind(tmp_path / "x.tfrecord", begin, (1 << 30) if kind == "plain" else (64 << 20), kind)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=said) as caught:
            len(TFRecords(path, image="image", label="label"))
        with pytest.raises(SourceError, match="byte"):
            len(TFRecords(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    one_line(caught)
    assert peak < 24 << 20  # what is looked at together; 5.3 times the file's size before


def test_a_record_of_a_packed_file_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    begin = tfrecord.framed([GOOD]) + header((1 << 28) + 1)
    path = zeros_behind(tmp_path / "x.tfrecord.gz", begin, 8 << 20, "gzip")
    with pytest.raises(
        SourceError, match="in a compressed file may have 268,435,456 bytes, but that at byte 150 claims"
    ):
        len(TFRecords(path))


def test_an_index_that_claims_more_than_the_file_holds_takes_no_memory(tmp_path: Path) -> None:
    path = record_files.write(tmp_path / "x.tfrecord", [GOOD])
    tracemalloc.start()
    try:
        found = record_readers.PlainReader().read([record_readers.ByteRange(str(path), 0, 12, 1 << 33)])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == [None]
    assert peak < 1 << 20


@pytest.mark.parametrize("message", [bytes(4 << 20), b"\x08\x01" * (2 << 20)], ids=["zeros", "many fields"])
def test_what_is_no_example_is_not_read_to_its_end(message: bytes) -> None:
    with pytest.raises(tf_example.ExampleError, match=r"is no Example: (field 0|too many fields)"):
        tf_example.keys(message)


def test_a_zlib_stream_whose_last_bytes_were_held_back_is_whole(tmp_path: Path) -> None:
    """Its input is used up before its output is: more than is taken out at once."""
    body = tf_example.serialize(bytes(3 << 20), 1)
    path = tmp_path / "x.tfrecord"
    path.write_bytes(zlib.compress(tfrecord.framed([body, body])))
    with tfrecord.opened(str(path), "zlib") as file:
        assert [record for _, record in tfrecord.records(file, str(path))] == [body, body]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(SourceError, match="ends too early"), tfrecord.opened(str(path), "zlib") as file:
        list(tfrecord.records(file, str(path)))
