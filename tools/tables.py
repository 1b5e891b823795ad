"""Writes `docs/backends.md`, which says what each backend does and how exactly: `make tables`.

Everything is read from the package: stages, their primitives, which backends have them, and to which tolerance. No
framework is imported, so it is the same text on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from greenload.backends.base import Tolerance
from greenload.backends.registry import BACKENDS
from greenload.backends.tables import TABLES
from greenload.errors import PipelineError
from greenload.sources import formats
from greenload.specs import DTYPES, ENCODED_SPEC, HWC, ImageSpec
from greenload.stages import (
    Apply,
    CenterCrop,
    ColorJitter,
    Decode,
    GaussianBlur,
    Normalize,
    Pad,
    RandAugment,
    RandomAdjustSharpness,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomPosterize,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
    Stage,
    ToDtype,
    TrivialAugmentWide,
)
from greenload.stages import primitives as p
from greenload.stages.registry import STAGES

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "docs" / "backends.md"
REMEDY = "make tables"

AROUND = ("Shuffle", "OneHot", "Cache", "Echo", "Batch")
"""Stages that touch no pixel: tf.data does them, whichever backend does the others."""
COMBINATORS = ("RandomApply", "RandomChoice", "RandomOrder")
"""Stages made of stages, which are in the tables."""
WITHOUT = [
    (f"without {what}", tuple(name for name in RandAugment.ALL if name not in names))
    for what, names in (
        ("`Equalize`", ("Equalize",)),
        ("affine maps", ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")),
    )
]
"""Of policies what is left by `only`."""
SHOWN: dict[str, Sequence[tuple[str, Stage]]] = {
    "Decode": [("", Decode())],
    "Resize": [("", Resize((224, 224))), ("without antialias", Resize((224, 224), antialias=False))],
    "CenterCrop": [("", CenterCrop(224))],
    "RandomCrop": [("", RandomCrop(224, padding=4))],
    "RandomResizedCrop": [
        ("", RandomResizedCrop(224)),
        ("without antialias", RandomResizedCrop(224, antialias=False)),
    ],
    "RandomHorizontalFlip": [("", RandomHorizontalFlip())],
    "RandomVerticalFlip": [("", RandomVerticalFlip())],
    "RandomRotation": [("", RandomRotation(30))],
    "RandomAffine": [("", RandomAffine(30, (0.1, 0.1), (0.8, 1.2), 10))],
    "Pad": [("", Pad(4))],
    "ColorJitter": [("", ColorJitter(0.4, 0.4, 0.4, 0.1))],
    "RandomGrayscale": [("", RandomGrayscale())],
    "RandomPosterize": [("", RandomPosterize(4))],
    "RandomAdjustSharpness": [("", RandomAdjustSharpness(2))],
    "GaussianBlur": [("", GaussianBlur(23))],
    "RandomErasing": [("", RandomErasing())],
    "Normalize": [("", Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))],
    "ToDtype": [(f"to {dtype}", ToDtype(dtype, scale=True)) for dtype in DTYPES],
    "Apply": [("", Apply(abs))],
    "RandAugment": [("", RandAugment()), *((what, RandAugment(only=only)) for what, only in WITHOUT)],
    "TrivialAugmentWide": [
        ("", TrivialAugmentWide()),
        *((what, TrivialAugmentWide(only=only)) for what, only in WITHOUT),
    ],
}
"""Other stages, with arguments that stand for them; those that are in neither are shown as they are by default."""

HEAD = """\
# What each backend does, and how exactly

`make tables` writes this page from the package; don't edit it. A test fails if it is stale.

A backend runs a stage only if it keeps the stage's formula (its docstring) to a stated tolerance. A dash (—) means that
it doesn't. A plan that asks for it is refused, with the name of a backend that can. Nothing is replaced in silence.
`Shuffle`, `OneHot`, `Cache`, `Echo` and `Batch` touch no pixel; tf.data runs them around every backend. `Echo` needs a
backend that can do what stands before it once for several images: `tf`, `pillow` or `native`. `RandomApply`,
`RandomChoice` and `RandomOrder` run on the backends that run all stages inside them, to the tolerances of those that an
image goes through.

