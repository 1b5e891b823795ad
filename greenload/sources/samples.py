"""Makes sample photographs to try greenload with, without a download.

JPEG crops of the two photographs that scikit-learn ships, with sizes, qualities and encodings spread as in a crawl of
the web. Decoding them costs what decoding photographs costs; their labels say little.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from greenload import scalars
from greenload.errors import UsageError
from greenload.system import file_output
from greenload.system.frameworks import tf
from greenload.system.scratch import ScratchFolder

MARKER: Final = ".greenload-sample.json"
"""The file in a sample folder that tells it from a folder of the user's own."""

PHOTOGRAPHS: Final = ("china.jpg", "flower.jpg")
"""The photographs in scikit-learn's ``datasets/images``, 640 × 427 each."""

Progress = Callable[[int, int], None]
"""Called with the images made so far, and all there will be."""

_Pixels = npt.NDArray[np.uint8]
_PARTIAL = ".greenload-sample-partial-"
_MADE_BY_US = re.compile(rf"({re.escape(_PARTIAL)}[0-9a-f]+/)?class-\d+/\d{{6}}\.jpg")

# Sizes: long sides are log-normal about _LONG_SIDE_MEDIAN and one image in eight is upright, which together give means
# near 500 × 375, the typical size in ImageNet.
_LONG_SIDE_MEDIAN: Final = 487.0
_LONG_SIDE_SIGMA: Final = 0.35
_LONG_SIDE_RANGE: Final = (120, 1600)
_PORTRAIT_SHARE: Final = 0.125
_ASPECTS: Final = ((4 / 3, 0.45), (3 / 2, 0.35), (16 / 9, 0.15), (1.0, 0.05))

# Encodings: most photographs on the web are baseline JPEG with halved chroma, at quality 75 to 95.
_QUALITIES: Final = (60, 92, 96)  # least, most frequent, greatest
_FULL_CHROMA_SHARE: Final = 0.15
_PROGRESSIVE_SHARE: Final = 0.15
_GREY_SHARE: Final = 0.03


@dataclass(frozen=True)
class SampleSummary:
    """What `make_samples` made."""

    folder: str
    """Holds ``class-0/000000.jpg`` and so on (``class-00`` where there are more than ten): image `i` is in class
    ``i % classes``."""
    images: int
    """How many images."""
    classes: int
    """How many class folders."""
    seed: int
    """The seed they were made from."""
    encoder: str
    """``"pillow"`` or ``"tensorflow"``: the two write different bytes."""
    mean_width: float
    """Mean width in pixels."""
    mean_height: float
    """Mean height in pixels."""
    mean_bytes: float
    """Mean size of a file in bytes."""
    total_bytes: int
    """Size of all files in bytes."""


@dataclass(frozen=True)
class _Recipe:
    """The random choices of one image."""

    photograph: int
    width: int
    height: int
    zoom: float
    """Output pixels per photograph's pixel."""
    x: float
    """Where the crop starts, as a share of the room there is."""
    y: float
    flip: bool
    brightness: float
    quality: int
    full_chroma: bool
    progressive: bool
    grey: bool


@dataclass(frozen=True)
class _Codec:
    """A JPEG library: Pillow's or TensorFlow's."""

    name: str
    decode: Callable[[bytes], _Pixels]
    encode: Callable[[_Pixels, _Recipe], bytes]


