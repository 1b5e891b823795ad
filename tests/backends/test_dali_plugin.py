"""What "dali" in TensorFlow needs and isn't there is named, with its remedy; ``doctor`` says the same."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import greenload as gl
from greenload.backends.dali import backend
from greenload.backends.dali import plugin as dali_plugin
from greenload.cli import doctor
from greenload.errors import BackendUnavailable
from greenload.sources import Arrays
from greenload.stages import Batch, RandomHorizontalFlip


@pytest.fixture
def unprobed() -> Any:
    """What was found out about this machine is forgotten, before and after."""
    dali_plugin.availability.cache_clear()
    backend._probe.cache_clear()
    yield
    dali_plugin.availability.cache_clear()
    backend._probe.cache_clear()


def blocked(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As if modules weren't installed."""
    for name in [*sys.modules]:
        if any(name == each or name.startswith(f"{each}.") for each in names):
            monkeypatch.delitem(sys.modules, name)
    for name in names:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("missing", "said", "remedy"),
    [
        ("tensorflow", "TensorFlow is not installed", "pip install tensorflow"),
        ("nvidia.dali", "DALI is not installed", "pip install nvidia-dali-cuda"),
        ("nvidia.dali_tf_plugin", "plugin for TensorFlow is not installed", "pip install --no-build-isolation nvidia-"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(
    missing: str, said: str, remedy: str, monkeypatch: pytest.MonkeyPatch, unprobed: None
) -> None:
    if missing == "nvidia.dali_tf_plugin":
        pytest.importorskip("nvidia.dali")
    blocked(monkeypatch, missing)
    with pytest.raises(BackendUnavailable, match=said) as caught:
        dali_plugin.experimental()
    assert remedy in str(caught.value)
    found = plugin_finding(monkeypatch)
    assert str(caught.value) == f"{found.detail}; {found.remedy}"


def plugin_finding(monkeypatch: pytest.MonkeyPatch) -> doctor.Finding:
    """What ``doctor`` says of the plugin; it looks at nothing else."""
    # Without TensorFlow it imports by halves, says nothing, and would stay so for the tests after.
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.setattr("greenload.backends.registry.BACKENDS", ())
    monkeypatch.setattr("greenload.energy.meters.discover.discover", lambda: ([], []))
    return next(finding for finding in doctor.examine() if finding.name == dali_plugin.NAME)


_FOREIGN = """
extern int symbol_of_another_tensorflow(void);
int greenload_test(void) { return symbol_of_another_tensorflow(); }
"""


@pytest.mark.slow
def test_a_plugin_built_for_another_tensorflow_is_told_apart(tmp_path: Path) -> None:
    """A real library with a symbol that no TensorFlow has, in the plugin's place."""
    plugin = pytest.importorskip("nvidia.dali_tf_plugin")
    package = tmp_path / "dali_tf_plugin"
    package.mkdir()
    for source in Path(plugin.__path__[0]).glob("*.py"):
        (package / source.name).write_bytes(source.read_bytes())
    (tmp_path / "foreign.c").write_text(_FOREIGN)
    library = package / "libdali_tf_current.so"
    made = subprocess.run(
        ["cc", "-shared", "-fPIC", "-Wl,-z,now", "-o", library, tmp_path / "foreign.c"],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no C compiler works here: {made.stderr.decode()[-100:]}")
    code = (
        f"import nvidia; nvidia.__path__.insert(0, {str(tmp_path)!r})\n"
        "from greenload.backends.dali import plugin\nprint(plugin.availability())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True, timeout=120,
    )  # fmt: skip
    assert "usable=False" in done.stdout
    assert "was built for others than TensorFlow" in done.stdout
    assert "symbol_of_another_tensorflow" in done.stdout
    assert "--force-reinstall" in done.stdout


def test_without_a_driver_load_says_what_doctor_says(monkeypatch: pytest.MonkeyPatch, unprobed: None) -> None:
    pytest.importorskip("nvidia.dali")
    monkeypatch.setattr(backend, "_no_driver", lambda: "no NVIDIA driver (libcuda.so.1 is not found)")
    pipeline = gl.Pipeline(Arrays(np.zeros((4, 8, 8, 3), np.uint8)), RandomHorizontalFlip(), Batch(2))
    found = backend.DaliBackend("dali").availability()
    with pytest.raises(BackendUnavailable, match="no NVIDIA driver") as caught:
        gl.load(pipeline, "dali")
    assert str(caught.value) == f"backend 'dali': {found.detail}; {found.remedy}"


def test_a_gpu_that_tensorflow_does_not_see_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tf = pytest.importorskip("tensorflow")

    class Device:
        def __init__(self, number: int) -> None:
            self.name = f"/physical_device:GPU:{number}"

    def visible(*numbers: int) -> Callable[[str], list[Device]]:
        return lambda kind: [Device(number) for number in numbers]

    monkeypatch.setattr(tf.config, "get_visible_devices", visible())
    with pytest.raises(BackendUnavailable, match=r"on GPU 0, but TensorFlow sees no GPU: pip install 'tensorflow\[and"):
        dali_plugin.tensorflow_device(0)
    monkeypatch.setattr(tf.config, "get_visible_devices", visible(2, 3))
    assert dali_plugin.tensorflow_device(3) == "/gpu:1"  # TensorFlow counts those that it sees
    with pytest.raises(BackendUnavailable, match="sees only 2, 3"):
        dali_plugin.tensorflow_device(0)