**How to read a tolerance.** The first number is the largest distance of any value from the stage's reference, which is
computed in float64. Two backends may lie twice as far apart. The number in brackets is the largest mean distance over
an image. "rim" is the largest distance in the outermost pixel on each side, where it is larger there. "exact" means
the same bits. Of operations one after another, as policies have them, the distances are added: what `Equalize` or
another operation enlarges of those before it isn't in them.

**Units** are those of the values that leave: levels (0 … 255) for uint8, the image's own range (0 … 1) for float32,
standard deviations after `Normalize`. `ToDtype` and `Normalize` are shown for `scale=True` and for ImageNet's means and
deviations. What depends on an image's size (rotating, other affine maps) is shown for sides of 1,000 pixels.

**How the figures were found.** The conformance suite keeps those of `tf`, `dali-cpu`, `pillow` and `native` on every
change.
Those of `dali`, on a GPU, were measured on an H100. An asterisk (*) marks those that come from analysis instead: the
same formulas in another order of operations, which have not been run on a GPU.
"""

FILES = """\
All backends that read a kind give the same pixels, except JPEGs on a GPU (`Decode` above).

A user may name a backend. It then refuses, by name, a file of a kind that it doesn't read. With `backend="auto"`
another backend decodes that file (below). `on_error="skip"` leaves it out where none can.

`native` decodes usual JPEGs itself. Of the others (CMYK, cut-off files that were filled, any that its decoder warns of)
the first of Pillow, DALI on the CPU and TensorFlow that can run makes pixels, or says why it can't: so `native` takes
and refuses the same JPEGs as they do.

- What lies around or after a picture (metadata, texts, other frames, appended bytes) decides nothing. Where decoders
  would differ about it, they get the picture alone.
- A transparent pixel has the colour that is stored.
- `Decode(exif=True)` turns images upright whose files state an EXIF orientation (JPEG, PNG, WebP and TIFF can), by one
  rule on every backend.
- A TIFF is refused if one of its strips holds less than its header promises: decoders leave the rest black.
"""

CUT_OFF = """\
Cut-off files are refused. `Decode(truncated="fill")` takes what is there, with the same pixels on every backend that
reads the kind:

- **JPEG**: the rest is mid-grey: 128, and 64 of CMYK and YCCK. The rest of a progressive one is what its scans so far
  say, unsmoothed. `dali` refuses it: what a GPU makes of such a file isn't known.
- **PNG**: whole rows are taken, up to the first that is damaged. The rest is black, or the palette's first colour.
- **BMP**: whole bytes are taken, in the same way. The bottom row usually comes first in the file, so the top is what is
  missing.
- **Refused** by name: GIF, WebP, TIFF, arithmetic-coded JPEG, interlaced PNG, and files that end before their pixels.

`greenload check` counts the files of which something is there.
"""

SEVERAL_KINDS = """\
## Folders of several kinds

With `backend="auto"` the plan looks at the headers of 16 records, and of one more of each extension. It takes a backend
that reads all kinds among them, if there is one.

The plan names another backend for every kind that the decoding step's backend doesn't read, also for kinds that weren't
among these records: Pillow, DALI on the CPU or TensorFlow, the first of these that can run. `plan.describe()` shows
it, as in `Decode: tf; palette BMP by pillow; TIFF by dali-cpu`, and so does `readers` in `plan.to_dict()`.

