"""Marks a class or function as public: it says that it is ``greenload``'s, whatever room it lives in."""

from __future__ import annotations

from typing import ForwardRef, TypeVar

T = TypeVar("T")


def public(named: T) -> T:
    """Decorates a public class or function: tracebacks, pickles and ``help`` say ``greenload``, not its module.

    It stands above ``@dataclass``, and the name in ``greenload/__init__.pyi``. Type hints are still found in the
    module. ``inspect.getsource`` finds functions and methods, but no class, since it looks for a class in the file of
    the module that the class names.
    """
    if isinstance(named, type):
        module = named.__module__
        hints = named.__annotations__.items()
        named.__annotations__ = {name: ForwardRef(hint, module=module, is_class=True) for name, hint in hints}
        if "__firstlineno__" in vars(named):  # Python 3.13 would show these lines of the other file
            delattr(named, "__firstlineno__")
    named.__module__ = "greenload"
    return named


def is_public(value: object) -> bool:
    """Whether a class or function was marked so, and is no user's."""
    return getattr(value, "__module__", "") == "greenload"
