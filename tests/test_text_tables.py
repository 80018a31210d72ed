"""Cells of JSON lines and CSV, against Python's own readers."""

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from duanti.text_tables import (
    ABSENT,
    BAD_QUOTE,
    INTEGER,
    NULL,
    SOUND,
    TOO_LONG,
    UNCLOSED,
    cell_strings,
    scan_delimited,
    scan_json,
)

KEYS = ["text", "n", "键"]


def read_json(line: str) -> Any:
    """What ``json`` makes of a line: its object, or None."""
    try:
        value = json.loads(line, parse_constant=lambda _: 1 / 0)
    except (ValueError, RecursionError, ZeroDivisionError):
        return None
    return value if isinstance(value, dict) else None


def as_text(value: Any) -> str | None:
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.sampled_from([*KEYS, "other", "te\\xt", ""]), values, max_size=5)
lines = st.builds(
    lambda value, ascii, indent: json.dumps(value, ensure_ascii=ascii, separators=indent),
    objects,
    st.booleans(),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " :\r ")]),
)
# Sound lines, and lines that a few changes made unsound, most of the time.
changed = st.builds(
    lambda line, place, piece, cut: line[: place % (len(line) + 1)] + piece + line[place % (len(line) + 1) + cut :],
    lines,
    st.integers(0, 200),
    st.sampled_from(
        [*'{}[]",:\\0123456789.-+eEtfnu \t', '"text":', "\\ud800", "\\udc00", "\\u0041", "null", "NaN", "\x01", "1e5"]
    ),
    st.integers(0, 3),
)


@given(st.lists(lines | changed | st.sampled_from(["", " ", "\t\r", "[1]", "{}", "{} {}", "1"]), max_size=6))
@settings(max_examples=2000, deadline=None)
@example(['{"text": "a", "text": "b"}', '{"n": -0}', '{"n": 1' + "0" * 5000 + "}", '{"a":' + "[" * 99 + "]" * 99 + "}"])
@example(['{"text": "\\ud83d\\ude00\\u00e9\\u4e2d\\/\\b\\f\\n\\r\\t\\"\\\\"}', '{"text": "\\ud83d\\u0041"}'])
def test_a_plain_line_is_what_json_reads(written: list[str]) -> None:
    written = [line.encode("utf-8", "replace").decode().replace("\n", " ") for line in written]
    block = "\n".join(written).encode()
    found = scan_json(block, KEYS)
    numbers = [number for number, line in enumerate(written) if line.strip(" \t\r")]
    assert found.numbers.tolist() == numbers
    columns = [cell_strings(block, found.cells, column).to_pylist() for column in range(len(KEYS))]
    raw = [cell_strings(block, found.cells, column, raw=True).to_pylist() for column in range(len(KEYS))]
    for row, number in enumerate(numbers):
        assert block[found.begins[row] : found.ends[row]].decode() == written[number]
        if not found.plain[row]:
            continue
        value = read_json(written[number])
        assert value is not None
        for column, key in enumerate(KEYS):
            kind = found.cells.kinds[row, column]
            assert (kind == ABSENT) == (key not in value)
            assert (kind == NULL) == (key in value and value[key] is None)
            if key in value:
                assert json.loads(raw[column][row]) == value[key]
            if isinstance(value.get(key), str) or kind == INTEGER:
                assert columns[column][row] == as_text(value[key])


@given(objects, st.booleans())
@settings(deadline=None)
def test_a_sound_line_is_nearly_always_plain(value: dict[str, Any], ascii: bool) -> None:
    line = json.dumps(value, ensure_ascii=ascii)
    try:
        block = line.encode()
    except UnicodeEncodeError:
        return
    assert scan_json(block, KEYS).plain.tolist() == [True] or "\\ud" in line


# Cells and line ends, and quotes where they belong and where they do not.
delimited = st.lists(
    st.sampled_from(["a", "b", ",", ",", '"', '"', '""', '"a"', ',"', '",', "\n", "\r\n", "\r", "\n", " ", "中"]),
    max_size=25,
).map("".join)


def read_csv(text: str) -> list[list[str]] | None:
    """What strict ``csv`` makes of a text, None where it finds a fault."""
    try:
        return [cells for cells in csv.reader(io.StringIO(text, newline=""), strict=True) if cells]
    except csv.Error:
        return None


@given(delimited)
@settings(max_examples=3000, deadline=None)
@example('a,"b\r\nc"\r\n\r\n,,\r"x""y",')
@example('"a"b\nc\n')
def test_records_are_those_of_csv(text: str) -> None:
    block = text.encode()
    found = scan_delimited(block, ",", [0, 1, -1], 1000, at_end=True)
    expected = read_csv(text)
    assert (expected is None) == bool((found.faults != SOUND).any())
    assert found.consumed == len(block)
    if expected is None:
        return
    assert found.widths.tolist() == [len(cells) for cells in expected]
    for column in (0, 1):
        ours = cell_strings(block, found.cells, column).to_pylist()
        assert ours == [cells[column] if column < len(cells) else None for cells in expected]
    assert found.n_lines == len(io.StringIO(text, newline="").readlines()) - (
        not text.endswith(("\n", "\r")) and text != ""
    )


@given(delimited, st.integers(0, 60))
@settings(max_examples=1000, deadline=None)
def test_records_may_be_cut_anywhere(text: str, cut: int) -> None:
    block = text.encode()
    whole = scan_delimited(block, ",", [0, 1], 1000, at_end=True)
    first = scan_delimited(block[:cut], ",", [0, 1], 1000, at_end=False)
    rest = scan_delimited(block[first.consumed :], ",", [0, 1], 1000, at_end=True)
    assert [*first.widths, *rest.widths] == whole.widths.tolist()
    assert [*first.faults, *rest.faults] == whole.faults.tolist()
    assert [*first.lines, *(first.n_lines + rest.lines)] == whole.lines.tolist()


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('a,b\n"x"y,1\nc,d\n', [SOUND, BAD_QUOTE, SOUND]),
        ('a,b\n"x,1\nc,d\n', [SOUND, UNCLOSED, SOUND]),
        ('a,"' + "x" * 50 + '"\nc,d\n', [TOO_LONG, SOUND]),
        ("a," + "x" * 50 + "\nc,d\n", [TOO_LONG, SOUND]),
    ],
)
def test_a_fault_takes_no_other_row_with_it(text: str, faults: list[int]) -> None:
    assert scan_delimited(text.encode(), ",", [0], 40, at_end=True).faults.tolist() == faults


def test_lines_of_faults_are_counted_from_the_record_not_the_quote() -> None:
    found = scan_delimited(b'a\n"1\n2"\n\n"open\nb\n', ",", [0], 40, at_end=True)
    assert found.lines.tolist() == [0, 1, 4, 5]
    assert np.array_equal(found.faults, [SOUND, SOUND, UNCLOSED, SOUND])
