"""The command watch: a script in it is as under python; its datasets are told of."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import zipapp
import zipfile
from pathlib import Path

import pytest
from burning import environment, wait_for
from watching import WATCH, rows, run

from greenload.backends import registry
from greenload.backends.native import op
from greenload.cli.watch import split_arguments

NO_TENSORFLOW = "greenload: the script imports no TensorFlow, so that there is no dataset to watch\n"
SCRIPTS = {
    "what it sees": """
import atexit, pickle, sys, warnings
class Mine: pass
assert sys.modules["__main__"].Mine is Mine and type(pickle.loads(pickle.dumps(Mine()))) is Mine
print(sys.argv, sys.path[0], __name__, __file__, __spec__, __package__, __builtins__, sorted(globals()))
print(sys.stdin.read())
warnings.warn("old", DeprecationWarning)
atexit.register(print, "last")
""",
    "status": "import sys\nsys.exit(3)",
    "message": "import sys\nsys.exit('said')",
    "exception": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise RuntimeError('all') from error",
    "hook": "import sys\nsys.excepthook = lambda *error: print(error[0], error[2].tb_next)\nraise KeyError(1)",
    "syntax": "def f(:\n",
    "interrupt": "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)",
    "terminated": "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)",
    "at once": "import os\nprint('out', flush=True)\nos._exit(7)",
    "fork": "import os\nif os.fork() == 0: raise SystemExit(4)\nprint(os.waitstatus_to_exitcode(os.wait()[1]))",
    "thread": "import threading, time\nthreading.Thread(target=lambda: (time.sleep(0.1), print('late'))).start()",
}
SILENT = {"terminated", "at once"}
"""They end so that nothing can be said."""


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_as_under_python(name: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPTS[name])
    words = ("script.py", "--json", "its own", "--")
    alone, watched = run(sys.executable, *words, cwd=tmp_path), run(*WATCH, *words, cwd=tmp_path)
    assert (watched.returncode, watched.stdout) == (alone.returncode, alone.stdout)
    assert watched.stderr == alone.stderr + ("" if name in SILENT else NO_TENSORFLOW)


def test_without_standard_error_standard_output_stays_the_scripts_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('mine')")
    closed = f"{shlex.join(WATCH)} script.py 2>&-"
    watched = run("sh", "-c", closed, cwd=tmp_path)
    assert (watched.returncode, watched.stdout) == (0, "mine\n")


@pytest.mark.parametrize("status", [0, 3])
def test_without_tensorflow_the_files_say_that_nothing_was_iterated(status: int, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(f"import sys, time\ntime.sleep(0.1)\nsys.exit({status})")
    watched = run(*WATCH, "--json", "watch.json", "--out", "table.txt", "script.py", cwd=tmp_path)
    assert (watched.returncode, watched.stdout, watched.stderr) == (status, "", "")
    report = json.loads((tmp_path / "watch.json").read_text())
    assert report["format"] == "greenload.watch/1" and report["datasets"] == []
    assert report["notes"] == ["the script imports no TensorFlow, so that there is no dataset to watch"]
    assert 0.1 < report["wall_s"] < 100 and 0 <= report["cpu_s"] < report["wall_s"]
    assert (tmp_path / "table.txt").read_text() == NO_TENSORFLOW


def test_a_module_is_as_under_python(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(
        "import sys\nprint(sys.argv, sys.path[0], __name__, __package__, __spec__.name)\nraise ValueError"
    )
    for words in (("-m", "package", "-x"), ("-m", "no_such_module")):
        alone, watched = run(sys.executable, *words, cwd=tmp_path), run(*WATCH, *words, cwd=tmp_path)
        assert (watched.returncode, watched.stdout) == (alone.returncode, alone.stdout)
        assert watched.stderr == alone.stderr + NO_TENSORFLOW


@pytest.mark.parametrize("name", ["folder", "folder/", "app.zip", "app"])
def test_a_folder_or_an_archive_is_as_under_python(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "beside.py").write_text("where = __file__")
    (tmp_path / "folder" / "__main__.py").write_text(
        "import sys, beside\n"
        "print(sys.argv, sys.path[0], __name__, __file__, repr(__package__), __spec__.name, beside.where)\n"
        "assert sys.modules['__main__'].__file__ == __file__\n"
        "raise SystemExit(5) if sys.argv[1] == 'end' else ValueError"
    )
    for archive in ("app.zip", "app"):
        zipapp.create_archive(tmp_path / "folder", tmp_path / archive, sys.executable)
    for words in ((name, "end"), (name, "fail"), (str(tmp_path / name), "--json", "its own")):
        alone, watched = run(sys.executable, *words, cwd=tmp_path), run(*WATCH, *words, cwd=tmp_path)
        assert (watched.returncode, watched.stdout) == (alone.returncode, alone.stdout) and alone.stdout
        assert watched.stderr == alone.stderr + NO_TENSORFLOW


def test_arguments_of_the_command_stand_before_the_script() -> None:
    assert split_arguments(["--json", "a", "x.py", "--json", "b"]) == (["--json", "a", "x.py"], ["--json", "b"])
    assert split_arguments(["--out=a", "-m", "x", "-m", "y"]) == (["--out=a", "-m", "x"], ["-m", "y"])
    assert split_arguments(["--", "x.py", "--", "-h"]) == (["x.py"], ["--", "-h"])
    assert split_arguments(["--", "-x.py", "y"]) == (["--", "-x.py"], ["y"])
    assert split_arguments([]) == ([], [])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the script to run"),
        (("missing.py",), "missing.py: the script can't be read: No such file"),
        ((".",), ".: is a folder without __main__.py: name a script in it, or a package as -m NAME"),
        (("empty.zip",), "empty.zip: is an archive without __main__.py"),
        (("--nothing", "x.py"), "unrecognized arguments: --nothing"),
        (("--js", "script.py"), "unrecognized arguments: --js"),
        (("--json", "missing/x", "script.py"), "its folder does not exist"),
        (("--json", "x", "--out", "./x", "script.py"), "need a file each"),
        (("-m",), "expected one argument"),
    ],
)
def test_what_is_wrong_is_one_line(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("raise AssertionError('it must not run')")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.write(tmp_path / "script.py", "script.py")
    done = run(*WATCH, *words, cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("greenload: error: ") and done.stderr.count("\n") == 1 and said in done.stderr


DOORS = """
import os, sys
assert not {"numpy", "tensorflow"} & sys.modules.keys()
import tensorflow as tf

