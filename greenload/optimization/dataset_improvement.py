"""`Improvement`: what makes someone's dataset cheaper and leaves its elements as they are; callable on the dataset."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from greenload.energy.figures import Figure, scale
from greenload.errors import UsageError
from greenload.optimization.dataset_changes import Change
from greenload.optimization.dataset_compare import Comparison, spec_difference
from greenload.optimization.dataset_nodes import TreeBuilder
from greenload.profiling.tfdata.graph import Node
from greenload.profiling.tfdata.walk import walk
from greenload.public import public
from greenload.report.record import Record, json_fields
from greenload.system.frameworks import tf
from greenload.text import amount, bytes_text, percent, printable

if TYPE_CHECKING:
    from rich.console import RenderableType

FORMAT = "greenload.improvement/1"


@dataclass(frozen=True, kw_only=True)
class TriedChange(Record):
    """A change that was tried: what it saved beside the dataset without it, or why it wasn't taken."""

    title: str
    detail: str
    """What to write in one's code."""
    taken: bool
    saves_cpu_s_per_sample: Figure = field(default_factory=Figure.missing)
    """On top of the changes taken before it, in later epochs, by adjacent windows of both."""
    share: float | None = None
    """Of the CPU seconds a sample without it."""
    compared: Comparison | None = None
    """Its elements beside the dataset's own; None where it couldn't be built."""
    lost: str = ""
    """Why it wasn't taken, in one sentence."""
    ram_bytes: float = 0.0
    """What it holds between epochs."""


