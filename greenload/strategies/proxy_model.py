"""The model that a proxy trains, and the recipe by which it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from greenload.randomness import base
from greenload.system.frameworks import imports_of_extra, tf

NAME = "resnet-8/1"
"""Names architecture and recipe: figures of another name don't compare."""
WIDTHS = (16, 32, 64)
"""Channels of the three stages: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385,
section 4.2, with n = 1 block a stage."""
LEARNING_RATE, PER_BATCH = 0.1, 128
"""The same paper's for CIFAR-10; another batch has another by the linear rule of Goyal et al., "Accurate, Large
Minibatch SGD", 2017, arXiv 1706.02677."""
MOMENTUM, DECAY = 0.9, 5e-4
"""Of Zagoruyko and Komodakis, "Wide Residual Networks", BMVC 2016, arXiv 1605.07146, with Nesterov's momentum."""
WARM_UP = 0.05
"""The share of steps in which the learning rate grows from 0, about 5 of 90 epochs: Goyal et al."""
_NORMALISING_MOMENTUM = 0.9  # a short training makes too few steps for Keras's 0.99
_SIGNED = 1 / 127.5  # uint8 becomes −1 … 1


def require_keras() -> None:
    """Make sure that Keras is there.

    Raises:
        BackendUnavailable: it isn't; names the remedy.
    """
    with imports_of_extra("tf", "Proxy needs Keras, which can't be imported"):
        import keras  # noqa: F401


def build_model(
    shape: Sequence[int], dtype: str, classes: int, *, size: int | None, seed: int, steps: int, batch: int, soft: bool
) -> Any:
    """The compiled model, whose weights are a function of the seed, the images' shape and the number of classes.

    Args:
        shape: height, width and channels of the images.
        dtype: of the images: uint8 is taken for 0 … 255, floats as they are.
        classes: how many there are.
        size: the most rows and columns that the model sees; ``None`` for all.
        seed: any integer.
        steps: of the training.
        batch: images in a step.
        soft: whether labels are one number for each class.
    """
    import keras

    layers = _Layers(seed)
    height, width, channels = shape
    images = keras.Input((height, width, channels), dtype=dtype)
    signed = keras.layers.Rescaling(_SIGNED, -1.0)(images) if dtype == "uint8" else layers.as_float32(images)
    seen = signed
    if size is not None and max(height, width) > size:
        seen = keras.layers.Resizing(min(height, size), min(width, size), antialias=True)(signed)
    hidden = layers.activated(layers.convolved(seen, WIDTHS[0]))
    for number, width_of_stage in enumerate(WIDTHS):
        hidden = layers.block(hidden, width_of_stage, strides=2 if number else 1)
    scores = layers.dense(keras.layers.GlobalAveragePooling2D()(hidden), classes)
    model = keras.Model(images, scores, name="proxy")
    losses = keras.losses
    model.compile(
        _optimizer(steps, batch),
        (losses.CategoricalCrossentropy if soft else losses.SparseCategoricalCrossentropy)(from_logits=True),
        metrics=["categorical_accuracy" if soft else "sparse_categorical_accuracy"],
        jit_compile=False,
    )
    return model


class _Layers:
    """Layers whose first weights are drawn by a seed and by how many were drawn before, from no global generator."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def _next_seed(self) -> int:
        self._count += 1
        word = base(self._seed, np.int64(0), np.array([self._count]))[0]
        return int(word >> np.uint64(33))  # 31 bits, as Keras takes them

    def as_float32(self, images: Any) -> Any:
        import keras

        return keras.layers.Rescaling(1.0, dtype="float32")(images)

    def convolved(self, inputs: Any, filters: int, kernel: int = 3, strides: int = 1) -> Any:
        """A convolution without a bias, and batch normalisation."""
        import keras

        layer = keras.layers.Conv2D(
            filters,
            kernel,
            strides,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.HeNormal(self._next_seed()),
        )
        return keras.layers.BatchNormalization(momentum=_NORMALISING_MOMENTUM)(layer(inputs))

    def activated(self, inputs: Any) -> Any:
        import keras

        return keras.layers.ReLU()(inputs)

    def block(self, inputs: Any, filters: int, strides: int) -> Any:
        """Two convolutions and what they are added to: the inputs, or where these have another shape their projection
        (He et al., option B)."""
        import keras

        inner = self.convolved(self.activated(self.convolved(inputs, filters, strides=strides)), filters)
        same = strides == 1 and inputs.shape[-1] == filters
        around = inputs if same else self.convolved(inputs, filters, kernel=1, strides=strides)
        return self.activated(keras.layers.Add()([around, inner]))

    def dense(self, inputs: Any, classes: int) -> Any:
        import keras

        return keras.layers.Dense(classes, kernel_initializer=keras.initializers.GlorotUniform(self._next_seed()))(
            inputs
        )


def _optimizer(steps: int, batch: int) -> Any:
    """Descent with Nesterov's momentum; the rate grows for `WARM_UP` of the steps and falls to 0 as a cosine
    (Loshchilov and Hutter, "SGDR", ICLR 2017, arXiv 1608.03983)."""
    import keras

    warm_up = max(1, round(WARM_UP * steps))
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=LEARNING_RATE * batch / PER_BATCH, warmup_steps=warm_up
    )
    optimizer = keras.optimizers.SGD(rate, MOMENTUM, nesterov=True, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    return optimizer


def accuracy(model: Any, dataset: Any, count: int, classes: int, *, soft: bool) -> float:
    """The share of a dataset's images that a model puts into their own class.

    Args:
        model: of `build_model`.
        dataset: batches of images and labels: classes, or one number for each.
        count: how many images it has.
        classes: how many there are.
        soft: whether the model was built for one number for each class.
    """
    is_one_hot = len(dataset.element_spec[1].shape) == 2

    def alike(images: Any, labels: Any) -> Any:
        if soft == is_one_hot:
            return images, labels
        return images, tf.one_hot(labels, classes) if soft else tf.argmax(labels, -1)

    mean: float = model.evaluate(dataset.map(alike), verbose=0)[1]
    return round(mean * count) / count  # Keras's mean is a float32
