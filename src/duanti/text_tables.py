"""JSON lines and CSV, from bytes to columns, without a Python object per row.

Owns where the cells of a row stand in a block of bytes, and what their characters are. What these kernels take is
what Python's ``json`` and strict ``csv`` take, and means the same; a JSON line that is out of the ordinary is marked,
for ``json`` to judge. Refuses to know files, which columns there should be, and what a text is.

    bytes ─┬─ scan_json ──────┬─ Cells: begin, end and kind of each wanted cell ─ cell_strings ─ Arrow array
           └─ scan_delimited ─┘
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from duanti.arrow import large_strings
from duanti.compilation import borrowed, inlined, kernel

#: What a cell is. Only strings have ESCAPED (JSON's backslashes) and DOUBLED (CSV's quotes).
ABSENT, NULL, PLAIN, ESCAPED, DOUBLED, INTEGER, OTHER = range(7)

#: What came of a record of CSV.
SOUND, BAD_QUOTE, UNCLOSED, TOO_LONG, INCOMPLETE = range(5)

# Deeper values are left to ``json``; a bit for each level says whether it is an object.
_DEEPEST = 60
_QUOTE, _BACKSLASH, _NEWLINE, _RETURN = 34, 92, 10, 13


class Cells(NamedTuple):
    """Where wanted cells stand in a block: (n_rows, n_columns) each. Strings are without their quotes."""

    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    kinds: NDArray[np.uint8]

    def select(self, rows: slice | NDArray[Any]) -> Cells:
        """The cells of these rows."""
        return Cells(self.begins[rows], self.ends[rows], self.kinds[rows])


class JsonLines(NamedTuple):
    """The lines of a block that are not blank."""

    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    numbers: NDArray[np.int64]  # of each line, counted from 0, blank ones too
    plain: NDArray[np.bool_]  # whether it is an object whose wanted cells were found; else ``json`` must say
    cells: Cells


class Records(NamedTuple):
    """The records of a block of CSV that are not blank."""

    begins: NDArray[np.int64]
    ends: NDArray[np.int64]  # behind their line ends
    lines: NDArray[np.int64]  # the line each begins on, counted from 0
    widths: NDArray[np.int64]  # how many cells it has
    faults: NDArray[np.uint8]
    cells: Cells
    consumed: int  # bytes of whole records; what follows is the beginning of one
    n_lines: int  # line ends in them


def scan_json(block: bytes, keys: Sequence[str]) -> JsonLines:
    """Find the lines of a block of UTF-8, and in each object the values of some keys."""
    data = np.frombuffer(block, np.uint8)
    begins, ends, numbers = _lines(data)
    names, name_offsets = _names(keys)
    cells = _room(len(begins), len(keys))
    plain = np.zeros(len(begins), np.bool_)
    _scan_objects(data, begins, ends, names, name_offsets, *cells, plain)
    return JsonLines(begins, ends, numbers, plain, cells)


def scan_delimited(block: bytes, delimiter: str, columns: Sequence[int], longest: int, *, at_end: bool) -> Records:
    """Find the records of a block of CSV and the cells of some columns (-1: a column that is not there).

    A record that is at fault ends with its first line: a quote that is never closed takes no other row with it.
    Cells of more than ``longest`` bytes are faults. Unless ``at_end``, the last record may be incomplete.
    """
    data = np.frombuffer(block, np.uint8)
    most = block.count(b"\n") + block.count(b"\r") + 1
    cells = _room(most, len(columns))
    begins, ends, lines, widths = (np.zeros(most, np.int64) for _ in range(4))
    faults = np.zeros(most, np.uint8)
    wanted = np.array(columns, np.int64)
    n, consumed, n_lines = _scan_records(
        data, ord(delimiter), wanted, longest, at_end, begins, ends, lines, widths, faults, *cells
    )
    return Records(begins[:n], ends[:n], lines[:n], widths[:n], faults[:n], cells.select(np.s_[:n]), consumed, n_lines)


def cell_strings(block: bytes, cells: Cells, column: int, *, raw: bool = False) -> pa.LargeStringArray:
    """Return one column's cells as an Arrow array: strings unescaped, numbers as their digits, absent ones null.

    ``raw``: JSON as it stands, strings with their quotes.
    """
    begins, ends, kinds = (part[:, column] for part in cells)
    if raw:
        quoted = (kinds == PLAIN) | (kinds == ESCAPED)
        begins, ends = begins - quoted, ends + quoted
        kinds = np.where(kinds == ABSENT, ABSENT, OTHER).astype(np.uint8)
    data, offsets = _copy_strings(np.frombuffer(block, np.uint8), begins, ends, kinds)
    present = kinds > NULL
    return large_strings(offsets, data, present)


def _names(keys: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    encoded = [key.encode() for key in keys]
    return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)])


def _room(n_rows: int, n_columns: int) -> Cells:
    shape = (n_rows, n_columns)
    return Cells(np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, ABSENT, np.uint8))


@kernel
def _lines(data: Any) -> Any:
    """Begin, end and number of each line with more in it than spaces."""
    n = 1
    for place in range(len(data)):
        n += data[place] == _NEWLINE
    begins, ends, numbers = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    filled, begin = 0, 0
    for number in range(n):
        end, blank = begin, True
        while end < len(data) and data[end] != _NEWLINE:
            if not _is_blank(data[end]):
                blank = False
            end += 1
        if not blank:
            begins[filled], ends[filled], numbers[filled] = begin, end, number
            filled += 1
        begin = end + 1
    return begins[:filled], ends[:filled], numbers[:filled]


@kernel
def _scan_objects(
    data: Any,
    begins: Any,
    ends: Any,
    names: Any,
    name_offsets: Any,
    cell_begins: Any,
    cell_ends: Any,
    kinds: Any,
    plain: Any,
) -> None:
    data, begins, ends, names, name_offsets = borrowed((data, begins, ends, names, name_offsets))
    cell_begins, cell_ends, kinds, plain = borrowed((cell_begins, cell_ends, kinds, plain))
    for row in range(len(begins)):
        plain[row] = _scan_object(
            data, begins[row], ends[row], names, name_offsets, cell_begins[row], cell_ends[row], kinds[row]
        )


@inlined
def _is_blank(c: Any) -> Any:
    return c == 32 or c == 9 or c == 10 or c == 13


@inlined
def _after_blanks(data: Any, place: Any, end: Any) -> Any:
    while place < end and _is_blank(data[place]):
        place += 1
    return place


@kernel
def _scan_object(
    data: Any, begin: int, end: int, names: Any, name_offsets: Any, cell_begins: Any, cell_ends: Any, kinds: Any
) -> bool:
    """Read one line as JSON's grammar has it, an object and nothing else; False where ``json`` must be asked.

    Besides what is no JSON, that is: wanted keys that come twice, surrogates without their other half, and values
    nested deep.
    """
    # What may stand next: a value, a value or "]", a key, a key or "}", or what follows a value.
    value, value_or_end, key, key_or_end, after = 0, 1, 2, 3, 4
    place = _after_blanks(data, begin, end)
    if place == end or data[place] != 123:
        return False
    levels, depth, state, wanted = np.uint64(0), 0, value, -1
    while True:
        place = _after_blanks(data, place, end)
        if place == end:
            return depth == 0 and state == after
        c = data[place]
        in_object = levels & np.uint64(1) != 0
        closes = (
            (c == 125 and in_object and state in (after, key_or_end))
            or (c == 93 and not in_object and state in (after, value_or_end))
        ) and depth > 0
        if closes:
            place += 1
            depth -= 1
            levels >>= np.uint64(1)
            state = after
            if depth == 1 and wanted >= 0:
                cell_ends[wanted], kinds[wanted] = place, OTHER
            continue
        if state == after:
            if c != 44 or depth == 0:
                return False
            place += 1
            state = key if in_object else value
        elif state in (key, key_or_end):
            stop, simple = _after_string(data, place, end)
            if stop < 0:
                return False
            if depth == 1:
                if simple:
                    wanted = _which(data, place + 1, stop - 1, names, name_offsets)
                else:
                    name = _unescaped(data, place + 1, stop - 1)
                    wanted = _which(name, 0, len(name), names, name_offsets)
                if wanted >= 0 and kinds[wanted] != ABSENT:
                    return False
            place = _after_blanks(data, stop, end)
            if place == end or data[place] != 58:
                return False
            place = _after_blanks(data, place + 1, end)
            state = value
        else:
            top = depth == 1 and wanted >= 0
            if top:
                cell_begins[wanted] = place
            if c == 123 or c == 91:
                if depth == _DEEPEST:
                    return False
                depth += 1
                levels = (levels << np.uint64(1)) | np.uint64(c == 123)
                place += 1
                state = key_or_end if c == 123 else value_or_end
                continue
            if c == _QUOTE:
                stop, simple = _after_string(data, place, end)
                kind = PLAIN if simple else ESCAPED
            elif c == 45 or 48 <= c <= 57:
                stop, is_integer = _after_number(data, place, end)
                kind = INTEGER if is_integer else OTHER
            else:
                stop = _after_literal(data, place, end)
                kind = NULL if c == 110 else OTHER
            if stop < 0:
                return False
            if top:
                is_string = kind in (PLAIN, ESCAPED)
                cell_begins[wanted], cell_ends[wanted] = place + is_string, stop - is_string
                kinds[wanted] = kind
            place = stop
            state = after


@kernel
def _which(data: Any, begin: int, end: int, names: Any, name_offsets: Any) -> int:
    """The number of the key that stands here, or -1."""
    for name in range(len(name_offsets) - 1):
        first, length = name_offsets[name], name_offsets[name + 1] - name_offsets[name]
        if length == end - begin:
            same = 0
            while same < length and data[begin + same] == names[first + same]:
                same += 1
            if same == length:
                return name
    return -1


@kernel
def _after_string(data: Any, place: int, end: int) -> Any:
    """The place behind a string and whether it has no backslash; -1 when it is none, or holds half a character."""
    if data[place] != _QUOTE:
        return -1, False
    simple = True
    place += 1
    while place < end:
        c = data[place]
        if c == _QUOTE:
            return place + 1, simple
        if c < 32:
            return -1, False
        if c == _BACKSLASH:
            simple = False
            unit = _escaped(data, place, end)
            if unit < 0 or 0xDC00 <= unit < 0xE000:
                return -1, False
            place += 6 if data[place + 1] == 117 else 2
            if 0xD800 <= unit < 0xDC00:
                if place >= end or data[place] != _BACKSLASH or not 0xDC00 <= _escaped(data, place, end) < 0xE000:
                    return -1, False
                place += 6
        else:
            place += 1
    return -1, False


@kernel
def _escaped(data: Any, place: int, end: int) -> int:
    """The UTF-16 unit an escape stands for, -1 when it is none."""
    if place + 1 >= end:
        return -1
    c = data[place + 1]
    if c == 117:
        if place + 6 > end:
            return -1
        unit = 0
        for k in range(place + 2, place + 6):
            digit = int(data[k])
            if 48 <= digit <= 57:
                digit -= 48
            elif 97 <= digit | 32 <= 102:
                digit = (digit | 32) - 87
            else:
                return -1
            unit = unit * 16 + digit
        return unit
    if c == 34 or c == 47 or c == 92:
        return int(c)
    if c == 98:
        return 8
    if c == 102:
        return 12
    if c == 110:
        return 10
    if c == 114:
        return 13
    if c == 116:
        return 9
    return -1


@inlined
def _after_digits(data: Any, place: Any, end: Any) -> Any:
    while place < end and 48 <= data[place] <= 57:
        place += 1
    return place


@kernel
def _after_number(data: Any, place: int, end: int) -> Any:
    """The place behind a number and whether it is whole and as Python would write it; -1 when it is none."""
    first = place
    place += data[place] == 45
    digits = place
    place = _after_digits(data, place, end)
    # Python refuses numbers of very many digits.
    if place == digits or (data[digits] == 48 and place - digits > 1) or place - digits > 4000:
        return -1, False
    is_integer = not (data[first] == 45 and data[digits] == 48)  # "-0" is 0
    if place < end and data[place] == 46:
        digits = place + 1
        place = _after_digits(data, digits, end)
        if place == digits:
            return -1, False
        is_integer = False
    if place < end and data[place] | 32 == 101:
        place += 1
        if place < end and (data[place] == 43 or data[place] == 45):
            place += 1
        digits = place
        place = _after_digits(data, digits, end)
        if place == digits:
            return -1, False
        is_integer = False
    return place, is_integer


@kernel
def _after_literal(data: Any, place: int, end: int) -> int:
    """The place behind ``true``, ``false`` or ``null``, -1 when it is none of them."""
    for word in (b"true", b"false", b"null"):
        if place + len(word) <= end:
            same = 0
            while same < len(word) and data[place + same] == word[same]:
                same += 1
            if same == len(word):
                return place + same
    return -1


@kernel
def _scan_records(
    data: Any,
    delimiter: int,
    wanted: Any,
    longest: int,
    at_end: bool,
    begins: Any,
    ends: Any,
    lines: Any,
    widths: Any,
    faults: Any,
    cell_begins: Any,
    cell_ends: Any,
    kinds: Any,
) -> Any:
    """Read record after record. Returns how many there are, the bytes they take, and the line ends in them."""
    data, wanted, begins, ends, lines = borrowed((data, wanted, begins, ends, lines))
    widths, faults, cell_begins, cell_ends, kinds = borrowed((widths, faults, cell_begins, cell_ends, kinds))
    n, place, line = 0, 0, 0
    while place < len(data):
        if data[place] == _NEWLINE or data[place] == _RETURN:
            if data[place] == _RETURN and place + 1 == len(data) and not at_end:
                break  # a line feed may follow
            place = _after_line_end(data, place)
            line += 1
            continue
        stop, width, fault = _scan_record(
            data, place, delimiter, wanted, longest, at_end, cell_begins[n], cell_ends[n], kinds[n]
        )
        if fault == INCOMPLETE:
            break
        if fault != SOUND:
            stop = place
            while stop < len(data) and data[stop] != _NEWLINE and data[stop] != _RETURN:
                stop += 1
            # Of a carriage return, whether a line feed follows must be known.
            if not at_end and (stop == len(data) or (data[stop] == _RETURN and stop + 1 == len(data))):
                break
            stop = _after_line_end(data, stop)
        begins[n], ends[n], lines[n], widths[n], faults[n] = place, stop, line, width, fault
        line += _line_ends(data, place, stop)
        place = stop
        n += 1
    return n, place, line


@kernel
def _after_line_end(data: Any, place: int) -> int:
    if place + 1 < len(data) and data[place] == _RETURN and data[place + 1] == _NEWLINE:
        return place + 2
    return min(place + 1, len(data))


@kernel
def _line_ends(data: Any, place: int, stop: int) -> int:
    count = 0
    while place < stop:
        if data[place] == _NEWLINE or data[place] == _RETURN:
            count += 1
            place = _after_line_end(data, place)
        else:
            place += 1
    return count


@kernel
def _scan_record(
    data: Any, place: int, delimiter: int, wanted: Any, longest: int, at_end: bool, begins: Any, ends: Any, kinds: Any
) -> Any:
    """Read one record. Returns the place behind it, how many cells it has, and its fault."""
    width = 0
    while True:
        begin, kind = place, PLAIN
        if place < len(data) and data[place] == _QUOTE:
            begin = place = place + 1
            while True:
                while place < len(data) and data[place] != _QUOTE:
                    place += 1
                if place - begin > longest:
                    return place, width, TOO_LONG
                if place == len(data):
                    return place, width, UNCLOSED if at_end else INCOMPLETE
                if place + 1 < len(data) and data[place + 1] == _QUOTE:
                    kind = DOUBLED
                    place += 2
                else:
                    break
            end = place
            place += 1
            if place == len(data):
                if not at_end:
                    return place, width, INCOMPLETE
            elif data[place] != delimiter and data[place] != _NEWLINE and data[place] != _RETURN:
                return place, width, BAD_QUOTE
        else:
            while place < len(data) and data[place] != delimiter and data[place] != _NEWLINE and data[place] != _RETURN:
                place += 1
            end = place
            if end - begin > longest:
                return place, width, TOO_LONG
        for column in range(len(wanted)):
            if wanted[column] == width:
                begins[column], ends[column], kinds[column] = begin, end, kind
        width += 1
        if place == len(data) or data[place] != delimiter:
            break
        place += 1
    # A record is whole when its line end is.
    if not at_end and (place == len(data) or (data[place] == _RETURN and place + 1 == len(data))):
        return place, width, INCOMPLETE
    return _after_line_end(data, place), width, SOUND


@kernel
def _copy_strings(data: Any, begins: Any, ends: Any, kinds: Any) -> Any:
    """The characters of cells, one after the other, as UTF-8, and where each begins and ends."""
    longest = 0
    for row in range(len(kinds)):
        if kinds[row] > NULL:
            longest += ends[row] - begins[row]
    copied, offsets = np.empty(longest, np.uint8), np.zeros(len(kinds) + 1, np.int64)
    filled = 0
    for row in range(len(kinds)):
        place, end = begins[row], ends[row]
        if kinds[row] <= NULL:
            place = end
        while place < end:
            c = data[place]
            if kinds[row] == ESCAPED and c == _BACKSLASH:
                place, filled = _unescape(data, place, end, copied, filled)
                continue
            copied[filled] = c
            filled += 1
            place += 2 if kinds[row] == DOUBLED and c == _QUOTE else 1
        offsets[row + 1] = filled
    return copied[:filled], offsets


@kernel
def _unescaped(data: Any, place: int, end: int) -> Any:
    copied = np.empty(end - place, np.uint8)
    filled = 0
    while place < end:
        if data[place] == _BACKSLASH:
            place, filled = _unescape(data, place, end, copied, filled)
        else:
            copied[filled] = data[place]
            place, filled = place + 1, filled + 1
    return copied[:filled]


@kernel
def _unescape(data: Any, place: int, end: int, copied: Any, filled: int) -> Any:
    """Write the character of an escape, or of two that are one character, as UTF-8, which is never longer."""
    c = _escaped(data, place, end)
    place += 6 if data[place + 1] == 117 else 2
    if 0xD800 <= c < 0xDC00:
        c = 0x10000 + ((c - 0xD800) << 10) + (_escaped(data, place, end) - 0xDC00)
        place += 6
    if c < 0x80:
        copied[filled] = c
        return place, filled + 1
    if c < 0x800:
        copied[filled], copied[filled + 1] = 0xC0 | c >> 6, 0x80 | c & 0x3F
        return place, filled + 2
    if c < 0x10000:
        copied[filled], copied[filled + 1] = 0xE0 | c >> 12, 0x80 | c >> 6 & 0x3F
        copied[filled + 2] = 0x80 | c & 0x3F
        return place, filled + 3
    copied[filled], copied[filled + 1] = 0xF0 | c >> 18, 0x80 | c >> 12 & 0x3F
    copied[filled + 2], copied[filled + 3] = 0x80 | c >> 6 & 0x3F, 0x80 | c & 0x3F
    return place, filled + 4
