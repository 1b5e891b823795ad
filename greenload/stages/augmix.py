"""AugMix: chains of operations that each begin with the image, mixed with each other and with the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from greenload import scalars
from greenload.array_ops import NUMPY, Array, Ops
from greenload.errors import PipelineError
from greenload.public import public
from greenload.randomness import beta
from greenload.specs import ImageSpec
from greenload.stages.arguments import flag
from greenload.stages.base import Params
from greenload.stages.mixing import alpha_of
from greenload.stages.operations import Turn, evenly, one_of, values_of
from greenload.stages.policies import Magnitudes, Policy, magnitudes
from greenload.stages.primitives import SUM_BITS, Part, Primitive, WeightedSum, params_of
from greenload.stages.reference import as_dtype

_BINS = 10
"""Magnitudes of which ``severity`` are drawn from."""
_LONGEST = 3
"""Operations of the longest chain, where lengths are drawn."""
_DRAWN = -1
"""The ``chain_depth`` that means so."""
_COLOURS = ("Brightness", "Color", "Contrast", "Sharpness")
"""Operations that ``all_ops`` adds."""
_OPERATIONS = (
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Posterize",
    "Solarize",
    "AutoContrast",
    "Equalize",
    *_COLOURS,
)


@public
@dataclass(frozen=True)
class AugMix(Policy):
    """Several chains of operations that each begin with the image, mixed with each other and with the image
    (``torchvision.transforms.v2.AugMix``; Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve
    Robustness and Uncertainty", ICLR 2020, arXiv 1912.02781).

    ``m · image + (1 − m) · Σ wᵢ · chainᵢ(image)``, rounded half up, where ``m`` is drawn from Beta(alpha, alpha) and
    ``w`` from Dirichlet(alpha, …, alpha), for each image. A chain has one to three operations, or ``chain_depth`` of
    them, each drawn alike, at a magnitude drawn alike from the first ``severity`` of ten. At magnitude ``i`` of 0 … 9,
    with ``t = i / 9``:

    - ``ShearX``, ``ShearY``: slope ``0.3 t`` about the upper left corner
    - ``TranslateX``, ``TranslateY``: ``t / 3`` of the side, cut to whole pixels
    - ``Rotate``: ``30 t`` degrees about the centre
    - ``Brightness``, ``Color``, ``Contrast``, ``Sharpness``: the factor ``1 + 0.9 t``
    - ``Posterize``: ``4 − round(4 t)`` bits, 1 at least
    - ``Solarize``: from level ``255 (1 − t)`` up
    - ``AutoContrast``, ``Equalize``

    Shears, shifts, turns and the four factors have either sign, drawn each time. ``m`` and ``wᵢ`` come by breaking a
    stick, each break a draw from a Beta distribution by its inverse, a multiple of 1 / 4096. Weights of the sum are
    multiples of 2⁻¹⁶ that sum to 1, so that every backend's sums are exact. A chain that weighs 0 costs nothing.

    Where others differ, and what is followed:

    ==================  ==================================================================================
    the paper's code    the operations without the four factors, which are too near to ImageNet-C's
                        corruptions, and are added by ``--all-ops``; levels drawn from 0.1 to ``severity``, of
                        10; factors from 0.1 up, so that a low level changes most; mixes normalised floats
    torchvision v2      **followed**, but it posterizes to 0 bits at magnitudes 8 and 9: a black image. The
                        paper's code keeps 1 bit up to level 10, and so does this. It cuts the mixed values
                        where this rounds
    Keras               one set of draws for a batch; a chain of 0 to ``chain_depth``; ranges by ``factor``
    timm                all thirteen operations; magnitudes are drawn from 0 to ``m`` of 10 as real numbers
    ==================  ==================================================================================

    In the paper the loss holds an image and two of its mixtures together (Jensen–Shannon). This makes one mixture.
    ``RandAugment`` says where single operations' pixels differ from torchvision's. Images are uint8 of three channels,
    one at a time. Backends ``"native"`` and ``"tf"`` run it.

    Args:
        severity: how many magnitudes are drawn from, 1 … 10.
        mixture_width: how many chains, from 1.
        chain_depth: how many operations a chain has, from 1; −1: 1, 2 or 3, drawn alike for each chain.
        alpha: of both distributions, from 0.001 to 1000; 1 is uniform.
        all_ops: whether brightness, colour, contrast and sharpness are drawn too.
        fill: what lies outside the image, 0 … 255.

    Raises:
        PipelineError: an argument is out of range; or, in a pipeline, images are not uint8 of three channels.

    Example:
        >>> Decode(), RandomResizedCrop(224), RandomHorizontalFlip(), AugMix(severity=3)
    """

    severity: int = 3
    mixture_width: int = 3
    chain_depth: int = _DRAWN
    alpha: float = 1.0
    all_ops: bool = True
    fill: float = 0.0

    def __post_init__(self) -> None:
        self._check_fill()
        for name, least, most, also in (
            ("severity", 1, _BINS, None),
            ("mixture_width", 1, None, None),
            ("chain_depth", 1, None, _DRAWN),
        ):
            given = getattr(self, name)
            value = scalars.whole(given)
            inside = value is not None and value >= least and (most is None or value <= most)
            if value is None or not (inside or value == also):
                reach = f"from {least}" + (f" to {most}" if most else "") + (", or -1 to draw it" if also else "")
                raise PipelineError(f"AugMix: {name} must be a whole number {reach}, not {given!r}")
            object.__setattr__(self, name, value)
        object.__setattr__(self, "alpha", alpha_of("AugMix", self.alpha))
        object.__setattr__(self, "all_ops", flag("AugMix", "all_ops", self.all_ops))

    @property
    def _longest(self) -> int:
        """Operations of the longest chain."""
        return _LONGEST if self.chain_depth == _DRAWN else self.chain_depth

    @property
    def _turns(self) -> int:
        return self.mixture_width * self._longest

    @property
    def _drawn(self) -> tuple[str, ...]:
        """The operations that are drawn from."""
        return tuple(name for name in _OPERATIONS if self.all_ops or name not in _COLOURS)

    @property
    def _names(self) -> tuple[str, ...]:
        return ("Identity", *self._drawn)  # Identity: behind a chain's end

    @property
    def _shares(self) -> tuple[float, ...]:
        return (0.0, *evenly(self._drawn))

    @property
    def draws(self) -> int:  # type: ignore[override]  # it depends on the chains
        """How many uniforms a sample needs: one, then for each chain two and three an operation."""
        return 1 + self.mixture_width * (2 + 3 * self._longest)

    @property
    def numbers(self) -> int:  # type: ignore[override]  # it depends on the chains
        """How many numbers a sample carries: weights, then two an operation."""
        return 1 + self.mixture_width + 2 * self._turns

    @property
    def _magnitudes(self) -> Magnitudes:
        ranges = magnitudes(_BINS, shift=1 / 3)
        bits = np.maximum(4.0 - np.rint(np.arange(_BINS) * (4 / (_BINS - 1))), 1.0)
        return {**ranges, "Posterize": tuple(bits.tolist())}

    def prepare(self, uniforms: Array, ops: Ops = NUMPY) -> Array:
        names, ranges = self._names, self._magnitudes
        table = np.array([ranges[name] for name in names])
        size = 2 + 3 * self._longest
        chains = [uniforms[..., 1 + size * k : 1 + size * (k + 1)] for k in range(self.mixture_width)]
        numbers = self._weights(uniforms[..., 0], [chain[..., 0] for chain in chains], ops)
        for chain in chains:
            length = one_of(_LONGEST, chain[..., 1], ops) + 1
            for position in range(self._longest):
                which, how_strong, side = (chain[..., 2 + 3 * position + i] for i in range(3))
                operation = one_of(len(self._drawn), which, ops) + 1
                if self.chain_depth == _DRAWN:
                    operation = ops.where(length > position, operation, operation * 0)
                magnitude = one_of(self.severity, how_strong, ops)
                numbers += [ops.f64(operation), values_of(names, table, operation, magnitude, side, ops)]
        return ops.stack(numbers, axis=-1)

    def _weights(self, of_image: Array, breaks: list[Array], ops: Ops) -> list[Array]:
        """The weights of the image and of each chain, from uniforms: multiples of 2⁻¹⁶, so that all is exact."""
        weights = [beta(of_image, self.alpha, ops)]
        rest = 1.0 - weights[0]
        for k, uniform in enumerate(breaks[:-1]):
            part = beta(uniform, self.alpha, ops, (self.mixture_width - 1 - k) * self.alpha)
            weights.append(ops.floor(rest * part * 2.0**SUM_BITS + 0.5) * 2.0**-SUM_BITS)
            rest = rest - weights[-1]
        return [*weights, rest]

    def params(self, numbers: Array, height: Array, width: Array, ops: Ops = NUMPY) -> Params:
        count = 1 + self.mixture_width
        weights = numbers[..., :count]
        chains = np.arange(self.mixture_width)
        choices = ops.where(weights[..., 1:] > 0.0, ops.i64(chains), ops.i64(chains * 0 - 1))
        return {**super().params(numbers[..., count:], height, width, ops), "choices": choices, "weights": weights}

    def primitives(self, spec: ImageSpec) -> tuple[Primitive, ...]:
        chains = tuple(
            tuple(
                Part(chain * self._longest + position, self._turn_at(position).choice(spec), spec, spec)
                for position in range(self._longest)
            )
            for chain in range(self.mixture_width)
        )
        return (WeightedSum(chains, (1.0,) * self.mixture_width, self.mixture_width),)

    def _turn_at(self, position: int) -> Turn:
        """The operations at a position of a chain, which may have ended before."""
        reached = 1.0 - position / _LONGEST if self.chain_depth == _DRAWN else 1.0
        return Turn(self._names, tuple(share * reached for share in self._shares), self.fill)

    def reference(self, image: NDArray[np.generic], params: Params) -> NDArray[np.generic]:
        weights = np.asarray(params["weights"])
        mixed = image.astype(np.float64) * weights[0]
        for chain in range(self.mixture_width):
            changed = image
            for position in range(self._longest):
                changed = self._turn.reference(changed, params_of(params, chain * self._longest + position))
            mixed = mixed + changed.astype(np.float64) * weights[1 + chain]
        return as_dtype(np.floor(mixed + 0.5), "uint8")
