"""Every format that TensorFlow decodes, as ops on one file's bytes; what ``formats.header`` refuses is refused here.

TensorFlow's own decoders are not enough: of an animated WebP they corrupt the heap, a GIF's frames they allocate by
whatever sizes it claims, a palette's indices they take for grey.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from greenload.backends.tf.memory import among, area_of, jpeg_within, most_pixels
from greenload.sources.formats import memory, others, png
from greenload.specs import MAX_BYTES
from greenload.system.frameworks import tf

ToReadable = Callable[[Any], Any]
"""From the bytes of a file that is no JPEG, a scalar string tensor, to those that are to be decoded."""


def as_it_is(data: Any) -> Any:
    """The same bytes."""
    return data


def decode_full(
    data: Any,
    kinds: Collection[str] | None = None,
    max_bytes: int = MAX_BYTES,
    to_readable: ToReadable = as_it_is,
) -> Any:
    """A whole file to uint8 ``[H, W, 3]``: what decides whether a record is good.

    Args:
        data: a file's bytes, a scalar string tensor.
        kinds: the kinds of files to accept; all that TensorFlow decodes if not given.
        max_bytes: the most bytes that decoding it may take.
        to_readable: of ``tf_readers``: other backends decode what TensorFlow doesn't read. It costs a JPEG nothing.
    """
    accepted = None if kinds is None else tuple(kinds)

    def jpeg() -> Any:
        fitting = jpeg_within(data, tf.io.extract_jpeg_shape(data), max_bytes)
        return tf.io.decode_jpeg(fitting, channels=3, dct_method="INTEGER_ACCURATE")

    return tf.cond(is_jpeg(data), jpeg, lambda: _others(accepted, max_bytes)(to_readable(data)))


def apart(function: Callable[[Any], Any]) -> Any:
    """A function of a file's bytes that isn't inlined: where it isn't called, each of its operations would cost a
    visit."""
    return tf.function(
        function,
        input_signature=[tf.TensorSpec((), tf.string)],
        autograph=False,
        experimental_attributes={"_noinline": True},
    )


@functools.cache
def _others(kinds: tuple[str, ...] | None, max_bytes: int) -> Any:
    """The decoder of everything but JPEG, as few ops as possible: an epoch begins with a pass over all of them, and a
    branch that isn't taken costs a visit to each of its ops, unless it is a function that isn't inlined."""
    branches: dict[str, Callable[[Any], Any]] = {
        "PNG": lambda data: tf.io.decode_png(_of_few_texts(data), channels=3),
        "16-bit PNG": _sixteen,
        "BMP": _bmp,
        "WebP": functools.partial(_webp, max_bytes=max_bytes),
        "GIF": functools.partial(_gif, max_bytes=max_bytes),
    }
    chosen = [kind for kind in branches if kinds is None or kind in kinds]

    def decode(data: Any) -> Any:
        known = dict(zip(branches, tf.unstack(_told(max_bytes)(data), num=len(branches)), strict=True))
        # Nothing decodes as nothing: that is how the rest is refused.
        which = tf.argmax(tf.stack([tf.constant(False), *(known[kind] for kind in chosen)]))
        refuse = functools.partial(tf.io.decode_png, tf.strings.substr(data, 0, 0), channels=3)
        return tf.switch_case(
            tf.cast(which, tf.int32), [refuse, *(functools.partial(branches[kind], data) for kind in chosen)]
        )

    return apart(decode)


def known(data: Any, max_bytes: int) -> Any:
    """Whether a file that is no JPEG begins as one that TensorFlow reads, and is as ``formats.header`` wants it."""
    return tf.reduce_any(_told(max_bytes)(data))


@functools.cache
def _told(max_bytes: int) -> Any:
    """``_kinds`` as one tensor, by a function: in two places of a graph its operations would take twice the memory."""
    return apart(lambda data: tf.stack(list(_kinds(data, max_bytes).values())))


def is_jpeg(data: Any) -> Any:
    """Whether bytes begin as a JPEG does."""
    return tf.strings.substr(data, 0, 3) == b"\xff\xd8\xff"


def ends_as_jpeg(data: Any) -> Any:
    """Whether bytes begin as a JPEG does, and end in an end marker."""
    end = tf.strings.substr(data, tf.maximum(tf.strings.length(data) - 2, 0), 2)
    return (end == b"\xff\xd9") & is_jpeg(data)


_Fields = tuple[tuple[str, int, int, bool], ...]
# Where numbers lie: name, start, size, whether its most significant byte comes first.
_FIELDS: _Fields = (
    ("png width", 16, 4, True),
    ("png height", 20, 4, True),
    ("png depth", 24, 1, True),
    ("png colour", 25, 1, True),
    ("bmp offset", 10, 4, False),
    ("bmp header", 14, 4, False),
    ("bmp width", 18, 4, False),
    ("bmp height", 22, 4, False),
    ("bmp planes", 26, 2, False),
    ("bmp bits", 28, 2, False),
    ("bmp compression", 30, 4, False),
    ("riff size", 4, 4, False),
)


_WEBP_HEAD: _Fields = (
    ("riff size", 4, 4, False),
    ("flags", 20, 1, False),
    ("canvas width", 24, 3, False),
    ("canvas height", 27, 3, False),
)
_WEBP_CHUNK: _Fields = (
    ("length", 4, 4, False),
    ("lossless sign", 8, 1, False),
    ("lossless sides", 9, 4, False),
    ("lossy sign", 11, 3, False),
    ("lossy width", 14, 2, False),
    ("lossy height", 16, 2, False),
)


def _read(data: Any, at: Any, fields: _Fields) -> dict[str, Any]:
    """Numbers by name, counted from a place, int64; of bytes that are not there, zeros count."""
    length = max(start + size for _, start, size, _ in fields)
    weights = np.zeros((len(fields), length), np.int64)
    for row, (_, start, size, big) in enumerate(fields):
        powers = [256**k for k in range(size)]
        weights[row, start : start + size] = powers[::-1] if big else powers
    head = tf.io.decode_raw(tf.strings.substr(data, at, length), tf.uint8, fixed_length=length)
    values = tf.unstack(tf.linalg.matvec(tf.constant(weights), tf.cast(head, tf.int64)), num=len(fields))
    return {field[0]: value for field, value in zip(fields, values, strict=True)}


def _kinds(data: Any, max_bytes: int) -> dict[str, Any]:
    """Whether a file is of each kind, and as ``formats.header`` wants it; WebP and GIF are looked at when decoded."""

    def at_most(area: Any, kind: str) -> Any:
        return area <= most_pixels(kind, max_bytes)

    number, size = _read(data, 0, _FIELDS), tf.cast(tf.strings.length(data), tf.int64)
    start = tf.strings.substr(data, 0, 8)
    png, area = start == b"\x89PNG\r\n\x1a\n", area_of(number["png height"], number["png width"])
    deep, opaque = number["png depth"] == 16, ~among(number["png colour"], memory.PNG_ALPHA)
    flat = png & ~deep & at_most(area, "PNG") & (opaque | at_most(area, "PNG with alpha"))
    sixteen = png & deep & at_most(area, "16-bit PNG")
    bmp = (tf.strings.substr(data, 0, 2) == b"BM") & (size >= 54) & (number["bmp compression"] == 0)
    bmp &= among(number["bmp header"], others.BMP_HEADERS) & among(number["bmp bits"], others.BMP_DEPTHS)
    bmp &= (number["bmp planes"] == 1) & at_most(
        area_of(tf.abs(_signed(number["bmp height"])), number["bmp width"]), "BMP"
    )
    bmp &= (number["bmp offset"] >= 14 + number["bmp header"]) & (_bmp_bytes(number) <= size)
    webp = (tf.strings.substr(data, 0, 4) == b"RIFF") & (tf.strings.substr(data, 8, 4) == b"WEBP") & (size >= 30)
    webp &= number["riff size"] + 8 <= size
    gif = tf.strings.substr(data, 0, 6)
    return {
        "PNG": flat,
        "16-bit PNG": sixteen,
        "BMP": bmp,
        "WebP": webp,
        "GIF": (gif == b"GIF87a") | (gif == b"GIF89a"),
    }


def _signed(value: Any) -> Any:
    return tf.where(value < 1 << 31, value, value - (1 << 32))


def _bmp_bytes(number: Mapping[str, Any]) -> Any:
    """How long a BMP must be."""
    stride = (number["bmp width"] * number["bmp bits"] + 31) // 32 * 4
    return number["bmp offset"] + tf.abs(_signed(number["bmp height"])) * stride


def bmp_is_short(data: Any) -> Any:
    """Whether there are fewer bytes than a BMP's header promises."""
    return _bmp_bytes(_read(data, 0, _FIELDS)) > tf.cast(tf.strings.length(data), tf.int64)


