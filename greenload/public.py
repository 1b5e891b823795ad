"""Marks a class or function as public: it says that it is ``greenload``'s, whatever room it lives in."""

from __future__ import annotations

from typing import ForwardRef, TypeVar

T = TypeVar("T")


def public(thing: T) -> T:
    """Decorates a public class or function: tracebacks, pickles and ``help`` say ``greenload``, not its module.

    It stands above ``@dataclass``, and the name in ``greenload/__init__.pyi``. Type hints are still found in the
    module. ``inspect.getsource`` finds functions and methods, but no class, since it looks for a class in the file of
    the module that the class names.
    """
    if isinstance(thing, type):
        module = thing.__module__
        hints = thing.__annotations__.items()
        thing.__annotations__ = {name: ForwardRef(hint, module=module, is_class=True) for name, hint in hints}
        if "__firstlineno__" in vars(thing):  # Python 3.13 would show these lines of the other file
            delattr(thing, "__firstlineno__")
    thing.__module__ = "greenload"
    return thing


def is_public(thing: object) -> bool:
    """Whether a class or function was marked so, and is no user's."""
    return getattr(thing, "__module__", "") == "greenload"
