"""Functions that tests give to `Apply`, importable by name."""

from __future__ import annotations

from typing import Any


def halved(image: Any) -> Any:
    """uint8 to float32, half of it."""
    import tensorflow as tf

    return tf.cast(image, tf.float32) * 0.5


def darker(image: Any) -> Any:
    """Bright images inverted: needs TensorFlow's translation of ``if``."""
    import tensorflow as tf

    if tf.reduce_mean(tf.cast(image, tf.float32)) > 127.0:
        return 255 - image
    return image


def twice(image: Any) -> Any:
    """The image above itself."""
    import tensorflow as tf

    return tf.concat([image, image], -3)


def inverted(image: Any) -> Any:
    """Light for dark, in NumPy and in TensorFlow."""
    return 255 - image


def failing_in_tensorflow(primitive: Any, image: Any, params: Any) -> Any:
    """A primitive that fails when it runs."""
    import tensorflow as tf

    with tf.control_dependencies([tf.debugging.Assert(False, ["was worked on"])]):
        return tf.identity(image)


def failing_in_numpy(primitive: Any, image: Any, params: Any) -> Any:
    """The same."""
    raise ValueError("was worked on")
