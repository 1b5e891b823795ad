"""`Domain` as a value, and that nothing else takes a domain's text apart."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import greenload
from greenload.energy.domains import DOMAIN_KINDS, Domain

PACKAGE = Path(greenload.__file__).parent
ROOMS = ("cli", "energy", "loading", "planning", "profiling", "report", "training")
SPLITS = {"split", "rsplit", "partition", "rpartition"}
TESTS = {"startswith", "endswith", "removeprefix", "removesuffix", "match"}
KINDS = (*DOMAIN_KINDS, "core")
OTHER_COLONS = {
    "Server.__init__": "an address of IPv6",
    "Zone.order": "numbers of a zone's id",
    "Zone.parent_id": "numbers of a zone's id",
    "_in_overlay": "folders of an overlay",
    "PublishedPort.name": "an address of IPv6",
    "_locate": "HOST:FOLDER of a network's file system",
    "_names": "FILE:NAME of a strategy",
    "_names_tensorflow": "FILE:NAME of a pipeline",
    "_source": "HOST:PORT of a training",
    "clocked_copy": "what a clock misses, in front of what follows from it",
    "base": "NODE:OUTPUT of a graph",
    "_parts_of": "FILE:NAME of a pipeline",
    "look": "fields of /proc/cpuinfo",
    "state_of": "NODE:OUTPUT of a graph",
}
"""Functions that take other texts with colons apart, and which."""


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("cpu:package-0-die-1", Domain("cpu", "package-0-die-1")),
        ("gpu:0", Domain("gpu", "0")),
        ("storage:dm:0", Domain("storage", "dm:0")),
        ("dram", Domain("dram")),
    ],
)
def test_a_text_is_a_domain_s_and_the_other_way_round(text: str, domain: Domain) -> None:
    assert Domain.parse(text) == domain and str(domain) == text


def test_a_model_of_the_whole_kind_is_told_from_its_parts() -> None:
    assert Domain.parse("storage:all").is_whole and Domain.parse("cpu").is_whole
    assert not Domain.parse("cpu:package-0").is_whole


def test_what_cpu_time_draws_from() -> None:
    assert [kind for kind in DOMAIN_KINDS if Domain(kind, "0").follows_cpu] == ["cpu", "dram"]


def literal(node: ast.expr) -> str:
    """A text that is written out, or the beginning of one that is put together."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def takes_apart(node: ast.AST) -> bool:
    """Whether an expression looks into a domain's text, or puts one together."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
        text = literal(node.args[0])
        if node.func.attr in SPLITS:
            return text == ":"
        return node.func.attr in TESTS and (text.startswith((*KINDS, "(cpu")) or text[:1] == ":")
    if isinstance(node, ast.Compare) and any(isinstance(one, ast.In | ast.NotIn) for one in node.ops):
        return literal(node.left) == ":"
    return isinstance(node, ast.JoinedStr) and literal(node).startswith(tuple(f"{kind}:" for kind in KINDS))


def places(source: str) -> Iterator[str]:
    """The functions of a module in which a domain's text is taken apart, one entry for each time."""
    tree = ast.parse(source)
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    for node in ast.walk(tree):
        if takes_apart(node):
            line: int = node.lineno  # type: ignore[attr-defined]
            yield ".".join(scope.name for scope in scopes if scope.lineno <= line <= (scope.end_lineno or 0))


def test_only_one_module_takes_a_domain_s_text_apart() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {place}"
        for room in ROOMS
        for path in sorted((PACKAGE / room).rglob("*.py"))
        if path != PACKAGE / "energy" / "domains.py"
        for place in places(path.read_text())
        if place not in OTHER_COLONS
    ]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        'def f(domain):\n    return domain.split(":")[0]',
        'def f(domain):\n    return domain.partition(":")',
        'def f(domain):\n    return domain.startswith("gpu")',
        'def f(domain):\n    return ":" in domain',
        'def f(index):\n    return f"gpu:{index}"',
        'def f(name):\n    return re.match("(cpu|dram):package", name)',
    ],
)
def test_taking_one_apart_is_seen(code: str) -> None:
    assert list(places(code)) == ["f"]