That backend decodes such a file and passes it on as an uncompressed PNG of the same pixels (to `native` as a binary
PPM; where `gl.load` runs `native` in TensorFlow's graph, TensorFlow decodes the kinds that it reads itself).
Everything else goes on as for any PNG: the crop, the EXIF orientation (already applied), `on_error`, and the limit of
`max_bytes`. The limit is the kind's own figure, or 10 bytes a pixel where that is more. A profile counts this work to
the decoding step. Other files pay nothing for it.

Before the first epoch the plan counts and names the records looked at that no backend on the machine reads. If these
are all records, it is an error. `greenload check` and `greenload pack` judge by what `auto` reads here;
`greenload check --backend NAME` judges by one backend.

TensorFlow calls Python for such files, and workers of tf.data service can't do that. There a file of a kind that `tf`
doesn't read fails, by name. Convert such files, or leave them out.
"""


def text() -> str:
    """The file's text."""
    parts = [HEAD]
    for dtype in ("uint8", "float32"):
        parts.append(f"## Stages on {dtype} images\n\n{_table(_rows(dtype))}")
    small = [dtype for dtype in DTYPES if dtype not in ("uint8", "float32")]
    parts.append(
        "## Stages on images of small types\n\n"
        f"{_listed(small)}: stages that no backend takes on such images are left out.\n"
    )
    parts += [f"### {dtype}\n\n{_table(_rows(dtype, dashes=False))}" for dtype in small]
    parts.append(f"## Files\n\n{FILES}\n{_table(_files())}\n{CUT_OFF}\n{SEVERAL_KINDS}")
    return "\n".join(parts)


def _rows(dtype: str, dashes: bool = True) -> list[list[str]]:
    rows = [["stage", *(f"`{name}`" for name in BACKENDS)]]
    for name, variants in _shown().items():
        for what, stage in variants:
            spec = ENCODED_SPEC if isinstance(stage, Decode) else ImageSpec((None, None, 3), dtype, HWC)
            if spec.encoded and dtype != "uint8":
                continue
            try:
                stage.out_spec(spec)
            except PipelineError:  # it doesn't take such images
                continue
            parts = _parts(stage, spec)
            cells = [_cell(backend, parts) for backend in BACKENDS] if parts else ["—"]
            if parts and (dashes or set(cells) != {"—"}):
                rows.append([f"`{name}` {what}".strip(), *cells])
    return rows


def _shown() -> dict[str, Sequence[tuple[str, Stage]]]:
    """Every stage on pixels with its variants, each with the words that tell it apart."""
    others = [name for name in STAGES if name not in (*SHOWN, *AROUND, *COMBINATORS)]
    return SHOWN | {name: [("", STAGES[name]())] for name in others}


def _parts(stage: Stage, spec: ImageSpec) -> list[tuple[p.Primitive, ImageSpec]]:
    """A stage's primitives, each with the images that enter it."""
    found = [(primitive, spec_in) for primitive, spec_in, _ in stage.operations(spec)]
    return [*found, (p.DecodeCrop(), spec)] if isinstance(stage, Decode) else found


def _cell(backend: str, parts: Sequence[tuple[p.Primitive, ImageSpec]]) -> str:
    stated = [TABLES[backend].tolerance(part, spec) for part, spec in parts]
    if None in stated:
        return "—"
    if any(isinstance(part, p.Call) for part, _ in parts):
        return "calls it"
    held = [tolerance for tolerance in stated if tolerance is not None]
    rim = max(tolerance.max if tolerance.rim is None else tolerance.rim for tolerance in held)
    worst = Tolerance(max(t.max for t in held), max(t.mean for t in held))
    cell = f"{_number(worst.max)} ({_number(worst.mean)})" if rim else "exact"
    cell += f", rim {_number(rim)}" if rim > worst.max else ""
    return cell if not TABLES[backend].traits.on_gpu or all(_measured_on_gpu(*part) for part in parts) else f"{cell} *"


def _measured_on_gpu(primitive: p.Primitive, spec: ImageSpec) -> bool:
    """Whether what ``"dali"`` states for a primitive on images of ``spec`` was measured on a GPU (an H100); the rest
    comes from analysis."""
    match primitive:
        case p.Decode() | p.DecodeCrop():
            return True
        case p.Crop() | p.Pad() | p.Resize() | p.Flip(vertical=False):
            return spec.dtype == "uint8"
        case p.Affine():
            return spec.dtype == "uint8" and primitive.dtype == "float32"
    return False


def _number(value: float) -> str:
    """Two significant digits."""
    if value >= 1e-3:
        return f"{float(f'{value:.2g}'):g}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"


def _files() -> list[list[str]]:
    rows = [["kind", "what is read", *(f"`{name}`" for name in BACKENDS)]]
    for name, variants in formats.KINDS.items():
        rows.append([name, variants, *("yes" if name in table.kinds else "—" for table in TABLES.values())])
    return rows


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    lines.insert(1, f"|{'---|' * len(rows[0])}")
    return "\n".join(lines) + "\n"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
