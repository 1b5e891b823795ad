"""The command line: real subprocesses for what a user sees, ``main`` in-process for the many ways to be wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import greenload as gl
from greenload import cli
from greenload.cli.resolve import find_pipeline
from greenload.errors import UsageError
from greenload.plans.pipeline import Pipeline
from greenload.report.data import Report

BRIEF = """
from greenload.cli import main
from greenload.profiling import profile, schedule, windows
windows.WINDOW_S, windows.BUILDS, profile.TRIED = 0.02, 1, 0
schedule.CLOCKED_WINDOW_S, schedule.BUILDS, schedule.PASS_BUILDS = 0.02, 1, 1
raise SystemExit(main())
"""
"""The command with short windows and no trials, which have their own tests."""


def run(*arguments: str, cwd: Path | None = None, brief: str = "") -> subprocess.CompletedProcess[str]:
    # Where a test has imported TensorFlow, that has set a level of its own here.
    env = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, *(("-c", brief) if brief else ("-m", "greenload.cli")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=300)


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("greenload: error: ")
    return lines[0]


@pytest.mark.slow
def test_profile_prints_a_table_and_writes_both_reports(sample_folder: Path, tmp_path: Path) -> None:
    json_file, html_file = tmp_path / "r.json", tmp_path / "r.html"
    done = run(
        *("profile", "imagenet:train", "--data", str(sample_folder), "--samples", "32", "--rounds", "2"),
        *("--json", str(json_file), "--html", str(html_file)),
        brief=BRIEF,
    )
    assert done.returncode == 0, done.stderr
    assert "Decode + crop" in done.stdout and "unattributed" in done.stdout
    assert done.stderr == ""
    report = Report.load(json_file)
    assert report.pipeline["name"] == "imagenet:train"
    assert report.steps[0].name == "Read"
    assert "imagenet:train" in html_file.read_text()
    piped = f"{sys.executable} -m greenload.cli report {json_file} | true"
    unread = subprocess.run(piped, shell=True, capture_output=True, text=True, timeout=60)
    assert unread.stderr == ""


@pytest.mark.slow
def test_check_names_the_bad_files_and_fails(
    bad_images: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cases = bad_images.build()
    folder = tmp_path / "a"
    folder.mkdir()
    for name in ("grey.jpg", "truncated-half.jpg"):
        (folder / name).write_bytes(cases[name].data if hasattr(cases[name], "data") else cases[name])
    result = tmp_path / "check.json"
    assert cli.main(["check", str(tmp_path), "--json", str(result)]) == 1
    out = capfd.readouterr().out
    assert str(folder / "truncated-half.jpg") in out
    assert "1 of 2 images decode, 1 do not" in out
    assert [bad["path"] for bad in json.loads(result.read_text())["bad"]] == [str(folder / "truncated-half.jpg")]


@pytest.mark.slow
def test_doctor_lists_every_backend_with_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "doctor.json"
    assert cli.main(["doctor", "--json", str(file)]) == 0
    findings = json.loads(file.read_text())["findings"]
    backends = {f["name"]: f for f in findings if f["kind"] == "backend"}
    assert set(backends) == {"tf", "dali-cpu", "dali", "pillow", "native"}
    assert backends["tf"]["usable"]
    assert all(f["detail"] for f in findings)
    assert all(f["remedy"] for f in findings if f["kind"] == "backend" and not f["usable"])
    assert any(f["usable"] and "cpu" in f["name"] for f in findings if f["kind"] == "meter")


def test_sample_then_refuses_a_folder_that_is_not_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sample", str(tmp_path / "photos"), "--images", "4"]) == 0
    assert "4 photos" in capsys.readouterr().out
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    assert cli.main(["sample", str(tmp_path / "mine")]) == 2
    assert "mine" in error_line(capsys)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ([], 2, "COMMAND"),
        (["proflie"], 2, "proflie"),
        (["profile"], 2, "pipeline"),
        (["profile", "imagenet"], 2, "imagenet:train"),
        (["profile", "imagenet:train"], 2, "--data"),
        (["profile", "imagenet:trian", "--data", "."], 2, "train"),
        (["profile", "nowhere:train", "--data", "."], 2, "no ready pipeline"),
        (["profile", "missing.py:train"], 2, "missing.py"),
        (["profile", "imagenet:train", "--data", "no/such/folder"], 1, "no/such/folder"),
        (["profile", "imagenet:train", "--data", ".", "--json", "no/such/r.json"], 2, "no/such/r.json"),
        (["profile", "imagenet:train", "--data", ".", "--samples", "0"], 2, "--samples"),
        (["check", "no/such/folder"], 1, "no/such/folder"),
        (["sample", "x", "--images", "many"], 2, "many"),
        (["profile", "imagenet:train", "--samples-per-element", "columns"], 2, "columns"),
        (["profile", "imagenet:train", "--samples-per-element", "0"], 2, "positive"),
    ],
)
def test_wrong_usage_is_one_line(
    arguments: list[str],
    status: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == status
    assert says in error_line(capsys)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nonexistent_module_x\n", "nonexistent_module_x"),
        ("def train(:\n", "SyntaxError"),
        ("raise RuntimeError('two\\nlines')\n", "two lines"),
        ("train = 3\n", "must be a greenload.Pipeline"),
        ("def train(data):\n    return 1 / 0\n", "ZeroDivisionError"),
        ("other = 1\n", "no pipeline 'train'"),
        ("import greenload as gl\ntrain = gl.Pipeline(gl.Files(['a']), gl.Resize(3))\n", "put Decode() before it"),
    ],
)
def test_a_pipeline_file_that_fails_is_one_line(
    code: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.py"
    file.write_text(code)
    arguments = ["profile", f"{file}:train"]
    if "def train(data)" in code:
        arguments += ["--data", str(tmp_path)]
    assert cli.main(arguments) in (1, 2)
    assert says in error_line(capsys)


@pytest.mark.slow
def test_a_bad_image_stops_a_profile_with_its_name(
    sample_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i, path in enumerate(sorted(sample_folder.rglob("*.jpg"))[:6]):
        target = tmp_path / f"class-{i % 2}" / path.name
        target.parent.mkdir(exist_ok=True)
        data = path.read_bytes()
        target.write_bytes(data[: len(data) // 2] if i == 3 else data)
        if i == 3:
            bad = target
    assert cli.main(["profile", "imagenet:train", "--data", str(tmp_path), "--rounds", "2"]) == 1
    assert os.fspath(bad) in error_line(capsys)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
@pytest.mark.parametrize("arguments", ["--version", "--help", "profile no/such:train"])
@pytest.mark.parametrize(
    ("streams", "lines", "status"),
    [
        ("> /dev/full", 1, 1),  # what can't be written is said
        (">&-", 0, 0),
        ("2>&-", 0, 0),
        ("<&- >&- 2>&-", 0, 0),
        ("| true; exit ${PIPESTATUS[0]}", 0, 0),
    ],
)
def test_output_that_nobody_takes_is_no_traceback(arguments: str, streams: str, lines: int, status: int) -> None:
    command = f"{sys.executable} -W error -m greenload.cli {arguments} {streams}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    if arguments.startswith("profile"):  # says nothing on standard output
        lines, status = int("2>&-" not in streams), 2
    assert (done.returncode, len(done.stderr.splitlines())) == (status, lines), done.stderr
    assert "Traceback" not in done.stderr


def test_a_finished_pipeline_takes_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import greenload as gl\ntrain = gl.Pipeline(gl.Files(['a.jpg']), gl.Decode())\n")
    assert isinstance(find_pipeline(f"{file}:train"), Pipeline)
    with pytest.raises(UsageError, match="takes no data folder"):
        find_pipeline(f"{file}:train", str(tmp_path))


def test_a_file_can_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "my_paths.py").write_text("PATHS = ['a.jpg']\n")
    file = tmp_path / "mine.py"
    file.write_text(
        "import greenload as gl\nimport my_paths\ndef train():\n    return gl.Pipeline(gl.Files(my_paths.PATHS))\n"
    )
    assert find_pipeline(f"{file}:train").source.name(0) == "a.jpg"


def test_help_loads_no_heavy_package() -> None:
    script = """