def _of_few_texts(data: Any) -> Any:
    """A PNG, once it is clear that it has few texts: TensorFlow decompresses each, as ``formats.png`` says."""

    def parts(name: bytes) -> Any:
        return tf.size(tf.raw_ops.StringSplitV2(input=[data], sep=name).values)

    # Chunks aren't walked through here, as each step would take 10 µs: a name by chance among pixels counts too.
    count = tf.add_n([parts(name) - 1 for name in png.COMPRESSED])
    return _checked(data, count <= png.MOST_COMPRESSED)


def _sixteen(data: Any) -> Any:
    """The nearest of 256 levels, v / 257 rounded, exact for all 65,536; in 16 bits, so that nothing is widened."""

    def number(value: int) -> Any:
        return tf.constant(value, tf.uint16)

    values = tf.io.decode_png(_of_few_texts(data), channels=3, dtype=tf.uint16)
    # From 65,407 on all become 255, and half of 257 can be added. Then n / 257, cut, is (n − n / 256) / 256, cut.
    raised = tf.minimum(values, number(65407)) + number(128)
    high = tf.bitwise.right_shift(raised, number(8))
    return tf.cast(tf.bitwise.right_shift(raised - high, number(8)), tf.uint8)


def _bmp(data: Any) -> Any:
    # TensorFlow refuses bytes appended. 32-bit pixels end in alpha, or in nothing.
    return tf.io.decode_bmp(tf.strings.substr(data, tf.constant(0, tf.int64), _bmp_bytes(_read(data, 0, _FIELDS))))[
        ..., :3
    ]