def burn(x):
    return tf.reduce_sum(tf.random.stateless_uniform([1000], (x, x))) * 0 + tf.cast(x, tf.float32)
def twice(x): return x * 2
def numbers():
    yield from (1.0, 2.0, 3.0)
def inner(x): return tf.data.Dataset.range(4).map(product)
def product(y): return y + 1
def again(x): return x + 1
def legacy(x): return x + 2
def passed(x): return x - 1

ds = tf.data.Dataset.range(8).map(burn).batch(2).prefetch(1)
for _ in range(3):
    print([batch.tolist() for batch in ds.as_numpy_iterator()])
made = tf.data.Dataset.from_generator(numbers, output_signature=tf.TensorSpec((), tf.float32)).map(twice)
print(float(made.reduce(0.0, lambda a, b: a + b)))
nested = tf.data.Dataset.range(3).interleave(inner)
@tf.function
def total(argument):
    seen = tf.constant(0, tf.int64)
    for x in nested: seen += x
    for x in argument: seen += x
    return seen
print(int(total(tf.data.Dataset.range(2).map(passed))))
for _ in range(2):
    print(list(tf.data.Dataset.range(3).map(again).as_numpy_iterator()))
print(list(tf.data.Dataset.range(2).map_with_legacy_function(legacy).as_numpy_iterator())
      if hasattr(tf.data.Dataset, "map_with_legacy_function") else "")
print(list(tf.data.Dataset.range(2).batch(2)))
if sys.argv[1:] == ["fail"]:
    for _ in tf.data.Dataset.range(2).map(lambda x: tf.io.decode_png(tf.as_string(x))): pass
