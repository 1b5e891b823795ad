"""NVIDIA's plugin for DALI in tf.data: whether it loads here, and TensorFlow's name for a GPU."""

from __future__ import annotations

import functools
import importlib
from importlib import metadata
from typing import Any

from greenload.backends.base import Availability
from greenload.errors import BackendUnavailable

NAME = "DALI plugin for TensorFlow"
_PACKAGE = "nvidia-dali-tf-plugin-cuda"


def experimental() -> Any:
    """``nvidia.dali.plugin.tf.experimental``.

    Raises:
        BackendUnavailable: the plugin doesn't load; names the remedy.
    """
    plugin = availability()
    if not plugin.usable:
        raise BackendUnavailable(f"{plugin.detail}; {plugin.remedy}")
    return importlib.import_module("nvidia.dali.plugin.tf").experimental


def availability() -> Availability:
    """Whether the plugin loads, found out by loading it."""
    return _probe()


@functools.cache
def _probe() -> Availability:
    try:
        import tensorflow as tf
    except ImportError as error:
        return Availability(NAME, False, f"TensorFlow is not installed ({error})", "pip install tensorflow")
    try:
        import nvidia.dali as dali
    except ImportError as error:
        return Availability(NAME, False, f"DALI is not installed ({error})", f"pip install {_dali_package()}")
    package = f"{_PACKAGE}{dali.__cuda_version__ // 1000}0"
    fresh = f"pip install --no-build-isolation {package}=={dali.__version__}"
    versions = f"TensorFlow {tf.__version__} and DALI {dali.__version__}"
    try:
        importlib.import_module("nvidia.dali_tf_plugin")
    except ImportError:
        detail = f"the DALI plugin for TensorFlow is not installed, beside {versions}"
        return Availability(NAME, False, detail, fresh)
    try:
        importlib.import_module("nvidia.dali.plugin.tf")
    except Exception as error:  # the library's loader throws TensorFlow's NotFoundError, and what not
        why = " ".join(str(error).split())[-160:] or type(error).__name__
        detail = f"the DALI plugin for TensorFlow was built for others than {versions} ({why})"
        return Availability(NAME, False, detail, f"{fresh} --force-reinstall --no-deps --no-cache-dir")
    try:
        version = f"version {metadata.version(package)}"
    except metadata.PackageNotFoundError:  # a nightly build's package has another name
        version = "version unknown"
    return Availability(NAME, True, f"loads, {version}, in {versions}")


def _dali_package() -> str:
    from greenload.backends.dali.runner import INSTALL

    return INSTALL.removeprefix("pip install ")


def tensorflow_device(gpu: int) -> str:
    """TensorFlow's name for a GPU by CUDA's number, such as ``"/gpu:0"``.

    Raises:
        BackendUnavailable: TensorFlow doesn't see it.
    """
    import tensorflow as tf

    visible = [device.name.rsplit(":", 1)[-1] for device in tf.config.get_visible_devices("GPU")]
    if str(gpu) not in visible:
        seen = f"only {', '.join(visible)}" if visible else "no GPU"
        raise BackendUnavailable(
            f"backend 'dali' gives its batches to TensorFlow on GPU {gpu}, but TensorFlow sees {seen}: "
            "pip install 'tensorflow[and-cuda]', or choose another device_id"
        )
    return f"/gpu:{visible.index(str(gpu))}"
