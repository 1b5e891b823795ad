"""Converts batches to arrays of NumPy, JAX or PyTorch on the device that made them, by DLPack."""

from __future__ import annotations

import importlib
import sys
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from greenload.errors import BackendUnavailable

Framework = Literal["numpy", "jax", "torch"]
"""Whose arrays batches are."""


def require_framework(to: Framework) -> None:
    """Import a framework.

    Raises:
        BackendUnavailable: it can't be imported; names the remedy.
    """
    try:
        importlib.import_module(to)
    except ImportError as error:
        raise BackendUnavailable(f"to={to!r}: {to} can't be imported: {error}; pip install {to}") from None


def converted(images: Any, labels: Any, to: Framework) -> tuple[Any, Any]:
    """A batch as arrays of a framework.

    Args:
        images: a tensor list of DALI's, a tensor of TensorFlow's, or a NumPy array: ``[n, height, width, channels]``.
        labels: ``[n, …]``, a tensor of TensorFlow's or a NumPy array.
        to: the framework, which has been imported.
    """
    if hasattr(images, "as_tensor"):  # DALI's tensor list
        images = images.as_tensor()
        images = images if type(images).__name__ == "TensorGPU" else np.asarray(images)
    if to == "numpy":
        return _numpy(images), _numpy(labels)
    if to == "torch":
        return _torch(images, labels)
    return _jax(images, labels)


def _numpy(value: Any) -> NDArray[np.generic]:
    if isinstance(value, np.ndarray):
        return value
    if type(value).__name__ == "TensorGPU":
        return np.asarray(value.as_cpu())
    return _from_tensorflow(value)


def _from_tensorflow(value: Any) -> NDArray[np.generic]:
    """A tensor of TensorFlow's, read-only; a copy only if it is on a GPU."""
    tf = sys.modules["tensorflow"]
    if "GPU" in value.device:
        copy: NDArray[np.generic] = value.numpy()
        return copy
    if value.dtype == tf.bfloat16:  # NumPy takes none by DLPack
        view: NDArray[np.generic] = np.from_dlpack(tf.bitcast(value, tf.uint16)).view(tf.bfloat16.as_numpy_dtype)
        return view
    return np.from_dlpack(value)


def _torch(images: Any, labels: Any) -> tuple[Any, Any]:
    import torch

    def tensor(value: Any) -> Any:
        if isinstance(value, np.ndarray) and value.dtype.name == "bfloat16":
            return torch.from_dlpack(value.view(np.int16)).view(torch.bfloat16)
        return torch.from_dlpack(value)

    pixels = tensor(images)
    return pixels, tensor(labels).to(pixels.device)


def _jax(images: Any, labels: Any) -> tuple[Any, Any]:
    import jax

    def array(value: Any) -> Any:
        if isinstance(value, np.ndarray) and (value.dtype.name == "bfloat16" or not value.flags.writeable):
            # NumPy gives neither away by DLPack. This takes aligned memory as it is, too.
            return jax.device_put(value, jax.local_devices(backend="cpu")[0])
        return jax.dlpack.from_dlpack(value)

    pixels = array(images)
    return pixels, jax.device_put(array(labels), pixels.device)