"""


@pytest.mark.slow
def test_every_way_to_iterate_is_watched(tmp_path: Path) -> None:
    (tmp_path / "doors.py").write_text(DOORS)
    alone = run(sys.executable, "doors.py", cwd=tmp_path)
    watched = run(*WATCH, "--json", "watch.json", "--out", "table.txt", "doors.py", cwd=tmp_path)
    assert (watched.returncode, watched.stdout) == (alone.returncode, alone.stdout) and not alone.returncode
    assert "greenload" not in watched.stderr
    report = json.loads((tmp_path / "watch.json").read_text())
    found = rows(report)
    assert {name: step["calls"] for name, step in found.items()} == {
        "burn": 24, "numbers": 3, "twice": 3, "product": 12, "passed": 2, "again": 6,
    }  # fmt: skip
    assert all(step["where"].startswith("doors.py:") for step in found.values())
    assert 0 < found["burn"]["total_cpu_s"] < report["cpu_s"]
    names = [dataset["name"] for dataset in report["datasets"]]
    assert any("3 iterators" in name for name in names) and any("2 datasets" in name for name in names)
    assert any("it calls no function" in note for note in report["notes"])
    table = (tmp_path / "table.txt").read_text()
    assert all(name in table for name in found) and "modelled" in table


@pytest.mark.slow
def test_an_exception_leaves_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / "doors.py").write_text(DOORS)
    alone = run(sys.executable, "doors.py", "fail", cwd=tmp_path)
    watched = run(*WATCH, "--json", "watch.json", "doors.py", "fail", cwd=tmp_path)
    assert watched.returncode == alone.returncode == 1 and watched.stdout == alone.stdout
    traceback = alone.stderr[alone.stderr.index("Traceback") :]
    assert traceback in watched.stderr
    assert rows(json.loads((tmp_path / "watch.json").read_text()))["burn"]["calls"] == 24


LEAVING = """
import os, signal
import tensorflow as tf

def tripled(x): return x * 3
def after(x): return x + 1

module = tf.Module()
module.dataset = tf.data.Dataset.range(4).map(tripled)
def total(): return module.dataset.reduce(tf.constant(0, tf.int64), lambda a, b: a + b)
module.total = tf.function(total, input_signature=[])
tf.saved_model.save(module, "saved")
print(int(tf.saved_model.load("saved").total()))
service = tf.data.experimental.service
dispatcher = service.DispatchServer()
worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=dispatcher.target.split("://")[1]))
served = module.dataset.apply(service.distribute("parallel_epochs", dispatcher.target)).map(after)
print(sorted(served.as_numpy_iterator()))
for number, _ in enumerate(tf.data.Dataset.range(1000).map(after)):
    if number == 10: os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.mark.slow
