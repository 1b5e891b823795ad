"""Stages that decide when and how often a sample flows: order, decoding, caching, batching."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from greenload import scalars
from greenload.errors import PipelineError
from greenload.public import public
from greenload.specs import CACHE_FORMS, HWC, MAX_BYTES, NHWC, TRUNCATED, CacheForm, ImageSpec, Truncation
from greenload.stages import primitives as pixels
from greenload.stages.arguments import flag, folder, need_decoded
from greenload.stages.base import Stage
from greenload.stages.primitives import Primitive


@public
@dataclass(frozen=True)
class Shuffle(Stage):
    """Each epoch in another order: a keyed bijection on the index, so the whole set is shuffled without a buffer.

    Wherever it stands before ``Batch`` it orders the whole pipeline. Without it, the source's order is kept.

    With ``block`` the order is less random, and cheaper to read from files of records: the set is cut into blocks of
    about so many neighbouring samples; each epoch the blocks are shuffled over the whole set, and groups of four are
    read at once, whole, and mixed. Samples of one block thus stay less than ``4 * block`` positions apart. On a set
    whose records are in random order already, as ``greenload pack`` writes them, batches are as mixed as ever; on one
    that is sorted by class they are not. Two groups are held in memory: 200 MB with images of 100 kB and blocks of 256.
    Resuming and shards are as exact; of several shards each reads its own samples, which are not neighbours.

    Args:
        block: neighbouring samples that stay together; ``None`` to shuffle all alike.
    """

    block: int | None = None

    def __post_init__(self) -> None:
        if self.block is not None:
            block = scalars.positive(PipelineError, "Shuffle: block", self.block, " or None")
            object.__setattr__(self, "block", block)

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        if spec.batched:
            raise PipelineError("Shuffle orders samples, but here they are batched: put it before Batch")
        return spec


@public
@dataclass(frozen=True)
class Decode(Stage):
    """Encoded bytes to uint8 RGB pixels; formats are told apart by their first bytes, whatever a file's name says.

    ========================  =====================================================  ==================================
    kind                      what of it                                             backends
    ========================  =====================================================  ==================================
    JPEG                      8-bit grey, RGB, CMYK, YCCK; baseline, progressive,    tf, dali-cpu, dali, pillow, native
                              arithmetic-coded
    partial progressive JPEG  its scans leave out bits of its coefficients           tf, pillow, native
    PNG                       1, 2, 4, 8 bits; grey, palette, RGB, with alpha;       tf, dali-cpu, dali, pillow
                              interlaced
    16-bit PNG                each channel rounded to 8 bits: v / 257                tf, dali-cpu
    BMP                       24 and 32 bits, bottom-up and top-down                 tf, dali-cpu, pillow
    WebP                      lossy, lossless, with alpha                            tf, dali-cpu, pillow
    GIF                       the first frame, on its canvas                         tf, pillow
    palette BMP               1, 4 and 8 bits, uncompressed                          dali-cpu, pillow
    TIFF                      8-bit grey, RGB, palette; its first image, in strips   dali-cpu
                              raw, or compressed by LZW, deflate or PackBits
    ========================  =====================================================  ==================================

    The pixels are the same bits on every backend that reads a kind (on a GPU within its stated tolerance). JPEG is
    decoded with libjpeg's accurate integer DCT and fancy upsampling; the inks of CMYK and YCCK are stored as light,
    whether Adobe's marker says so or not, as Pillow, OpenCV and browsers have it. One rule for every kind with
    transparency (PNG, WebP, BMP, GIF): a transparent pixel has the colour that is stored, and alpha is dropped, never
    blended. Where a GIF's first frame doesn't fill its canvas, the rest has the frame's transparent colour, or the
    first of its palette where none is transparent, as in Pillow. Colour profiles and gamma are ignored. What lies
    around or behind the picture (metadata, other frames, bytes appended) decides nothing. Everything else is refused
    with an error that names the file, what it is and what to do: animated WebP, 12-bit, lossless and hierarchical JPEG,
    compressed, bit-field, 16-bit and OS/2 BMP, other TIFF, AVIF, HEIF, JPEG XL, JPEG 2000, PNM, and images of 2²⁹
    values or more (178 million RGB pixels).

    **Memory** is bounded by headers: an image whose decoding would take more than ``max_bytes`` is refused before
    anything is decoded. What it takes is reckoned as on the backend that takes most, so that every backend refuses the
    same images, at any number of threads: 11 bytes a pixel for JPEG, 16 for CMYK; 6 for PNG, 8 with alpha, 13 at 16
    bits; 9 for BMP and GIF; 17 for WebP; 6 for TIFF. Each thread decodes one image at a time, so decoding holds at most
    ``threads × max_bytes``, beside the files themselves. The pixels of a batch come on top where a pipeline decodes
    whole images on DALI, which holds a batch of them.

    Args:
        exif: turn images upright by the EXIF orientation that their files state: a JPEG's EXIF segment wherever it
            stands among the segments of APP0 … APP15 and comments in front, or in the 8 KiB behind them; a PNG's
            ``eXIf`` chunk, before or behind the pixels; a WebP's ``EXIF`` chunk; a TIFF's own tag 274. It may be one
            number of any integer type. Orientation that is stated in XMP or in a PNG's text is ignored; BMP and GIF
            state none. Windows and sizes of later stages are then those of the upright image. ``load``, ``iterate`` and
            ``profile`` warn of orientations that aren't applied, and ``greenload check`` counts them.
        max_bytes: the most bytes that decoding one image may take, on each thread; 1 GiB if not given.
        truncated: what is done about files that are cut off. ``"error"``, the default, refuses them. ``"fill"`` takes
            what is there of JPEG, PNG and BMP, and fills the rest: of JPEG with mid-grey (128; 64 of CMYK and YCCK), or
            with what the scans so far say where it is progressive (without the smoothing of viewers); of PNG and BMP
            with black, or the palette's first colour. A tail of 512 zeros or more, as transfers reserve it, isn't taken
            for pixels of JPEG and PNG. The pixels are the same on every backend that reads the kind; ``"dali"`` refuses
            cut-off JPEGs, since what a GPU makes of them isn't known. Refused by name are cut-off GIF, WebP and TIFF,
            arithmetic-coded JPEG, interlaced PNG, and files that end before their pixels begin. Sizes, and so windows
            and draws, are those of the whole file; other damage is judged as ever, also that of a file which is cut off
            and goes on with another. ``greenload check`` counts the files of which something is there. On ``"tf"`` a
            file that seems cut, or has bytes behind its end, costs a call into Python, which tf.data service can't
            carry; libjpeg prints a line on standard error for each filled JPEG.

    Example:
        >>> Decode()
        >>> Decode(exif=True, max_bytes=4 << 30)                      # 4 GiB a thread
        >>> Decode(truncated="fill")                                  # what there is of cut-off files
    """

    exif: bool = False
    max_bytes: int = MAX_BYTES
    truncated: Truncation = "error"

    def __post_init__(self) -> None:
        object.__setattr__(self, "exif", flag("Decode", "exif", self.exif))
        limit = scalars.whole(self.max_bytes)
        if limit is None or not 1 <= limit < 1 << 62:
            raise PipelineError(
                f"Decode: max_bytes must be a positive integer, such as {MAX_BYTES} for 1 GiB, not {self.max_bytes!r}"
            )
        object.__setattr__(self, "max_bytes", limit)
        scalars.one_of(PipelineError, "Decode: truncated", self.truncated, TRUNCATED)

    def to_dict(self) -> dict[str, Any]:
        """The stage as JSON data. Usual values are left out, so that older versions read it too."""
        described = super().to_dict()
        for name, usual in (("max_bytes", MAX_BYTES), ("truncated", "error")):
            if described[name] == usual:
                del described[name]
        return described

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        if not spec.encoded:
            raise PipelineError(f"Decode takes encoded bytes, but here images are {spec} already: remove it")
        return ImageSpec((None, None, 3), "uint8", HWC)

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        return (pixels.Decode(self.exif, self.max_bytes, self.truncated),)


@public
@dataclass(frozen=True)
class Cache(Stage):
    """Keep what reaches this place, by sample, from its first use on; later epochs start from here.

    Whatever stands before it must be deterministic: a random stage would be frozen at its first draw. The pixels are
    those that a pipeline without ``Cache`` gives on the same backend, in every form.

    Backend ``"native"`` keeps images in the form that decoding goes on from at the least cost. With ``"auto"`` it does
    so wherever it can decode; nothing but ``Shuffle`` and ``Decode``, or stages behind ``Decode`` that are
    deterministic and give uint8 RGB, may stand before ``Cache`` then, and ``Batch`` must stand behind it. Elsewhere
    tf.data keeps encoded bytes before ``Decode`` and pixels behind it, in memory, all of them: ``path``, ``ram`` and
    the other forms need ``"native"``.

    ==================  ====================================================================  ===================
    form                what is kept of an image                                              about so many bytes
    ==================  ====================================================================  ===================
    ``"encoded"``       the file as it is: it is read once                                    the file's
    ``"transcoded"``    a JPEG of the same coefficients, of which a crop decodes only the     the file's
                        part that it needs; other files as they are
    ``"coefficients"``  the coefficients of a JPEG, read already, of which a crop transforms  twice the file's
                        only the part that it needs; of other files the pixels
    ``"planes"``        brightness and color of a JPEG at its own resolution of each, as      1.5 a pixel, often
                        decoding leaves them; of other files the pixels
    ``"pixels"``        the pixels                                                            3 a pixel
    ``"resized"``       the pixels behind the stages between ``Decode`` and ``Cache``         3 a pixel
    ==================  ====================================================================  ===================

    ``"auto"`` takes ``"resized"`` where such stages are there. Else it takes ``"planes"`` where the whole set fits, and
    otherwise the form that saves most, by how much of the set fits in it. ``describe()`` of a plan shows which form it
    is, and how much of the set is expected to fit.

    What doesn't fit isn't kept, and what is kept stays: of a set twice as large as its budget, the same half is kept in
    every epoch, and the other half is read and decoded anew.

    In memory, all datasets and iterators of a process that keep the same share it, and it goes with the last of them
    and of their pipelines. In a folder, processes share it, at the same time or one after another; a process reads on
    what earlier ones have kept. Kept images belong to the source's files, by their paths, sizes and times of change, to
    what stands before ``Cache``, and to the versions of what decodes: if one of these changes, images are kept anew,
    and those of before stay in the folder until ``greenload cache clear`` removes them.

    Without ``ram``, all that a process keeps in memory takes half of what was available to it, in the order in which it
    is kept. ``ram`` and ``disk`` hold for one set of images: for one source, the stages before ``Cache``, and one form.
    Where training and validation are both kept, two such limits add up. ``disk`` is that of all processes together.

    Of several ``Cache`` stages ``"native"`` uses the last one: ``path``, ``form``, ``ram`` and ``disk`` belong there.

    Args:
        path: a folder to keep images in, which is made if it is missing; memory if not given.
        form: one of those above.
        ram: the most bytes of this set of images to keep in memory. If not given, all sets without it take together
            half of what is available to the process when it first asks, control groups regarded.
        disk: the most bytes of this set of images to keep in the folder; if not given, what the disk has room for.

    Example:
        >>> Pipeline(ImageFolder("data/train"), Shuffle(), Cache(), Decode(), RandomResizedCrop(224), Batch(256))
        >>> Cache(ram=8 << 30)                                        # at most 8 GiB
        >>> Cache("/scratch/kept", form="transcoded", disk=100 << 30)
    """

    path: str | None = None
    form: CacheForm = "auto"
    ram: int | None = None
    disk: int | None = None

    def __post_init__(self) -> None:
        if self.path is not None:
            object.__setattr__(self, "path", folder("Cache", "path", self.path))
        scalars.one_of(PipelineError, "Cache: form", self.form, CACHE_FORMS)
        for name in ("ram", "disk"):
            given = getattr(self, name)
            if given is not None:
                bound = scalars.whole(given)
                if bound is None or not 1 <= bound < 1 << 62:
                    raise PipelineError(
                        f"Cache: {name} must be a positive integer of bytes, below 2**62, or None, not {given!r}: use "
                        "such as 8 << 30 for 8 GiB, or leave it out"
                    )
                object.__setattr__(self, name, bound)
        if self.ram is not None and self.path is not None:
            raise PipelineError(
                f"Cache: ram must be left out where a folder keeps images, path={self.path!r}, not memory: use "
                "disk, or leave path out"
            )
        if self.disk is not None and self.path is None:
            raise PipelineError(
                f"Cache: disk must be left out without a path, as {self.disk} bytes are of a folder, not of memory: "
                "add path, or use ram"
            )

    def to_dict(self) -> dict[str, Any]:
        """The stage as JSON data. Usual values are left out, so that older versions read it too."""
        described = super().to_dict()
        return {name: value for name, value in described.items() if name == "stage" or value not in (None, "auto")}

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        if spec.batched:
            raise PipelineError("Cache keeps samples, but here they are batched: put it before Batch")
        return spec


@public
@dataclass(frozen=True)
class Echo(Stage):
    """Each sample ``times`` times: what stands before is done once, what stands behind each time, with new draws.

    This is data echoing, before batching (Choi, Passos, Shallue and Dahl, "Faster Neural Network Training with Data
    Echoing", arXiv 1907.05550). An epoch has ``times`` as many elements as the source has samples, and an echo teaches
    less than a fresh sample, so it takes more elements to reach a score.

    It saves ``1 - 1 / times`` of reading and decoding, and nothing of what stands behind. It pays where these are most
    of the cost: files that come slowly or over a network, large photographs. It pays little, or not at all, where a
    crop right behind ``Decode`` decodes only its window: with ``Echo`` between them the whole image is decoded. Crops
    of 224×224 from photographs of 462×350 in the page cache took 0.75 of the CPU seconds an element on ``"tf"``, with 2
    echoes as with 4, and on ``"native"`` 1.08 with 2 and 0.84 with 4 (``python -m bench.echo``, on two busy cores).
    Where the set fits, a ``Cache`` keeps more, and each element is a fresh sample.

    Echo 0 of a sample has the draws that the sample has without ``Echo``; the others have draws of their own, a
    function of seed, epoch, sample and echo. Random stages before it draw once for a sample.

    The echoes of a sample follow each other. ``Shuffle`` stands before, and orders samples. Echoes of one sample thus
    lie in one batch, or in two neighbouring ones. The paper shuffles behind its echoes, and finds that echoing does
    better the more is shuffled; here nothing shuffles them, since decoded images would have to be held. Compare the
    score with and without ``Echo``.

    ``Position.sample`` counts echoes: a batch's start. ``Shard`` divides samples, so that all echoes of one are in one
    shard. It runs on backends ``"tf"``, ``"native"`` and ``"pillow"``; ``"dali-cpu"`` and ``"dali"`` may do only what
    stands behind it. Where batches are worked on, a sample whose echoes lie in two of them is read and decoded for
    each: have the batch's size a multiple of ``times``.

    Args:
        times: how often each sample is used, from 1.

    Example:
        >>> Pipeline(ImageFolder("data/train"), Shuffle(), Decode(), Echo(2), RandomResizedCrop(224), Batch(256))
    """

    times: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "times", scalars.positive(PipelineError, "Echo: times", self.times))

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_decoded(self, spec)
        if spec.batched:
            raise PipelineError(f"{self} repeats samples, but here they are batched: put it before Batch")
        return spec


@public
@dataclass(frozen=True)
class Batch(Stage):
    """``size`` samples stacked along a new first dimension; the last batch of an epoch may be smaller.

    Args:
        size: samples in a batch.
        drop_remainder: leave out an epoch's last, smaller batch, so that the batch dimension is static.
    """

    size: int
    drop_remainder: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", scalars.positive(PipelineError, "Batch: size", self.size))
        object.__setattr__(self, "drop_remainder", flag("Batch", "drop_remainder", self.drop_remainder))

    def out_spec(self, spec: ImageSpec) -> ImageSpec:
        need_decoded(self, spec)
        if spec.batched:
            raise PipelineError(f"{self}: images are batched already; remove one Batch")
        if not spec.static:
            raise PipelineError(
                f"{self} stacks images of one size, but here they are {spec}: put Resize((height, width)), "
                "CenterCrop or RandomResizedCrop before it"
            )
        return ImageSpec((self.size if self.drop_remainder else None, *spec.shape), spec.dtype, NHWC)