@public
@dataclass(frozen=True, kw_only=True)
class Improvement:
    """What makes a ``tf.data.Dataset`` cheaper without changing its elements, as `optimize` found by measuring.

    Example:
        >>> found = gl.optimize(train, epochs=90, ram="8GiB")  # train: a tf.data.Dataset
        >>> print(found)
        >>> model.fit(found(train), epochs=90)

    Raises:
        UsageError: it is called on another dataset than the one that it was found on, or one made by the same code.
    """

    created: str
    """UTC time, ISO 8601."""
    greenload: str
    """Version."""
    name: str
    epochs: int
    ram_bytes: float
    """That might be held between epochs."""
    threads: int
    demand: float | None
    """Samples a second that the trainer takes; None where nobody said."""
    now_cpu_s_per_sample: Figure
    """Of the dataset as it was given, in later epochs."""
    improved_cpu_s_per_sample: Figure
    """Of the improved one."""
    saves_cpu_s_per_sample: Figure
    """The difference, by adjacent windows on builds of both that nothing was decided by."""
    first_epoch_cpu_s_per_sample: tuple[float | None, float | None]
    """Of the first epoch, as it was given and improved; None where it has no end."""
    samples_per_s: tuple[float, float]
    """At full speed, as it was given and improved."""
    changes: tuple[TriedChange, ...]
    """Those taken first, in the order in which they were taken."""
    compared: Comparison
    """The improved dataset's elements beside the dataset's own."""
    sample: str
    """What was counted as one sample, in words."""
    notes: tuple[str, ...] = ()
    source: str = ""
    """The text of a function ``improved(dataset)`` in tf.data code, to be read, and to be copied."""
    recipe: tuple[Change, ...] = field(default=(), repr=False, compare=False)
    """The changes themselves. They aren't part of the JSON."""
    nodes: tuple[tuple[str, str], ...] = field(default=(), repr=False, compare=False)
    """Kind and name of each step of the dataset, by which another one made by the same code is known."""

    def __call__(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same elements, at less cost.

        Args:
            dataset: the one that was given to `optimize`, or one made by the same code.

        Raises:
            UsageError: it has other steps.
        """
        root = walk(dataset)
        if tuple((node.kind, node.name) for node in root.nodes()) != self.nodes:
            raise UsageError(
                "an improvement is for the dataset that it was found on, or one made by the same code; this one has"
                f" other steps ({', '.join(node.name for node in root.nodes() if not node.hidden)}): optimize it anew"
            )
        changed = apply_all(root, self.recipe)
        if changed is root:
            return dataset
        built = TreeBuilder(None).build(changed)
        count = int(dataset.cardinality())
        if count >= 0 and int(built.cardinality()) == tf.data.UNKNOWN_CARDINALITY:  # unbatching forgets it
            built = built.apply(tf.data.experimental.assert_cardinality(count))
        if spec_difference(dataset.element_spec, built.element_spec):
            raise UsageError(
                "an improvement gives elements of the same structure; this dataset's is another: optimize it anew"
            )
        return tf.data.experimental.from_variant(built._variant_tensor, dataset.element_spec)

    @property
    def share(self) -> float:
        """The share of CPU seconds a sample that it saves in later epochs."""
        now, saved = self.now_cpu_s_per_sample.value, self.saves_cpu_s_per_sample.value
        return saved / now if now and saved is not None else 0.0

    @property
    def training_share(self) -> float:
        """The share that it saves over all epochs, the first one, which fills caches, included."""
        now, improved = self.now_cpu_s_per_sample.value or 0.0, self.improved_cpu_s_per_sample.value or 0.0
        first = [one if one is not None else later for one, later in
                 zip(self.first_epoch_cpu_s_per_sample, (now, improved), strict=True)]  # fmt: skip
        before, after = (one + (self.epochs - 1) * later for one, later in zip(first, (now, improved), strict=True))
        return 1 - after / before if before else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        data = json_fields(self, type(self))
        for name in ("recipe", "nodes"):
            del data[name]
        return {"format": FORMAT, **data, "share": self.share, "training_share": self.training_share}

    def render(self) -> RenderableType:
        """For a rich console: what it saves, each change, what was compared, what to write."""
        from rich.console import Group
        from rich.text import Text

        from greenload.report.columns import FigureTable, Line, Sentence

        lines: list[RenderableType] = [Sentence(printable(self._headline()), "bold")]
        rows = [
            Line((
                change.title,
                amount(scale(change.saves_cpu_s_per_sample, 1e3)),
                percent(change.share) if change.share is not None else "–",
                bytes_text(change.ram_bytes) if change.ram_bytes else "–",
                "taken" if change.taken else "not taken",
            ), "" if change.taken else "dim")
            for change in self.changes
        ]  # fmt: skip
        if rows:
            lines.append(FigureTable("change", ["saves CPU ms\na sample", "of it", "memory", ""], rows))
        for change in self.changes:
            said = f"{change.title}: {change.detail}" if change.taken else f"{change.title}: not taken, {change.lost}"
            lines.append(Sentence(printable(said), "" if change.taken else "dim"))
        lines += [
            Sentence(printable(self._compared_text())),
            *(Sentence(printable(f"note: {n}"), "dim") for n in self.notes),
        ]
        if self.source:
            code = "\n".join(map(printable, self.source.splitlines()))  # never broken: it is copied
            lines += [Sentence("as tf.data code:", "bold"), Text(code, no_wrap=True, overflow="ignore")]
        return Group(*lines)

    def __str__(self) -> str:
        from greenload.report.columns import plain_text

        return plain_text(self.render(), 120)

    def _headline(self) -> str:
        now, later = (scale(one, 1e3) for one in (self.now_cpu_s_per_sample, self.improved_cpu_s_per_sample))
        if not self.recipe:
            return f"{self.name}: {amount(now)} CPU ms a sample; no change saves some and keeps its elements"
        return (
            f"{self.name}: {amount(later)} CPU ms a sample in later epochs instead of {amount(now)}"
            f" ({percent(self.share)} less; {percent(self.training_share)} over {self.epochs} epochs)"
        )

    def _compared_text(self) -> str:
        order = "in the same order" if self.compared.order == "same" else "in any order, as the dataset promises none"
        if not self.recipe:
            return "The dataset is as it was."
        return f"{self.compared.elements} elements of {self.compared.epochs} epochs are equal bit for bit, {order}."


def apply_all(root: Node, recipe: tuple[Change, ...]) -> Node:
    """A tree with all changes made.

    Raises:
        UsageError: one has no place in it.
    """
    for change in recipe:
        changed = change.apply(root)
        if changed is None:
            raise UsageError(
                f"a change has its place in the dataset that it is for, {change.title!r} has none: optimize it anew"
            )
        root = changed
    return root