def _checked(value: Any, condition: Any) -> Any:
    """``value``, once a condition holds."""
    with tf.control_dependencies([tf.debugging.Assert(condition, ["not an image that is read"])]):
        return tf.identity(value)


def _webp(data: Any, max_bytes: int) -> Any:
    """A file of the picture alone, as ``formats.plain`` makes it: TensorFlow would decode whatever else is claimed."""
    start = tf.constant(12, tf.int64)
    head = _read(data, 0, _WEBP_HEAD)
    end = head["riff size"] + 8

    def name(at: Any) -> Any:
        return tf.strings.substr(data, tf.minimum(at, end), 4)

    def going(at: Any, count: Any) -> Any:
        picture = (name(at) == b"VP8 ") | (name(at) == b"VP8L")
        return (at + 18 <= end) & (count < others.WEBP_CHUNKS) & ~picture

    def step(at: Any, count: Any) -> Any:
        length = _read(data, at, _WEBP_CHUNK)["length"]
        return at + 8 + length + length % 2, count + 1

    at, count = tf.while_loop(going, step, (start, tf.constant(0)), parallel_iterations=1)
    there = (at + 18 <= end) & (count < others.WEBP_CHUNKS)
    at = tf.where(there, at, start)
    number, lossless = _read(data, at, _WEBP_CHUNK), name(at) == b"VP8L"
    sides, length = number["lossless sides"], number["length"]
    width = tf.where(lossless, sides % 16384 + 1, number["lossy width"] % 16384)
    height = tf.where(lossless, sides // 16384 % 16384 + 1, number["lossy height"] % 16384)
    begins = tf.where(lossless, number["lossless sign"] == 0x2F, number["lossy sign"] == 0x2A019D)
    canvas = (head["canvas width"] + 1 == width) & (head["canvas height"] + 1 == height)
    canvas &= head["flags"] // others.WEBP_ANIMATED % 2 == 0
    first = name(start)
    known = (first == b"VP8 ") | (first == b"VP8L") | ((first == b"VP8X") & canvas)
    within = area_of(height, width) <= most_pixels("WebP", max_bytes)
    good = _checked(data, there & begins & known & (at + 8 + length <= end) & within)
    padding = length % 2
    size = tf.bitcast(tf.cast(12 + length + padding, tf.int32), tf.uint8)  # its bytes, the least significant first
    letters = tf.constant([bytes([value]) for value in range(256)])
    size = tf.strings.reduce_join(tf.gather(letters, tf.cast(size, tf.int32)))
    body = [tf.strings.substr(good, at, 8 + length), tf.strings.substr(b"\0", tf.zeros_like(padding), padding)]
    return tf.io.decode_webp(tf.strings.join([b"RIFF", size, b"WEBP", *body]))[0, ..., :3]


class _GifFrame(NamedTuple):
    """Where the parts of a GIF lie that its first frame needs: int32 scalars, all but ``whole``."""

    screen: Any
    """Where the screen's colours end."""
    start: Any
    """Where the frame's descriptor begins."""
    flags: Any
    """The descriptor's."""
    body: Any
    """Where its pixels begin, with the bits of a code."""
    end: Any
    """The empty block behind them."""
    transparent: Any
    """The colour that is transparent; 0 if none is."""
    whole: Any
    """Whether all that was walked through without looking at more blocks than are allowed, a boolean."""


def _byte(raw: Any, at: Any) -> Any:
    # Not by an index in brackets, which takes seven operations, and a graph 15 kB for each.
    return tf.cast(tf.raw_ops.Gather(params=raw, indices=at), tf.int32)


def _gif_frame(raw: Any) -> _GifFrame:
    """The first frame of a GIF's bytes, uint8 ``[n]``."""
    most = others.GIF_BLOCKS + tf.size(raw) // others.GIF_BLOCK_BYTES
    byte = functools.partial(_byte, raw)

    def colours(flags: Any) -> Any:
        return tf.where(flags & 0x80 > 0, tf.bitwise.left_shift(3, (flags & 7) + 1), 0)

    def extension(at: Any, count: Any, inside: Any, transparent: Any) -> Any:
        size = byte(at)
        more = ~inside | (size > 0)
        names = ~inside & (byte(at + 1) == others.GIF_CONTROL) & (byte(at + 2) >= 4) & (byte(at + 3) & 1 > 0)
        transparent = tf.where(names, byte(at + 6), transparent)
        return at + tf.where(inside, size + 1, 2), count + tf.cast(more, tf.int32), more, transparent

    screen = 13 + colours(byte(10))
    start, count, _, transparent = tf.while_loop(
        lambda at, count, inside, _: (inside | (byte(at) == 0x21)) & (count < most),
        extension,
        (screen, tf.constant(0), tf.constant(False), tf.constant(0)),
        parallel_iterations=1,
    )
    flags = byte(start + 9)
    body = start + 10 + colours(flags)
    end, count = tf.while_loop(
        lambda at, count: (byte(at) > 0) & (count < most),
        lambda at, count: (at + byte(at) + 1, count + 1),
        (body + 1, count),
        parallel_iterations=1,
    )
    return _GifFrame(screen, start, flags, body, end, transparent, count < most)


def _gif(data: Any, max_bytes: int) -> Any:
    """The first frame alone, in the colours that it names, then put onto the canvas: a GIF is cut around it, as
    TensorFlow would decode all, and make black what is transparent or on the canvas alone.

    Of a frame that can't be decoded wholly TensorFlow gives what it has, and stops: then the one behind it is missing.
    """
    raw = tf.io.decode_raw(data, tf.uint8)
    screen, frame, flags, body, end, transparent, whole = _gif_frame(raw)
    byte = functools.partial(_byte, raw)

    def sides(at: Any) -> tuple[Any, Any]:
        return byte(at) + 256 * byte(at + 1), byte(at + 2) + 256 * byte(at + 3)

    (left, top), (width, height) = sides(frame + 1), sides(frame + 5)
    columns, rows = (
        tf.maximum(*pair) for pair in zip(sides(tf.constant(6)), (left + width, top + height), strict=True)
    )
    least, greatest = others.GIF_CODE_BITS
    good = (byte(frame) == 0x2C) & whole & ((byte(10) | flags) & 0x80 > 0)
    good &= (width > 0) & (height > 0)
    good &= area_of(tf.cast(rows, tf.int64), tf.cast(columns, tf.int64)) <= most_pixels("GIF", max_bytes)
    good = _checked(data, good & (byte(body) >= least) & (byte(body) <= greatest))
    alone = [
        tf.strings.substr(good, 0, screen),
        tf.constant(b",\0\0\0\0"),
        tf.strings.substr(good, frame + 5, end + 1 - frame - 5),
        tf.constant(others.GIF_WITNESS + b";"),
    ]
    frames = tf.io.decode_gif(tf.strings.join(alone))
    image = _checked(frames[0], tf.shape(frames)[0] == 2)

    def on_canvas() -> Any:
        own = flags & 0x80 > 0
        start, end = tf.where(own, frame + 10, 13), tf.where(own, body, screen)
        named = start + 3 * transparent
        there = tf.where(named < end, named, start)
        colour = tf.where(named < end, raw[there : there + 3], tf.zeros((3,), tf.uint8))
        around = [[top, rows - top - height], [left, columns - left - width], [0, 0]]
        return tf.pad(image - colour, around) + colour  # modulo 256

    return tf.cond((rows == height) & (columns == width), lambda: image, on_canvas)