def make_samples(
    folder: str | Path, images: int = 512, seed: int = 0, classes: int = 8, progress: Progress | None = None
) -> SampleSummary:
    """Fills a folder with sample photographs in class folders.

    The same seed gives the same files, with one encoder; image `i` does not depend on how many there are. A folder
    made earlier is made anew; any other that is not empty is refused.

    Args:
        folder: where to; made if missing.
        images: how many images, at least one per class.
        seed: at least 0.
        classes: how many class folders, at least 1.
        progress: called after every image with the number made and `images`.

    Returns:
        What was made, with mean sizes.

    Raises:
        UsageError: an argument is out of range, the folder can't be used, or scikit-learn or an encoder is missing.

    Example:
        >>> make_samples("data/sample").mean_width  # doctest: +SKIP
        495.69921875
    """
    images, seed, classes = _numbers(images, seed, classes)
    root = Path(folder)
    codec = _codec()
    photographs = _photographs(codec)
    try:
        _clear(root)
        _write_marker(root, {"complete": False})
        with ScratchFolder(str(root), _PARTIAL) as hidden:  # by its name, so that half of them are never taken for all
            sizes = []
            for index in range(images):
                recipe = _recipe(seed, index, index % classes)
                data = codec.encode(_render(photographs[recipe.photograph], recipe), recipe)
                number = f"{index % classes:0{len(str(classes - 1))}}"  # sorted as text they are sorted by number
                path = Path(hidden) / f"class-{number}" / f"{index:06d}.jpg"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
                sizes.append((recipe.width, recipe.height, len(data)))
                if progress is not None:
                    progress(index + 1, images)
            for made in Path(hidden).iterdir():
                made.rename(root / made.name)
        summary = SampleSummary(str(root), images, classes, seed, codec.name, *_means(sizes))
        _write_marker(root, {"complete": True, **asdict(summary)})
    except OSError as error:
        raise UsageError(
            f"{root}: samples can't be written: {error.strerror or error}; name a writable folder"
        ) from error
    return summary


def _numbers(images: Any, seed: Any, classes: Any) -> tuple[int, int, int]:
    """The numbers of images and classes and the seed, as integers.

    Raises:
        UsageError: one is out of range.
    """
    count, key, folders = map(scalars.whole, (images, seed, classes))
    if count is None or key is None or folders is None:
        raise UsageError(f"samples need whole numbers, got images={images!r}, seed={seed!r} and classes={classes!r}")
    if folders < 1 or key < 0:
        raise UsageError(f"samples need classes of at least 1 and a seed of at least 0, got {folders} and {key}")
    if count < folders:
        raise UsageError(f"samples need one image or more per class, got images={count} for classes={folders}")
    return count, key, folders


def _means(sizes: list[tuple[int, int, int]]) -> tuple[float, float, float, int]:
    """Mean width, height and bytes of images, and the bytes of all; of their widths, heights and bytes."""
    width, height, size = (float(value) for value in np.mean(sizes, axis=0))
    return width, height, size, sum(size for _, _, size in sizes)


def _recipe(seed: int, index: int, label: int) -> _Recipe:
    """Draws one image; the label chooses the photograph, so that labels are not pure noise."""
    random = np.random.default_rng([seed, index])
    long_side = _LONG_SIDE_MEDIAN * math.exp(_LONG_SIDE_SIGMA * random.standard_normal())
    long_side = round(min(max(long_side, _LONG_SIDE_RANGE[0]), _LONG_SIDE_RANGE[1]))
    aspects, shares = zip(*_ASPECTS, strict=True)
    short_side = round(long_side / random.choice(aspects, p=shares))
    portrait = random.random() < _PORTRAIT_SHARE
    return _Recipe(
        photograph=label % len(PHOTOGRAPHS),
        width=short_side if portrait else long_side,
        height=long_side if portrait else short_side,
        zoom=math.exp(random.uniform(math.log(0.75), math.log(1.5))),
        x=random.random(),
        y=random.random(),
        flip=bool(random.random() < 0.5),
        brightness=random.uniform(0.7, 1.05),
        quality=round(random.triangular(*_QUALITIES)),
        full_chroma=bool(random.random() < _FULL_CHROMA_SHARE),
        progressive=bool(random.random() < _PROGRESSIVE_SHARE),
        grey=bool(random.random() < _GREY_SHARE),
    )


def _render(photograph: _Pixels, recipe: _Recipe) -> _Pixels:
    """Crops, flips, rescales and brightens: H × W × 3 uint8 in, height × width × 3 uint8 out.

    Bilinear without antialiasing and element by element: a matrix product's last bits depend on the number of threads.
    """
    rows, columns = photograph.shape[:2]
    # A small image shows at least a third of the photograph each way, because less is often plain sky.
    zoom = min(recipe.zoom, 3 * recipe.height / rows, 3 * recipe.width / columns)
    zoom = max(zoom, recipe.height / rows, recipe.width / columns)
    crop_height, crop_width = recipe.height / zoom, recipe.width / zoom
    ys = recipe.y * (rows - crop_height) + (np.arange(recipe.height) + 0.5) / zoom - 0.5
    xs = recipe.x * (columns - crop_width) + (np.arange(recipe.width) + 0.5) / zoom - 0.5
    if recipe.flip:
        xs = xs[::-1]
    pixels = photograph.astype(np.float32) * np.float32(recipe.brightness)
    rendered: _Pixels = np.clip(_interpolate(_interpolate(pixels, ys, 0), xs, 1) + 0.5, 0, 255).astype(np.uint8)
    return rendered