import sys
from greenload.cli import main
try:
    main(["--help"])
finally:
    print([name for name in ("numpy", "rich", "scipy", "tensorflow") if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert "usage: greenload" in done.stdout and done.stderr.strip() == "[]"


def saved_plan(folder: Path, images: Path) -> str:
    pipeline = gl.Pipeline(gl.ImageFolder(images), gl.Decode(), gl.CenterCrop(16), gl.Batch(4))
    gl.make_plan(pipeline, "native", threads=1).save(folder / "plan.json")
    return str(folder / "plan.json")


def test_a_plans_file_stands_for_its_plan(
    sample_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved_plan(tmp_path, sample_folder)
    plan = find_pipeline(file, plans=True)
    assert isinstance(plan, gl.Plan) and plan.threads == 1
    for refused, message in (
        ({}, "is a plan's file, which greenload profile takes"),
        ({"plans": True, "data": "photos"}, "is a plan, which names its data: leave --data out"),
        ({"plans": True, "arguments": ["--fast"]}, "is a plan and takes no arguments"),
    ):
        with pytest.raises(UsageError, match=message):
            find_pipeline(file, **refused)  # type: ignore[arg-type]
    for option, value in (("--threads", "2"), ("--backend", "tf")):
        assert cli.main(["profile", file, option, value]) == 2
        assert f"is a plan, which says backends and threads: leave {option} out" in error_line(capsys)
    assert cli.main(["profile", str(tmp_path / "gone.json")]) == 2
    assert "gone.json: there is no such file to take a plan from" in error_line(capsys)
    (tmp_path / "plan.json").write_text("{}")
    assert cli.main(["profile", file]) == 1
    assert "plan.json: a plan's file can't be used: it lacks 'format'" in error_line(capsys)


@pytest.mark.slow
def test_a_plans_file_is_profiled(sample_folder: Path, tmp_path: Path) -> None:
    file, result = saved_plan(tmp_path, sample_folder), tmp_path / "r.json"
    done = run("profile", file, "--samples", "16", "--rounds", "2", "--json", str(result), brief=BRIEF)
    assert (done.returncode, done.stderr) == (0, "")
    report = Report.load(result)
    assert report.plan["threads"] == 1 and report.pipeline["name"] == file