def test_what_leaves_the_process_has_no_clocks_and_an_interrupt_leaves_what_was_measured(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(LEAVING)
    alone = run(sys.executable, "leaving.py", cwd=tmp_path)
    watched = run(*WATCH, "--json", "watch.json", "leaving.py", cwd=tmp_path)
    assert watched.returncode == alone.returncode == -signal.SIGINT
    assert watched.stdout == alone.stdout == "18\n[np.int64(1), np.int64(4), np.int64(7), np.int64(10)]\n"
    assert b"tripled" in (saved := (tmp_path / "saved" / "saved_model.pb").read_bytes()) and b"Greenload" not in saved
    report = json.loads((tmp_path / "watch.json").read_text())
    assert rows(report)["after"]["calls"] >= 4
    assert any("workers of tf.data's service" in note for note in report["notes"])


LOADING = """
import json, sys
import greenload as gl
import tensorflow as tf
backend, folder = sys.argv[1:]
stages = gl.Shuffle(), gl.Decode(), gl.RandomResizedCrop(64), gl.RandomHorizontalFlip(), gl.Batch(8)
plan = gl.make_plan(gl.Pipeline(gl.ImageFolder(folder), *stages, seed=5), backend, threads=2)
def doubled(images, labels): return tf.cast(images, tf.int32) * 2, labels
loaded = gl.load(plan, epochs=2)
for batches in (loaded, loaded.map(doubled)):
    print([(int(tf.reduce_sum(tf.cast(images, tf.int64))), labels.numpy().tolist()) for images, labels in batches])
print(json.dumps([step.name for step in gl.watch(gl.load(plan)).watched.steps]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", ["native", "dali-cpu", *(pytest.param(name, marks=pytest.mark.long) for name in ("tf", "pillow"))]
)
def test_what_load_made_has_the_rows_of_its_plan(backend: str, sample_folder: Path, tmp_path: Path) -> None:
    if not (registry.get(backend).availability().usable and op.usable()):
        pytest.skip(f"{backend} can't be used here")
    (tmp_path / "loading.py").write_text(LOADING)
    words = "loading.py", backend, str(sample_folder)
    alone, watched = run(sys.executable, *words, cwd=tmp_path), run(*WATCH, "--json", "json", *words, cwd=tmp_path)
    assert (watched.returncode, watched.stdout) == (alone.returncode, alone.stdout) and not alone.returncode
    report = json.loads((tmp_path / "json").read_text())
    expected = json.loads(alone.stdout.splitlines()[-1])
    assert "Read" in expected
    [dataset] = report["datasets"]
    assert [step["name"] for step in dataset["steps"]] == [*expected, "doubled"]
    images = sum(len(labels) for line in alone.stdout.splitlines()[:2] for _, labels in json.loads(_as_json(line)))
    assert dataset["samples"] == images and rows(report)["Read"]["calls"] == images
    # On a busy machine all few calls of a step may end on another thread than they began on.
    assert all(step["timed"] or step["crossed"] == step["calls"] > 0 for step in dataset["steps"])
    assert report["notes"] == [f"not watched: {name}: {why}" for name, why in dataset["unwatched"].items()]


def _as_json(line: str) -> str:
    return line.replace("(", "[").replace(")", "]")


SELF_WATCHED = """
import greenload as gl
import tensorflow as tf
def first(x): return x + 1
def second(x): return x + 2
def third(x): return x + 3
part = gl.watch(tf.data.Dataset.range(10).map(first))
whole = gl.watch(part.map(second))
for dataset in (part, whole, gl.watch(part.take(5).map(third)), whole.map(third)): print(len(list(dataset)))
"""


@pytest.mark.slow
def test_what_a_script_watches_itself_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SELF_WATCHED)
    done = run(*WATCH, "--json", "watch.json", "own.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "10\n10\n5\n10\n"), done.stderr
    report = json.loads((tmp_path / "watch.json").read_text())
    found = [(step["name"], step["calls"]) for dataset in report["datasets"] for step in dataset["steps"]]
    assert [name for name, _ in found] == ["first", "second", "third", "third"]
    assert report["datasets"][1]["counted_in"] == {"first": report["datasets"][0]["name"]}
    assert dict(found)["first"] >= 35 and dict(found)["second"] == 20 and "outside functions" in done.stderr


FOLLOWED = """
import signal, sys, time
import tensorflow as tf
def made(x): return tf.reduce_sum(tf.random.stateless_uniform([20000], (x, x)))
def twice(x): return x * 2
train = tf.data.Dataset.range(10**9).map(made).prefetch(2)
for number, _ in enumerate(train):
    time.sleep(0.001)
    if number % 50 == 0:  # of the same structure each time; from the hundredth on the training's function is in both
        list(tf.data.Dataset.range(5).map(twice))
    if number == 100:
        list(train.take(3).map(twice))
"""


@pytest.mark.slow
def test_a_watched_script_is_followed(tmp_path: Path) -> None:
    (tmp_path / "followed.py").write_text(FOLLOWED)
    status, given = tmp_path / "status", environment(tmp_path / "status", TF_CPP_MIN_LOG_LEVEL="3")
    status.mkdir(mode=0o700)
    command = [*WATCH, "--json", "watch.json", "followed.py", "--epochs", "3"]
    process = subprocess.Popen(command, cwd=tmp_path, env=given, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: (status / f"{process.pid}.json").exists() or process.poll() is not None)
        words = [*WATCH[:-1], "top", "--once", "--json", str(tmp_path / "top.json")]
        top = subprocess.run(words, env=given, capture_output=True, text=True, timeout=100)
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=100)[1]
    assert top.returncode == 0, top.stderr + said
    assert top.stdout.startswith(f"process {process.pid}: python") and "followed.py --epochs 3" in top.stdout
    assert "balanced with who" in top.stdout or "saturated: it waits" in top.stdout or "starved: who" in top.stdout
    assert "its last buffer was" in top.stdout
    seen = json.loads((tmp_path / "top.json").read_text())["last"]
    calls = {name: step["calls"] for name, step in rows(seen).items()}
    whole = {name: step["calls"] for name, step in rows(json.loads((tmp_path / "watch.json").read_text())).items()}
    assert 0 < calls["made"] < whole["made"]
    assert 0 < sum(step["total_cpu_s"] for step in rows(seen).values()) < seen["cpu_s"]
    assert process.returncode == -signal.SIGINT and not list(status.glob("*.json"))