def _interpolate(
    pixels: npt.NDArray[np.float32], positions: npt.NDArray[np.float64], axis: int
) -> npt.NDArray[np.float32]:
    """Samples an axis at fractional positions, linearly; positions outside are moved to the edge."""
    last = pixels.shape[axis] - 1
    positions = positions.clip(0, last)
    low = np.floor(positions).astype(np.intp)
    shape = [1, 1, 1]
    shape[axis] = -1
    share = (positions - low).astype(np.float32).reshape(shape)
    result: npt.NDArray[np.float32] = pixels.take(low, axis) * (1 - share)
    result += pixels.take(np.minimum(low + 1, last), axis) * share
    return result


def _photographs(codec: _Codec) -> list[_Pixels]:
    # The files are read from scikit-learn's folder: importing sklearn.datasets takes a second, and needs Pillow.
    spec = importlib.util.find_spec("sklearn")
    packages = [] if spec is None else spec.submodule_search_locations or []
    folders = [Path(package) / "datasets" / "images" for package in packages]
    for folder in folders:
        if all((folder / name).is_file() for name in PHOTOGRAPHS):
            return [codec.decode((folder / name).read_bytes()) for name in PHOTOGRAPHS]
    raise UsageError(
        "samples are cut from scikit-learn's photographs, and it is not installed: pip install scikit-learn, "
        "or use a folder of your own images"
    )


def _codec() -> _Codec:
    """Pillow if it is there, because it is quick to import; else TensorFlow."""
    if importlib.util.find_spec("PIL") is not None:
        return _Codec("pillow", _decode_with_pillow, _encode_with_pillow)
    if importlib.util.find_spec("tensorflow") is not None:
        return _tensorflow_codec()
    raise UsageError(
        "samples need an encoder of JPEG, and neither Pillow nor TensorFlow is installed: pip install pillow-simd"
    )


def _decode_with_pillow(data: bytes) -> _Pixels:
    from PIL import Image

    pixels: _Pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    return pixels


def _encode_with_pillow(pixels: _Pixels, recipe: _Recipe) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels)
    file = io.BytesIO()
    (image.convert("L") if recipe.grey else image).save(
        file,
        "JPEG",
        quality=recipe.quality,
        progressive=recipe.progressive,
        subsampling="4:4:4" if recipe.full_chroma else "4:2:0",
    )
    return file.getvalue()


def _tensorflow_codec() -> _Codec:
    def decode(data: bytes) -> _Pixels:
        pixels: _Pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE").numpy()
        return pixels

    def encode(pixels: _Pixels, recipe: _Recipe) -> bytes:
        image: Any = tf.constant(pixels)
        if recipe.grey:
            image = tf.image.rgb_to_grayscale(image)
        save = partial(tf.io.encode_jpeg, quality=recipe.quality, progressive=recipe.progressive)
        data: bytes = save(image, chroma_downsampling=not recipe.full_chroma).numpy()
        return data

    return _Codec("tensorflow", decode, encode)


def _clear(root: Path) -> None:
    """Makes the folder, or empties one made earlier; refuses one that holds anything of the user's."""
    root.mkdir(parents=True, exist_ok=True)
    files = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if not path.is_dir()]
    foreign = [name for name in files if name != MARKER and not _MADE_BY_US.fullmatch(name)]
    if files and (MARKER not in files or foreign):
        other = (foreign or files)[0]
        raise UsageError(
            f"{root}: samples go into an empty folder, and this holds {other}; name another folder, or empty it"
        )
    for name in files:
        if name != MARKER:
            (root / name).unlink()
    for path in root.glob("class-*"):
        path.rmdir()


def _write_marker(root: Path, content: dict[str, Any]) -> None:
    file_output.write(root / MARKER, json.dumps(content, indent=1) + "\n")
