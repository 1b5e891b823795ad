"""Scratch folders are gone when their work is, however that ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from greenload.system.scratch import PREFIX, ScratchFolder, close_all

OWNER = """
import os, sys, time
from greenload.system.scratch import ScratchFolder
folder = ScratchFolder(sys.argv[1])
open(os.path.join(folder.path, "held"), "w").close()
if "fork" in sys.argv and os.fork() == 0:
    sys.exit()  # the end of a child isn't the folder's
elif "fork" in sys.argv:
    os.wait()
print(os.path.exists(os.path.join(folder.path, "held")), flush=True)
if "end" not in sys.argv:
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return [one.name for one in folder.iterdir()]


def test_it_goes_when_it_is_closed_or_dropped(tmp_path: Path) -> None:
    with ScratchFolder(str(tmp_path)) as path:
        Path(path, "below").mkdir()
        Path(path, "below", "file").touch()
        assert os.stat(path).st_mode & 0o777 == 0o700
    assert names(tmp_path) == []
    dropped = ScratchFolder(str(tmp_path))
    kept = ScratchFolder(str(tmp_path))
    del dropped
    assert names(tmp_path) == [os.path.basename(kept.path)]
    renamed = tmp_path / "renamed"
    os.rename(kept.path, renamed)
    kept.close()
    kept.close()
    assert renamed.is_dir()
    ended = ScratchFolder(str(tmp_path))
    close_all()
    assert names(tmp_path) == ["renamed"] and not os.path.exists(ended.path)


def test_it_goes_when_the_interpreter_ends_but_not_with_a_child(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", OWNER, tmp_path, "fork", "end"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert names(tmp_path) == []


def test_what_a_killed_process_left_goes_with_the_next_one(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == "True\n"
        (left,) = names(tmp_path)
        foreign = tmp_path / f"{PREFIX}mine"
        link = tmp_path / f"{PREFIX}{'0' * 16}"
        foreign.mkdir()
        link.symlink_to(foreign)
        with ScratchFolder(str(tmp_path)):
            assert left in names(tmp_path), "its owner lives"
        owner.send_signal(signal.SIGKILL)
    assert left in names(tmp_path)
    with ScratchFolder(str(tmp_path)) as path:
        assert sorted(names(tmp_path)) == sorted([os.path.basename(path), foreign.name, link.name])


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_other_users_folders_stay(tmp_path: Path) -> None:
    other = tmp_path / f"{PREFIX}{'0' * 16}"
    other.mkdir()
    os.chown(other, 1234, 1234)
    os.utime(other, (time.time() - 1e6,) * 2)
    ScratchFolder(str(tmp_path)).close()
    assert names(tmp_path) == [other.name]
