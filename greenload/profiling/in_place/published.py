"""Reads what processes publish of the datasets that they watch: from this user's files, or from a port."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from greenload.errors import ReportError
from greenload.profiling.in_place.status import Status, from_value
from greenload.system import file_input, json_data, processes, runtime_folder
from greenload.system.endpoint import parse_address

SWITCH = "GREENLOAD_STATUS"
"""Environment variable: ``off`` publishes nothing; an absolute path names the folder of the files."""
MOST_BYTES = 16 << 20
"""Of a status; one of a hundred steps has some 40 kB."""
_PATIENCE_S = 5.0  # for an answer of a port, which a training gives within milliseconds


class Gone(ReportError):
    """A process says nothing any more, having ended."""


class Idle(Gone):
    """A process runs, and watches nothing now."""


def is_off() -> bool:
    """Whether the user wants nothing published."""
    return os.environ.get(SWITCH, "").lower() == "off"


def folder_named() -> str:
    """The folder that the environment names; empty where it names none."""
    named = os.environ.get(SWITCH, "")
    return named if os.path.isabs(named) else ""


@dataclass(frozen=True)
class PublishedFile:
    """A file that a process of this user writes.

    Args:
        path: where.
        pid: the process.
    """

    path: Path
    pid: int

    @property
    def name(self) -> str:
        """What is read, for people."""
        return f"process {self.pid}"

    def read(self) -> Status:
        """What the process said last.

        Raises:
            Idle: the process watches nothing now.
            Gone: it has ended.
            ReportError: the file holds something else.
        """
        try:
            status = from_value(json_data.parse(file_input.read(self.path, MOST_BYTES)))
        except FileNotFoundError:
            if processes.identity(self.pid):
                raise Idle(f"{self.name} watches no dataset any more") from None
            raise Gone(f"{self.name} has ended") from None
        except (json_data.DataError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise ReportError(f"{self.path}: is no status of a process ({why}): remove it") from None
        if processes.identity(self.pid) != status.identity:
            raise Gone(f"{self.name} has ended")
        return status


@dataclass(frozen=True)
class PublishedPort:
    """A port at which a process answers, as an ``EnergyCallback``'s.

    Args:
        host: its name or address.
        port: its number.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, address: str) -> PublishedPort:
        """The port of ``"127.0.0.1:9400"`` or ``":9400"``.

        Raises:
            UsageError: it is no address.
        """
        return cls(*parse_address(address))

    @property
    def name(self) -> str:
        """What is read, for people."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def read(self) -> Status:
        """What the process says now.

        Raises:
            Gone: nobody answers there.
            ReportError: another service does.
        """
        from http.client import HTTPConnection, HTTPException

        connection = HTTPConnection(self.host, self.port, timeout=_PATIENCE_S)
        try:
            connection.request("GET", "/status")
            content = connection.getresponse().read(MOST_BYTES)
            return from_value(json_data.parse(content))
        except (json_data.DataError, HTTPException) as error:
            raise ReportError(
                f"{self.name} serves no status ({json_data.short(str(error))}): name the port of an EnergyCallback"
            ) from None
        except OSError as error:
            raise Gone(f"{self.name} doesn't answer ({error.strerror or error})") from None
        finally:
            connection.close()


def find() -> list[PublishedFile]:
    """Files of this user's processes that run; those that ended processes left are removed."""
    files = []
    for folder in runtime_folder.there(folder_named()):
        for path in sorted(folder.glob("*.json")):
            if path.stem.isascii() and path.stem.isdigit() and _is_alive(path):
                files.append(PublishedFile(path, int(path.stem)))
    return sorted(files, key=lambda file: file.pid)


def _is_alive(path: Path) -> bool:
    """Whether a file's process runs, or may; removes it if not."""
    try:
        PublishedFile(path, int(path.stem)).read()
    except Gone:
        for left in (path, path.with_suffix(".partial")):
            with contextlib.suppress(OSError):
                left.unlink()
        return False
    except ReportError:
        return bool(processes.identity(int(path.stem)))
    return True
