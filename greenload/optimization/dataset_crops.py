"""Decodes only the part of a JPEG that a crop in a traced function keeps, to the same pixels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from greenload.optimization.dataset_functions import Outputs, Replay, Rewrite
from greenload.system.frameworks import tf

_DECODES = frozenset({"DecodeJpeg", "DecodeImage"})


@dataclass(frozen=True)
class _Crop:
    """A decode whose image only its shape and one crop read."""

    decode: Any
    expands: Any
    """The operation that puts an axis in front of the image; None if there is none."""
    crop: Any


def crops(function: Any) -> Iterator[_Crop]:
    """The crops in a function that could be cut out while the image is decoded."""
    readers: dict[str, list[Any]] = {tensor.op.name: [None] for tensor in function.graph.outputs}
    for operation in function.graph.get_operations():
        for tensor in operation.inputs:
            readers.setdefault(tensor.op.name, []).append(operation)
    for operation in function.graph.get_operations():
        if operation.type in _DECODES and (crop := _crop_of(readers, operation)) is not None:
            yield crop


def _crop_of(readers: Mapping[str, Sequence[Any]], decode: Any) -> _Crop | None:
    """The crop behind a decode.

    Args:
        readers: by an operation's name those that read it, with None for the function's output.
        decode: the operation that decodes.
    """
    if decode.get_attr("channels") not in (1, 3):
        return None
    if decode.type == "DecodeJpeg" and (decode.get_attr("ratio") != 1 or decode.get_attr("try_recover_truncated")):
        return None
    if decode.type == "DecodeImage" and (decode.get_attr("dtype") != tf.uint8 or decode.get_attr("expand_animations")):
        return None
    source, expands = decode, None
    while True:
        wanted = [reader for reader in readers.get(source.name, ()) if reader is None or reader.type != "Shape"]
        if len(wanted) != 1 or (reader := wanted[0]) is None:
            return None
        if reader.type == "Identity":
            source = reader
        elif reader.type == "ExpandDims" and expands is None and tf.get_static_value(reader.inputs[1]) == 0:
            source = expands = reader
        elif reader.type == "Slice":
            return _Crop(decode, expands, reader)
        else:
            return None


def crops_while_decoding(function: Any) -> Sequence[Rewrite]:
    """Rewrites that decode only what each crop keeps: one pixel more on every side, which chroma upsampling reads.

    Files that aren't whole JPEGs are decoded whole, as before, so that errors and other formats stay as they are.
    """
    rewrites: list[Rewrite] = []
    for crop in crops(function):
        rewrites += [_shape_from_header(crop), _cropped(crop)]
    return rewrites


def _shape_from_header(crop: _Crop) -> Rewrite:
    def rewrite(replay: Replay, operation: Any) -> Outputs | None:
        if operation.type != "Shape" or operation.inputs[0].dtype != tf.uint8:
            return None
        source, axes = operation.inputs[0].op, 0
        while source.type in ("Identity", "ExpandDims") and source is not crop.decode:
            axes += source.type == "ExpandDims"
            source = source.inputs[0].op
        if source is not crop.decode:
            return None
        shape = _image_shape(replay, crop)
        shape = tf.concat([tf.ones([axes], tf.int32), shape], 0)
        return [tf.cast(shape, operation.outputs[0].dtype)]

    return rewrite


def _image_shape(replay: Replay, crop: _Crop) -> Any:
    """Height, width and channels: a JPEG's from its header, else the decoded image's."""
    contents = replay.tensor(crop.decode.inputs[0])
    channels = crop.decode.get_attr("channels")
    return tf.cond(
        _whole_jpeg(contents),
        lambda: tf.concat([tf.image.extract_jpeg_shape(contents)[:2], [channels]], 0),
        lambda: tf.shape(_decoded(crop.decode, contents)),
    )


def _cropped(crop: _Crop) -> Rewrite:
    def rewrite(replay: Replay, operation: Any) -> Outputs | None:
        if operation is not crop.crop:
            return None
        contents = replay.tensor(crop.decode.inputs[0])
        begin, size = (tf.cast(replay.tensor(tensor), tf.int32) for tensor in operation.inputs[1:3])
        if crop.expands is not None:
            begin, size = begin[1:], size[1:]
        image = tf.cond(
            _whole_jpeg(contents) & tf.reduce_all(size[:2] > 0) & (begin[2] == 0),
            lambda: _part(crop.decode, contents, begin, size),
            lambda: tf.slice(_decoded(crop.decode, contents), begin, size),
        )
        made = image[tf.newaxis] if crop.expands is not None else image
        made.set_shape(operation.outputs[0].shape)
        return [made]

    return rewrite


def _part(decode: Any, contents: Any, begin: Any, size: Any) -> Any:
    """A window of a JPEG, as the whole image has it."""
    shape = tf.image.extract_jpeg_shape(contents)[:2]
    low = tf.maximum(begin[:2] - 1, 0)
    high = tf.minimum(begin[:2] + size[:2] + 1, shape)
    inside = tf.debugging.assert_less_equal(begin[:2] + size[:2], shape)
    with tf.control_dependencies([inside] if inside is not None else []):
        window = tf.concat([low, high - low], 0)
    channels = decode.get_attr("channels")
    options: Mapping[str, Any] = {}
    if decode.type == "DecodeJpeg":
        options = {
            "fancy_upscaling": decode.get_attr("fancy_upscaling"),
            "dct_method": decode.get_attr("dct_method").decode(),
        }
    image = tf.io.decode_and_crop_jpeg(contents, window, channels=channels, **options)
    return tf.slice(image, tf.concat([begin[:2] - low, [0]], 0), size)


def _decoded(decode: Any, contents: Any) -> Any:
    """The whole image, as the user decodes it."""
    channels = decode.get_attr("channels")
    if decode.type == "DecodeImage":
        return tf.io.decode_image(contents, channels=channels, expand_animations=False)
    return tf.io.decode_jpeg(
        contents,
        channels=channels,
        fancy_upscaling=decode.get_attr("fancy_upscaling"),
        acceptable_fraction=decode.get_attr("acceptable_fraction"),
        dct_method=decode.get_attr("dct_method").decode(),
    )


def _whole_jpeg(contents: Any) -> Any:
    """Whether bytes begin and end as a JPEG does: one cut short fails where it is decoded whole."""
    begins = tf.strings.substr(contents, 0, 3) == b"\xff\xd8\xff"
    return begins & (tf.strings.substr(contents, tf.maximum(tf.strings.length(contents) - 2, 0), 2) == b"\xff\xd9")
