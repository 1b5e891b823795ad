"""Reading JSON of others: what is no document, values of each type, and what is said of them."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import mutations
import pytest

from greenload.system import json_data
from greenload.system.json_data import DataError, Value, parse, shown


@pytest.mark.parametrize("name", sorted(mutations.TEXTS.keys() - {"UTF-16"}))
def test_what_is_no_document_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(DataError) as caught:
        parse(mutations.TEXTS[name])
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_a_document_is_read_whatever_its_encoding() -> None:
    assert parse('{"a": [1, -2.5, true, null, "é"]}').data == {"a": [1, -2.5, True, None, "é"]}
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert parse('{"a": "é"}'.encode(encoding)).data == {"a": "é"}


def test_only_regular_files_of_some_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    file.write_text("[1]")
    assert json_data.load(file).data == [1]
    os.mkfifo(tmp_path / "pipe")
    for path, says in ((tmp_path / "pipe", "pipe"), (tmp_path, "directory"), (tmp_path / "none", "No such file")):
        with pytest.raises(OSError, match=says):
            json_data.load(path)
    monkeypatch.setattr(json_data, "LARGEST_BYTES", 2)
    with pytest.raises(OSError, match="more than"):
        json_data.load(file)


DOCUMENT = Value({"steps": [{"cpu_s": 1.5, "name": "Decode", "count": 7, "on": True}], "path": "a/b", "nothing": None})
STEP = DOCUMENT.field("steps").list()[0]


def test_each_type_is_taken() -> None:
    assert STEP.field("cpu_s").number() == 1.5
    assert STEP.field("count").number(0, 7) == 7.0
    assert STEP.field("count").integer(7, 7) == 7
    assert STEP.field("name").text(among=("Decode", "Batch")) == STEP.field("name").name() == "Decode"
    assert DOCUMENT.field("path").path() == "a/b"
    assert list(STEP.mapping()) == ["cpu_s", "name", "count", "on"]
    assert DOCUMENT.get("none") is None is DOCUMENT.given("nothing")
    assert DOCUMENT.get("nothing") is not None
    assert DOCUMENT.plain() is DOCUMENT.data


@pytest.mark.parametrize(
    ("take", "says"),
    [
        (lambda: STEP.field("cpu_s").integer(), r"steps[0].cpu_s must be an integer, not 1.5"),
        (lambda: STEP.field("on").integer(), r"steps[0].on must be an integer, not true"),
        (lambda: STEP.field("on").number(), r"steps[0].on must be a finite number, not true"),
        (lambda: STEP.field("count").integer(0, 6), r"steps[0].count must be an integer from 0 to 6, not 7"),
        (lambda: STEP.field("count").number(8), r"steps[0].count must be a finite number from 8, not 7"),
        (lambda: STEP.field("name").number(), r"steps[0].name must be a finite number, not 'Decode'"),
        (lambda: STEP.field("name").text(among=("a", "b")), r"steps[0].name must be one of 'a', 'b', not 'Decode'"),
        (lambda: STEP.field("none"), r"steps[0] lacks 'none'"),
        (lambda: STEP.list(), r"steps[0] must be a list, not an object of 4"),
        (lambda: DOCUMENT.list(), r"it must be a list, not an object of 3"),
        (lambda: DOCUMENT.field("nothing").text(), r"nothing must be a text, not null"),
        (lambda: DOCUMENT.field("steps").field("a"), r"steps must be an object, not a list of 1"),
        (lambda: Value({1: 2}).mapping(), r"it must be an object, not an object of 1"),
        (lambda: Value("a\0b", "root").path(), r"root must be a path, not 'a\x00b'"),
        (lambda: Value("a\ud800b", "root").path(), r"root must be a path, not 'a\ud800b'"),
        (lambda: Value("a" * 5000, "root").path(), r"root must be a path, not a text of 5000 characters"),
        (lambda: Value("", "name").name(), r"name must be a text of 1 to 255 printable characters, not ''"),
        (lambda: Value(10**400, "n").number(), r"n must be a finite number, not an integer of 401 digits"),
        (lambda: Value(math.nan, "n").number(), r"n must be a finite number, not nan"),
        (lambda: Value({"a": [math.inf]}).plain(), r"a[0] must be JSON data, with finite numbers, not inf"),
        (lambda: Value({"a": {2: 1}}).plain(), r"a must be an object whose names are texts, not an object of 1"),
        (lambda: Value(b"raw").plain(), r"it must be JSON data, not b'raw'"),
        (lambda: Value(mutations.nested(65)).plain(), r"it holds more than 64 lists or objects nested"),
    ],
)
def test_a_refusal_names_the_place_the_rule_and_the_value(take: Any, says: str) -> None:
    with pytest.raises(DataError) as caught:
        take()
    assert str(caught.value) == says


def test_what_nests_a_little_is_plain() -> None:
    assert Value(mutations.nested(60)).plain()


@pytest.mark.parametrize("name", mutations.REPLACEMENTS)
def test_anything_can_be_shown(name: str) -> None:
    text = shown(mutations.REPLACEMENTS[name]())
    assert text.isprintable() and 0 < len(text) < 100
