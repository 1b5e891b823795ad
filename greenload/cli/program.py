"""Runs a user's program in this process as ``python`` would: its ``__main__``, arguments, path, errors and end.

It imports next to nothing: what a program sets before its imports, as environment variables, still takes effect.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import pkgutil
import runpy
import sys
import types
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from typing import Any, NoReturn

from greenload.errors import UsageError


def check_script(file: str) -> None:
    """Refuse what isn't a script that can be read, nor a folder or archive with a ``__main__``.

    Raises:
        UsageError: says why.
    """
    if (importer := _importer(file)) is not None:
        if importer.find_spec("__main__") is None:
            what = "is a folder" if os.path.isdir(file) else "is an archive"
            raise UsageError(f"{file}: {what} without __main__.py: name a script in it, or a package as -m NAME")
        return
    try:
        with open(file, "rb"):
            pass
    except OSError as error:
        raise UsageError(f"{file}: the script can't be read: {error.strerror}") from None


def run_script(file: str, arguments: Sequence[str]) -> None:
    """Run ``python FILE ARGUMENTS``. What the script raises passes; its traceback as printed begins in the script.
    Of a folder or an archive that is its ``__main__``.

    Args:
        file: as `check_script` lets pass.
        arguments: the script's own.
    """
    if _importer(file) is not None:
        return _run_main_in(file, arguments)
    path = os.path.abspath(file)
    main = _fresh_main()
    vars(main).update(__file__=path, __cached__=None, __loader__=SourceFileLoader("__main__", path))
    sys.argv = [file, *arguments]
    _set_first_path(os.path.dirname(os.path.realpath(path)))
    try:
        with io.open_code(path) as opened:
            code = compile(opened.read(), path, "exec", dont_inherit=True)
        exec(code, vars(main))
    except BaseException as error:
        _pass_on(error, 1)


def run_module(name: str, arguments: Sequence[str]) -> None:
    """Run ``python -m NAME ARGUMENTS``, as `run_script` does.

    Args:
        name: of the module, or of a package with a ``__main__``.
        arguments: the module's own.
    """
    _fresh_main()
    sys.argv = ["-m", *arguments]
    _set_first_path(os.getcwd())
    try:
        runpy._run_module_as_main(name)  # type: ignore[attr-defined] # what python itself calls
    except BaseException as error:
        _pass_on(error, 1)


def _importer(file: str) -> Any:
    """What imports from a folder or an archive; None for other files."""
    sys.path_importer_cache.pop(file, None)  # as it is now
    return pkgutil.get_importer(file)


def _run_main_in(file: str, arguments: Sequence[str]) -> None:
    """Run the ``__main__`` of a folder or an archive, which is first on the path, whatever ``-P`` says."""
    _fresh_main()
    sys.argv = [file, *arguments]
    path = os.path.join(os.getcwd(), file)
    if sys.flags.safe_path:
        sys.path.insert(0, path)
    else:
        sys.path[0] = path
    try:
        runpy._run_module_as_main("__main__", False)  # type: ignore[attr-defined] # what python itself calls
    except BaseException as error:
        _pass_on(error, 1)


def end_as_interrupted() -> None:
    """Have Python end by Ctrl-C's signal, if the program was interrupted. For functions of ``atexit``.

    Python keeps that in a flag, which it clears whenever it runs a text, as imports of data classes do.
    """
    if _interrupted:
        with contextlib.suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")


_interrupted: list[KeyboardInterrupt] = []
"""What the program was interrupted by."""
_replaced: list[types.ModuleType] = []
"""Greenload's own ``__main__``, which isn't torn down while it runs."""


def _fresh_main() -> types.ModuleType:
    _replaced.append(sys.modules["__main__"])
    main = types.ModuleType("__main__")
    vars(main).update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = main
    return main


def _set_first_path(folder: str) -> None:
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _pass_on(error: BaseException, frames: int) -> NoReturn:
    """Raise on; whoever shows it, sees its traceback without the first ``frames`` and all that are outside of them.

    So Python does what it does at the end of a script: it prints, and gives the status, or ends by Ctrl-C's signal.
    """
    if isinstance(error, KeyboardInterrupt):
        _interrupted.append(error)
    shown, show = error.__traceback__, sys.excepthook
    for _ in range(frames):
        shown = None if shown is None else shown.tb_next

    def without_own(kind: type[BaseException], value: BaseException, _: types.TracebackType | None) -> None:
        sys.excepthook = show
        show(kind, value.with_traceback(shown), shown)

    sys.excepthook = without_own
    raise error
