"""The package as users install it, and the set-up as they run it."""

from __future__ import annotations

import configparser
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow  # builds and installs packages

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def python(code: str, cwd: Path, **env: str) -> str:
    """Runs code in a fresh interpreter outside the checkout and gives its output."""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture(scope="module", params=["kernel of the set-up", pytest.param("kernel anew", marks=pytest.mark.long)])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tree, unpacked as pip would.

    Compiling takes half a minute, and the set-up has just done that with the same setup.py: it leaves libraries that a
    build takes for its own.
    """
    copy = tmp_path_factory.mktemp("tree") / "greenload"
    copy.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.native.so")
    for folder in ("greenload", "pipelines"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE", PROJECT["project"].get("readme", "LICENSE")):
        shutil.copy(ROOT / name, copy / name)
    native = Path("greenload/backends/native")
    if request.param == "kernel of the set-up":
        built = copy / f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}" / native
        built.mkdir(parents=True)
        for library in (ROOT / native).glob("*.native.so"):
            shutil.copy(library, built)  # newer than the sources
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        "dist",
        ".",
    ]
    result = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    unpacked = copy / "unpacked"
    zipfile.ZipFile(next((copy / "dist").glob("*.whl"))).extractall(unpacked)
    return unpacked


def package_files(root: Path) -> set[str]:
    sources = {
        path
        for pattern in ("*.py", "*.pyi", "*.json", "*.html", "*.css", "*.js", "py.typed")
        for path in root.rglob(pattern)
    }
    return {path.relative_to(root).as_posix() for path in sources if "__pycache__" not in path.parts}


def test_a_wheel_holds_every_file_of_the_package_and_nothing_else(wheel: Path) -> None:
    expected = {f"greenload/{name}" for name in package_files(ROOT / "greenload")}
    expected |= {f"greenload/pipelines/{name}" for name in package_files(ROOT / "pipelines")}
    assert package_files(wheel) == expected
    top = {path.name for path in wheel.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"greenload"}, "names that would clash in site-packages"


def test_a_wheel_gives_the_ready_pipelines_and_the_command(wheel: Path, tmp_path: Path) -> None:
    modules = sorted(path.stem for path in (ROOT / "pipelines").glob("[!_]*.py"))
    imports = ", ".join(f"greenload.pipelines.{name}" for name in modules)
    assert modules, "no ready pipelines"
    found = python(f"import greenload, {imports}; print(greenload.pipelines.__file__)", tmp_path, PYTHONPATH=str(wheel))
    assert Path(found) == wheel / "greenload" / "pipelines" / "__init__.py"
    entries = configparser.ConfigParser()
    entries.read(next(wheel.glob("*.dist-info")) / "entry_points.txt")
    assert entries["console_scripts"]["greenload"] == "greenload.cli:main"


def test_a_wheel_brings_the_kernel_for_every_version_of_python(wheel: Path, tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("there is no compiler")
    code = "from greenload.backends.native import library; print(library.path(), library.version())"
    assert python(code, tmp_path, PYTHONPATH=str(wheel)).startswith(
        str(wheel / "greenload/backends/native/_kernel.native.so")
    )
    assert (wheel / "greenload/backends/native/_operations.native.so").exists()
    tags = next(wheel.glob("*.dist-info/WHEEL")).read_text()
    assert "cp311-abi3" in tags and "Root-Is-Purelib: false" in tags


def test_an_editable_install_reads_the_ready_pipelines_from_their_folder(tmp_path: Path) -> None:
    found = python("import greenload.pipelines; print(greenload.pipelines.__file__)", tmp_path)
    assert Path(found) == ROOT / "pipelines" / "__init__.py", "run make setup"


def test_importing_greenload_is_quick_and_brings_no_framework(tmp_path: Path) -> None:
    code = "import sys, greenload; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = set(python(code, tmp_path).split())
    assert "greenload" in loaded
    heavy = {"tensorflow", "keras", "nvidia", "PIL", "scipy", "sklearn", "pandas", "plotly", "rich", "pyRAPL", "pynvml"}
    assert not loaded & heavy
    code = "import time; start = time.process_time(); import greenload; print(time.process_time() - start)"
    assert min(float(python(code, tmp_path)) for _ in range(3)) < 0.3


def test_core_dependencies_suffice_to_import_every_module_below_the_command(tmp_path: Path) -> None:
    # An extra imported at a module's top level would make `pip install .` alone fail.
    extras = ["tensorflow", "nvidia", "PIL", "sklearn", "plotly", "jinja2", "pyRAPL", "pynvml"]
    extras += ["prometheus_client", "pytest"]
    code = f"""
