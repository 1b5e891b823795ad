"""A user's script while it is imported: its own arguments and flags, its end, and how long it ran."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from greenload.cli import main, script
from greenload.cli.resolve import find_pipeline
from greenload.errors import UsageError

Write = Callable[[str], str]

PARSES = """
import argparse, json, sys
import greenload as gl
parser = argparse.ArgumentParser()
parser.add_argument("--data", default="default")
parser.add_argument("--samples", type=int, default=1000)
seen = {"argv": list(sys.argv), **vars(parser.parse_args())}
train = gl.Pipeline(gl.Files([seen["data"]]))
def later():
    return gl.Pipeline(gl.Files(sys.argv[1:] or ["none"]))
"""
FLAGS = """
import sys
from absl import app, flags
import greenload as gl
flags.DEFINE_string("{name}_data", "default", "folder")
flags.DEFINE_multi_integer("{name}_size", [], "sizes")
FLAGS = flags.FLAGS
{parse}
def train():
    assert len(FLAGS.{name}_size) < 2
    return gl.Pipeline(gl.Files([FLAGS.{name}_data]))
def main(_):
    raise AssertionError
if __name__ == "__main__":
    app.run(main)
"""


@pytest.fixture
def write(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a script under a name of its own; what it does to ``sys`` ends with the test."""
    monkeypatch.setattr(sys, "path", [*sys.path])

    def written(text: str) -> str:
        file = tmp_path / f"script_{abs(hash(request.node.name))}.py"
        file.write_text(text)
        return str(file)

    return written


def first_name(pipeline: object) -> str:
    return str(pipeline.source.name(0))  # type: ignore[attr-defined]


def test_a_script_is_given_its_own_arguments_and_nothing_else(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(PARSES)
    ours = ["greenload", "profile", f"{file}:train", "--samples", "64"]
    monkeypatch.setattr(sys, "argv", ours)
    assert first_name(find_pipeline(f"{file}:train")) == "default"
    assert first_name(find_pipeline(f"{file}:train", arguments=["--data", "photos"])) == "photos"
    assert first_name(find_pipeline(f"{file}:later", arguments=["--data", "photos"])) == "--data", (
        "also while it is called"
    )
    assert sys.argv is ours and argparse.ArgumentParser.error.__module__ == "argparse"
    seen = sys.modules[f"_pipeline_file_{Path(file).stem}"].seen
    assert seen["argv"] == [file, "--data", "photos"] and seen["samples"] == 1000


def test_a_module_is_given_its_own_arguments_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_training_module.py").write_text(PARSES)
    monkeypatch.syspath_prepend(tmp_path)
    assert first_name(find_pipeline("my_training_module:train", arguments=["--data", "photos"])) == "photos"
    assert sys.modules["my_training_module"].seen["argv"][0] == str(tmp_path / "my_training_module.py")
    with pytest.raises(UsageError, match="leave out what stands behind --"):
        find_pipeline("imagenet:train", "photos", ["--data", "photos"])


@pytest.mark.parametrize("command", ["profile", "calibrate"])
def test_the_command_line_hands_over_what_stands_behind_two_dashes(
    command: str, write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(f"import json, sys\njson.dump(sys.argv, open({str(tmp_path / 'seen')!r}, 'w'))\ntrain = 3\n")
    for behind, seen in (
        [["--", "--debug", "--data", "photos", "--", "x"], ["--debug", "--data", "photos", "--", "x"]],
        [[], []],
    ):
        assert main([command, f"{file}:train", "--threads", "1", *behind]) == 2
        assert json.loads((tmp_path / "seen").read_text()) == [file, *seen]
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["calibrate", "--", "x"]) == 2
    assert "no pipeline is named" in capsys.readouterr().err


@pytest.mark.parametrize("parse", ["", "FLAGS(sys.argv)"], ids=["app.run", "at import"])
def test_flags_are_parsed_once_from_the_script_s_arguments(parse: str, write: Write) -> None:
    pytest.importorskip("absl.flags")
    name = f"mine{len(parse)}"
    file = write(FLAGS.format(name=name, parse=parse))
    assert (
        first_name(find_pipeline(f"{file}:train", arguments=[f"--{name}_data=photos", f"--{name}_size=3"])) == "photos"
    )


def test_flags_without_arguments_have_their_defaults_and_wrong_ones_are_one_line(write: Write) -> None:
    pytest.importorskip("absl.flags")
    assert first_name(find_pipeline(write(FLAGS.format(name="none", parse="")) + ":train")) == "default"
    with pytest.raises(UsageError, match="refuses its flags: Unknown command line flag 'wrong'") as raised:
        find_pipeline(write(FLAGS.format(name="wronged", parse="")) + ":train", arguments=["--wrong"])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        (PARSES, ["--folder", "x"], "refuses its arguments: unrecognized arguments: --folder x (usage: script_"),
        (PARSES, ["--samples", "many"], "invalid int value: 'many'"),
        ("import sys\nsys.exit('no data\\nhere')", [], "ends itself by sys.exit(no data here)"),
        ("raise SystemExit", [], "ends itself by sys.exit()"),
        ("def train():\n    exit(3)\nimport sys; exit = sys.exit", [], "ends itself by sys.exit(3)"),
    ],
)
def test_a_script_that_ends_itself_is_one_line(
    text: str, arguments: list[str], said: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", f"{write(text)}:train", "--", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and "Traceback" not in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PARSES, "usage:"),
        ("import sys\nif '--help' in sys.argv:\n    print('my help')\n    sys.exit(0)", "my help"),
    ],
)
def test_a_script_s_own_help_ends_quietly(
    text: str, said: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["profile", f"{write(text)}:train", "--", "--help"])
    seen = capsys.readouterr()
    assert ended.value.code in (None, 0) and said in seen.out and seen.err == ""
    assert argparse.ArgumentParser.exit.__module__ == "argparse"


@pytest.mark.slow
def test_a_script_that_runs_long_while_it_is_imported_is_named(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "LONG_S", 0.3)
    (tmp_path / "neighbour_that_trains.py").write_text("import time\ntime.sleep(0.4)\n")
    pipeline = "import greenload as gl\ntrain = gl.Pipeline(gl.Files(['a.jpg']))\n"
    for trains in ("import time\ntime.sleep(0.4)\n", "import neighbour_that_trains\n"):
        file = write(trains + pipeline)
        with pytest.warns(UserWarning, match=r"ran for 0 s while it was imported.*if __name__ == \"__main__\""):
            assert first_name(find_pipeline(f"{file}:train")) == "a.jpg"
    # What an installed package takes is no training of the script's.
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "slow_package.py").write_text("import time\ntime.sleep(0.4)\n")
    monkeypatch.syspath_prepend(packages)
    paths = {"stdlib": str(packages), "purelib": str(packages), "platlib": str(packages)}
    monkeypatch.setattr(script.sysconfig, "get_paths", lambda: paths)
    assert first_name(find_pipeline(f"{write('import slow_package' + chr(10) + pipeline)}:train")) == "a.jpg"
