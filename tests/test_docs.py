"""README, CONTRIBUTING and the pages in docs: what they name exists, links lead somewhere, no line is too wide."""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import re
import runpy
from pathlib import Path

import pytest

import greenload as gl
from greenload.backends.registry import BACKENDS
from greenload.cli import main

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "greenload"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
WIDTH = 120
SPAN = re.compile(r"`([^`\n]+)`")
NAME_IN_FILE = re.compile(r"`([A-Za-z_][\w.]*)` in `([\w/]+\.py)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return BLOCK.sub("", text(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[tuple[Path, str]]:
    """The files that a page links to, each with its anchor, if it has one."""
    targets = [target for target in LINK.findall(prose(page)) if not re.match(r"\w+:", target)]
    parts = [target.partition("#") for target in targets]
    return [((page.parent / path).resolve() if path else page, anchor) for path, _, anchor in parts]


def file_of(path: str) -> Path:
    """A file as the pages name it: from the repository's root, or from the package."""
    return next((base / path for base in (ROOT, PACKAGE) if (base / path).exists()), ROOT / path)


def defines(file: Path, name: str) -> bool:
    """Whether a file's top level defines a name; of ``Class.method``, whether that class has the method."""
    body = ast.parse(text(file)).body
    for part in name.split("."):
        made = next((node for node in body if part in _names(node)), None)
        if made is None:
            return False
        body = getattr(made, "body", [])
    return True


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [target.id for target in targets if isinstance(target, ast.Name)]
    return [getattr(node, "name", "")]


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_no_line_is_too_wide(page: Path) -> None:
    assert [line for line in text(page).splitlines() if len(line) > WIDTH] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target.name}#{anchor}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached:
            continue
        reached.add(page)
        ahead += [target for target, _ in links(page) if target.suffix == ".md"]
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_names_in_files_exist(page: Path) -> None:
    spans = SPAN.findall(prose(page))
    tops = {path.name for path in (*ROOT.iterdir(), *PACKAGE.iterdir())}
    named = [span for span in spans if re.fullmatch(r"[\w.]+/[\w./]*", span) and span.split("/")[0] in tops]
    assert [span for span in named if not file_of(span).exists()] == []
    pairs = NAME_IN_FILE.findall(prose(page))
    missing = [f"{name} in {file}" for name, file in pairs if not defines(file_of(file), name)]
    assert not missing, ", ".join(missing)


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", ARCHITECTURE], ids=lambda page: page.name)
def test_names_occur_in_the_code(page: Path) -> None:
    folders = ("greenload", "bench", "pipelines", "tests", "tools")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py") if file != Path(__file__)]
    words = set(re.findall(r"\w+", "".join(map(text, [*files, ROOT / "pyproject.toml", ROOT / "Makefile"]))))
    names = [span for span in SPAN.findall(prose(page)) if re.fullmatch(r"@?[A-Za-z_][\w.]*", span)]
    missing = [name for name in names if name.lstrip("@").split(".")[-1] not in words]
    assert not missing, ", ".join(missing)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_is_python_and_names_what_greenload_has(page: Path) -> None:
    for language, code in BLOCK.findall(text(page)):
        if language == "python":
            ast.parse(code)
    for name in re.findall(r"\bgl\.(\w+)", text(page)):
        assert name in gl.__all__, f"gl.{name}"
    for module in re.findall(r"python -m ((?:greenload|bench)[\w.]*)", text(page)):
        file = ROOT / module.replace(".", "/")
        assert file.with_suffix(".py").exists() or (file / "__main__.py").exists(), module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    spans = [span for span in SPAN.findall(prose(page)) if span.startswith("greenload ")]
    lines = [line for language, code in BLOCK.findall(text(page)) if language == "bash" for line in code.splitlines()]
    for line in [*spans, *(line for line in lines if line.startswith("greenload "))]:
        known = help_of(line.split()[1])
        options = re.findall(r"(?<!\S)\[?(--[\w-]+)", line.split(" -- ")[0])
        assert [option for option in options if option not in known] == [], line


@functools.cache
def help_of(command: str) -> str:
    """What a command says of itself; fails if there is none of that name."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([command, "--help"])
    assert shown.getvalue().startswith(f"usage: greenload {command}"), command
    return shown.getvalue()


def test_the_architecture_page_has_every_room() -> None:
    tree = text(ARCHITECTURE).split("```\ngreenload/\n")[1].split("```")[0]
    assert sorted(re.findall(r"^  ([\w./]+)  ", tree, re.MULTILINE)) == sorted(_children(PACKAGE))
    inner: dict[str, list[str]] = {}
    for line in tree.splitlines():
        if room := re.match(r"  (\w+/)  ", line):
            inner[room[1]] = []
        elif line.startswith("    "):
            inner[[*inner][-1]] += re.findall(r"\w+/", line.split("  ")[2])
    for room, folders in inner.items():
        assert sorted(folders) == sorted(name for name in _children(PACKAGE / room) if name.endswith("/")), room


def _children(folder: Path) -> list[str]:
    """The packages and modules in a folder, as a tree shows them."""
    packages = [f"{path.name}/" for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__"]
    return [*packages, *(path.name for path in folder.glob("*.py") if path.name != "__init__.py")]


def test_the_picture_of_the_rooms_is_what_they_import() -> None:
    drawn = runpy.run_path(str(ROOT / "tools" / "rooms.py"))["text"]()
    assert text(ARCHITECTURE) == drawn, "docs/architecture.md is stale: run `make tables` and commit it"


def test_the_words_of_the_architecture_page_name_every_backend() -> None:
    words = text(ARCHITECTURE).split("## Words")[1]
    assert [name for name in BACKENDS if f"`{name}`" not in words] == []