import importlib, pkgutil, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {extras!r}:
            raise ImportError(f"{{name}} is an extra")
sys.meta_path.insert(0, Refuse())
import greenload
for module in pkgutil.walk_packages(greenload.__path__, "greenload."):
    if not module.name.endswith(("__main__", "pytest_plugin")):  # which pytest alone imports
        importlib.import_module(module.name)
        print(module.name)
"""
    assert "greenload.sources.samples" in python(code, tmp_path).split()


def test_every_extra_that_setup_installs_is_pinned(set_up: ModuleType) -> None:
    pins = set_up.read_pins(ROOT / "constraints.txt")
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = PROJECT["project"]["dependencies"] + [name for extra in extras.values() for name in extra]
    names = {re.split(r"[\[<>=]", name)[0].lower() for name in wanted} - {"greenload"}
    assert names - pins.keys() == set(), "run make pin"
    assert {"pip", "setuptools", "wheel", set_up.PLUGIN} <= pins.keys()


def test_pins_name_no_place() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]:
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line), line


def test_pillow_comes_with_no_other_package() -> None:
    assert "\npillow==" not in (ROOT / "constraints.txt").read_text().lower(), "Pillow takes Pillow-SIMD's place"


@pytest.fixture
def set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("set_up", ROOT / "tools" / "set_up.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "set_up", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "STAMPS", tmp_path / "stamps")
    monkeypatch.delenv("CI", raising=False)
    return module


def test_setup_makes_a_part_once_and_again_when_its_inputs_change(set_up: ModuleType) -> None:
    made: list[str] = []

    def part(version: str) -> object:
        return set_up.Part("Thing", "no time", (version,), lambda: made.append(version))

    for version in ("1", "1", "2", "2"):
        assert set_up.make_all([part(version)], retry=False) == 0
    assert made == ["1", "2"]


def test_what_only_the_benchmark_needs_is_no_part_of_make_test(set_up: ModuleType) -> None:
    peers, images = set_up.bench_parts()
    extra = {re.split(r"[\[<>=]", name)[0] for name in PROJECT["project"]["optional-dependencies"]["bench"]}
    assert {pin.partition("==")[0] for pin in peers.made_from} == extra
    assert {pin.partition("==")[0] for pin in images.made_from} == {set_up.IMAGES}
    assert not {peers.name, images.name} & {one.name for one in set_up.parts()}


def test_setup_leaves_no_stamp_where_a_part_fails(set_up: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise set_up.PartFailed("no network")

    later: list[int] = []
    parts = [set_up.Part("Thing", "no time", ("1",), fail), set_up.Part("Next", "", ("1",), lambda: later.append(1))]
    assert set_up.make_all(parts, retry=False) == 1
    assert not later
    assert not list(set_up.STAMPS.glob("*"))
    assert "no network" in capsys.readouterr().out
    # One that worked before loses its stamp, too.
    parts[0].stamp.parent.mkdir()
    parts[0].stamp.write_text("of an older version")
    assert set_up.make_all(parts, retry=False) == 1
    assert not parts[0].stamp.exists()


def test_setup_leaves_an_optional_part_out_by_name_but_not_in_ci(
    set_up: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        raise set_up.PartFailed("no compiler")

    parts = [set_up.Part("Thing", "no time", ("1",), fail, optional=True)]
    assert set_up.make_all(parts, retry=False) == 0
    assert "left out: no compiler" in capsys.readouterr().out
    assert set_up.make_all(parts, retry=False) == 0
    assert len(tries) == 1, "make profile must start at once the second time"
    assert set_up.make_all(parts, retry=True) == 0
    assert len(tries) == 2
    monkeypatch.setenv("CI", "true")
    assert set_up.make_all(parts, retry=False) == 1
    assert len(tries) == 3
    assert not parts[0].stamp.exists()


def test_setup_builds_the_kernel_anew_when_its_sources_change(
    set_up: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(set_up, "KERNEL", tmp_path)
    source, built = tmp_path / "kernel" / "a.cpp", tmp_path / "_kernel.native.so"
    operations = tmp_path / "_operations.native.so"
    source.parent.mkdir()
    source.write_text("int a;")
    calls: list[list[str]] = []

    def run(command: list[str], why: str, env: dict[str, str] | None = None) -> None:
        calls.append(command[1:])
        assert "build_ext" not in command or not built.exists(), "a running process may use it"
        built.write_text("")
        operations.write_text("")

    monkeypatch.setattr(set_up, "run", run)
    before = set_up.kernel_sources()
    set_up.native_kernel()
    set_up.native_kernel()
    assert ["build_ext" in call for call in calls] == [True, False, False]
    source.write_text("int b;")
    os.utime(built, (1, 1))
    assert set_up.kernel_sources() != before
    set_up.native_kernel()
    assert "build_ext" in calls[3]
    operations.unlink()
    set_up.native_kernel()
    assert "build_ext" in calls[5], "both files are needed"


def test_parts_that_say_so_are_made_at_the_same_time(set_up: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    both = threading.Barrier(2, timeout=30)  # passes where two wait for it

    def fail() -> None:
        both.wait()
        raise set_up.PartFailed("no compiler")

    parts = [
        set_up.Part("One", "", ("1",), both.wait, beside=True),
        set_up.Part("Other", "", ("1",), fail, optional=True, beside=True),
        set_up.Part("Last", "", ("1",), lambda: None),
    ]
    assert set_up.make_all(parts, retry=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[1/3] One () ... 0 s")
    assert lines[1:] == ["[2/3] Other () ... left out: no compiler", "[3/3] Last () ... 0 s", lines[3]]
    assert lines[3].startswith("Ready without: Other.")


def test_setup_names_a_missing_program(set_up: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    part = set_up.Part("Thing", "no time", ("1",), lambda: None, needs=("no-such-compiler",))
    assert set_up.make_all([part], retry=False) == 1
    assert "needs no-such-compiler, not found on PATH" in capsys.readouterr().out


@pytest.fixture
def missing_header(set_up: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """One header is missing until the file given is made."""
    header = tmp_path / "header.h"
    needs = [set_up.Need("headers of libthing", "libthing-dev", header.exists)]
    monkeypatch.setattr(set_up, "needs", lambda: needs)
    return header


def test_setup_names_missing_system_packages_in_one_line(
    set_up: ModuleType, missing_header: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(set_up.os, "geteuid", lambda: 1000)
    with pytest.raises(set_up.PartFailed) as caught:
        set_up.system_packages()
    assert str(caught.value) == "no headers of libthing; on Debian: sudo apt-get install libthing-dev"


def test_setup_installs_missing_system_packages_as_root(
    set_up: ModuleType, missing_header: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    apt = tmp_path / "bin" / "apt-get"
    apt.parent.mkdir()
    apt.write_text(f'#!/bin/sh\necho "$@" >> {calls}\n[ "$1" = update ] || touch {missing_header}\n')
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apt.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(set_up.os, "geteuid", lambda: 0)
    monkeypatch.setattr(set_up, "VENV", tmp_path / "venv")
    set_up.system_packages()
    assert calls.read_text().splitlines() == ["update", "install -y --no-install-recommends libthing-dev"]
    set_up.system_packages()
    assert len(calls.read_text().splitlines()) == 2, "nothing is missing any more"


def test_setup_sees_a_header_that_is_missing(set_up: ModuleType) -> None:
    assert set_up.has_header("stdio.h")
    assert not set_up.has_header("stdio.h", "no/such/header.h")


def test_pillow_simd_is_built_for_this_processor() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow-SIMD is not installed")
    assert "post" in image.__version__, "PIL is Pillow: make setup"
    if not shutil.which("objdump") or " avx2 " not in Path("/proc/cpuinfo").read_text():
        pytest.skip("needs objdump and a processor with AVX2")
    library = next(Path(image.__file__).parent.glob("_imaging.*.so"))
    code = subprocess.run(["objdump", "-d", str(library)], capture_output=True, text=True, check=True).stdout
    assert code.count("%ymm") > 1000
