"""The rules of ``paragraphs`` for many texts at once, as code points.

Owns the sieves: kernels that see of most lines at one glance that they are plain body text or headings, and leave the
few that may be anything else to the rules. Refuses to know the rules themselves, words and models.

    code points ─ lines ─ trimmed ─┬─ may have what a dateline, byline or footer cannot do without ─ paragraphs
                                   └─ all others, by far the most: body, or short and without a closing mark: heading
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import duanti.paragraphs as rules
from duanti.compilation import inlined, kernel
from duanti.paragraphs import Kind

#: What ``Lines.kinds`` numbers.
KINDS: tuple[Kind, ...] = ("body", "heading", "lead", "byline", "boilerplate")
_BODY, _HEADING, _DOUBTFUL = 0, 1, len(KINDS)


class Lines(NamedTuple):
    """The paragraphs of texts, those of one text after those of the other."""

    texts: NDArray[np.int64]  # the text each is of
    begins: NDArray[np.int64]  # where its matter begins and ends in the code points of all texts
    ends: NDArray[np.int64]
    kinds: NDArray[np.int8]  # numbers of KINDS


def split_texts(values: NDArray[np.uint32], offsets: NDArray[np.int64]) -> Lines:
    """Split many documents into their paragraphs: ``split_paragraphs``, without a string per line.

    ``values`` are the code points of all texts, ``offsets`` (n_texts + 1) where each begins.
    """
    marks = _marks()
    room = _count_line_ends(values, offsets[0], offsets[-1], marks.classes) + len(offsets) - 1
    texts, begins, ends = np.empty((3, room), np.int64)
    kinds = np.empty(room, np.int8)
    filled = _find_lines(values, offsets, marks, texts, begins, ends, kinds)
    lines = Lines(texts[:filled], begins[:filled], ends[:filled], kinds[:filled])
    for i in np.flatnonzero(lines.kinds == _DOUBTFUL).tolist():
        paragraph = rules.paragraph_of(_string(values, begins[i], ends[i]))
        begins[i], ends[i] = begins[i] + paragraph.start, begins[i] + paragraph.end
        kinds[i] = KINDS.index(paragraph.kind)
    return lines


def matter_spans(values: NDArray[np.uint32], offsets: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the matter of many texts begins and ends in ``values``: ``matter``, without a string per text."""
    begins, ends = offsets[:-1].copy(), offsets[1:].copy()
    for i in np.flatnonzero(_may_be_narrowed(values, offsets, _marks())).tolist():
        start, end = rules.matter_span(_string(values, begins[i], ends[i]))
        begins[i], ends[i] = begins[i] + start, begins[i] + end
    return begins, ends


def _string(values: NDArray[np.uint32], begin: int, end: int) -> str:
    return values[begin:end].tobytes().decode("utf-32-le", "surrogatepass")


# What every dateline and every byline at the end of a line has: one of the first within so many characters of the
# line's own, and one of the second before rules.HEAD; a closing bracket as the last character, or the one before it.
_OF_MEDIUM, _OF_REPORT, _CLOSING = frozenset("社网报刊台视浪狐讯凰"), frozenset("电讯息道"), frozenset(")】]")
_MEDIUM_BEFORE = 13
# What every line that is a byline begins with: one of these, or one of these pairs. Pairs that stand together share a
# bit and may be mixed: it is a sieve.
_OPENING, _STATIONED = frozenset("([【"), "驻"
_BYLINE_PAIRS = (
    ("本报", "本网", "本刊", "本台"),
    ("见习", "实习"),
    ("特派", "特约"),
    ("记者", "作者"),
    ("通讯",),
    ("摄影",),
    ("撰文", "供稿"),
    ("编译",),
    ("整理",),
    ("策划",),
    ("文/", "图/", "图文"),
    ("来源", "稿源"),
    ("原标",),
    ("文章",),
    ("稿件",),
    ("信息",),
)
# What every footer has: this sign, or one of these pairs.
_SIGN = "©"
_FOOTER_PAIRS = (
    ("版权",),
    ("声明",),
    ("编辑", "责编"),
    ("校对",),
    ("审校", "审核"),
    ("监制",),
    ("终审",),
    ("未经",),
    ("注明",),
    ("安备", "可证"),
    ("py",),  # copyright
    ("(c",),
    ("rv",),  # all rights reserved
    ("cp",),  # icp
)
_IS_SPACE, _IS_LINE_END, _IS_EDGE = 1, 2, 4
_IS_OF_MEDIUM, _IS_OF_REPORT, _IS_OPENING, _IS_CLOSING, _IS_STATIONED = 8, 16, 32, 64, 128
_IS_STOP, _IS_TRAILER, _IS_UNSURE = 256, 512, 1024  # unsure: folded, it is several characters of pairs, or none
# Beyond the basic plane, where the table ends, everything may be anything but space.
_BEYOND = _IS_OF_MEDIUM | _IS_OF_REPORT | _IS_OPENING | _IS_CLOSING | _IS_UNSURE


class _Pairs(NamedTuple):
    """Of which pairs each code point of the basic plane is a part when it is folded, a bit for each."""

    firsts: NDArray[np.uint16]  # (65536,)
    seconds: NDArray[np.uint16]


class _Marks(NamedTuple):
    """What each code point of the basic plane may be when it is folded."""

    classes: NDArray[np.uint16]  # (65536,) bits
    footer: _Pairs
    byline: _Pairs


@lru_cache(maxsize=1)
def _marks() -> _Marks:
    plane = "".join(map(chr, range(1 << 16)))
    arrays = np.zeros((5, 1 << 16), np.uint16)
    marks = _Marks(arrays[0], _Pairs(arrays[1], arrays[2]), _Pairs(arrays[3], arrays[4]))
    of_pairs = {c for groups in (_FOOTER_PAIRS, _BYLINE_PAIRS) for group in groups for pair in group for c in pair}
    signs = {*_OF_MEDIUM, *_OF_REPORT, *_OPENING, *_CLOSING, _STATIONED, _SIGN, *of_pairs, *map(str.upper, of_pairs)}
    signs |= {*rules.CLOSING_MARKS, *rules.AFTER_CLOSING_MARK}
    for character in {c for c in plane if unicodedata.decomposition(c) or c.isspace()} | signs:
        form = unicodedata.normalize("NFKC", character)
        marks.classes[ord(character)] = _classes_of(form, of_pairs)
        for pairs, groups in ((marks.footer, _FOOTER_PAIRS), (marks.byline, _BYLINE_PAIRS)):
            for bit, group in enumerate(groups):
                pairs.firsts[ord(character)] |= (form.lower() in {pair[0] for pair in group}) << bit
                pairs.seconds[ord(character)] |= (form.lower() in {pair[1] for pair in group}) << bit
    for character in rules.INVISIBLE.findall(plane):
        # Folding drops it, and brings its neighbours together.
        marks.classes[ord(character)] = _IS_SPACE | _IS_TRAILER | _IS_UNSURE
    for pattern, bit in ((rules.EDGE, _IS_EDGE), (rules.LINE_END, _IS_LINE_END)):
        marks.classes[[ord(character) for character in pattern.findall(plane)]] |= bit
    return marks


def _classes_of(form: str, of_pairs: set[str]) -> int:
    """The bits of a character, by its form."""
    content, before = form.strip(), form.rstrip(rules.AFTER_CLOSING_MARK)
    is_unsure = form == _SIGN or (len(form) > 1 and not of_pairs.isdisjoint(form.lower()))
    return (
        (not content) * _IS_SPACE
        | (not _OF_MEDIUM.isdisjoint(form)) * _IS_OF_MEDIUM
        | (not _OF_REPORT.isdisjoint(form)) * _IS_OF_REPORT
        | (content[:1] in _OPENING) * _IS_OPENING
        | (not _CLOSING.isdisjoint(form)) * _IS_CLOSING
        | (content[:1] == _STATIONED) * _IS_STATIONED
        | (not before) * _IS_TRAILER
        | (before != "" and before[-1] in rules.CLOSING_MARKS) * _IS_STOP
        | is_unsure * _IS_UNSURE
    )


@kernel
def _class_of(c: Any, classes: Any) -> Any:
    return classes[c] if c < len(classes) else np.uint16(_BEYOND)


@kernel
def _count_line_ends(values: Any, begin: int, end: int, classes: Any) -> int:
    n = 0
    for place in range(begin, end):
        n += _class_of(values[place], classes) & _IS_LINE_END != 0
    return n


@kernel
def _find_lines(values: Any, offsets: Any, marks: _Marks, texts: Any, begins: Any, ends: Any, kinds: Any) -> int:
    """Write the lines that are not blank, trimmed, and what each is; returns how many there are."""
    classes = marks.classes
    filled = 0
    for i in range(len(offsets) - 1):
        place = offsets[i]
        while place < offsets[i + 1]:
            begin = place
            while place < offsets[i + 1] and _class_of(values[place], classes) & _IS_LINE_END == 0:
                place += 1
            end = place
            while begin < end and _class_of(values[begin], classes) & _IS_EDGE:
                begin += 1
            while begin < end and _class_of(values[end - 1], classes) & _IS_EDGE:
                end -= 1
            if begin < end:
                texts[filled], begins[filled], ends[filled] = i, begin, end
                kinds[filled] = _kind_of(values, begin, end, marks)
                filled += 1
            place += 1
    return filled


@kernel
def _kind_of(values: Any, begin: int, end: int, marks: _Marks) -> int:
    classes, length = marks.classes, end - begin
    if (
        (length <= rules.FOOTER_MAX_LENGTH and _may_be_footer(values, begin, end, marks))
        or (length <= rules.TAIL and _may_be_byline(values, begin, end, marks))
        or _may_have_source(values, begin, end, classes)
    ):
        return _DOUBTFUL
    return _heading_or_body(values, begin, end, classes) if length <= rules.HEADING_MAX_LENGTH else _BODY


@kernel
def _may_be_footer(values: Any, begin: int, end: int, marks: _Marks) -> bool:
    before = np.uint16(0)  # pairs whose first was the last character
    for place in range(begin, end):
        c = values[place]
        if _class_of(c, marks.classes) & _IS_UNSURE or before & marks.footer.seconds[c]:
            return True
        before = marks.footer.firsts[c]
    return False


@kernel
def _may_be_byline(values: Any, begin: int, end: int, marks: _Marks) -> bool:
    """By its first two characters; a bracket must also be closed at its end."""
    classes, place = marks.classes, begin
    while place < end and _class_of(values[place], classes) & _IS_SPACE:
        place += 1
    if place == end:
        return False
    first = _class_of(values[place], classes)
    if first & _IS_OPENING and _may_have_byline(values, begin, end, classes):
        return True
    if first & (_IS_STATIONED | _IS_UNSURE):
        return True
    if place + 1 == end:
        return False
    return bool(
        _class_of(values[place + 1], classes) & _IS_UNSURE
        or marks.byline.firsts[values[place]] & marks.byline.seconds[values[place + 1]]
    )


@kernel
def _heading_or_body(values: Any, begin: int, end: int, classes: Any) -> int:
    """By the last character that may be a closing mark."""
    for place in range(end - 1, begin - 1, -1):
        if values[place] >= len(classes):
            return _DOUBTFUL
        c = classes[values[place]]
        if c & _IS_TRAILER == 0:
            return _BODY if c & _IS_STOP else _HEADING
    return _HEADING


@kernel
def _may_be_narrowed(values: Any, offsets: Any, marks: _Marks) -> Any:
    """Which texts have what a dateline or a byline cannot do without: most of what this keeps has neither."""
    kept = np.zeros(len(offsets) - 1, np.bool_)
    for i in range(len(kept)):
        kept[i] = _may_have_source(values, offsets[i], offsets[i + 1], marks.classes)
    return kept


@inlined
def _may_have_source(values: Any, begin: int, end: int, classes: Any) -> bool:
    """Whether a text may open with a dateline or close with a byline."""
    return _may_have_dateline(values, begin, end, classes) or (
        end - begin >= rules.BYLINE_MIN_LENGTH and _may_have_byline(values, begin, end, classes)
    )


@kernel
def _may_have_dateline(values: Any, begin: int, end: int, classes: Any) -> bool:
    seen = 0
    found = False
    head = min(end, begin + rules.HEAD)
    for place in range(begin, head):
        c = _class_of(values[place], classes)
        if c & _IS_SPACE == 0:
            seen += 1
            found = c & _IS_OF_MEDIUM != 0
        if found or seen == _MEDIUM_BEFORE:
            break
    if found:
        for place in range(begin, head):
            if _class_of(values[place], classes) & _IS_OF_REPORT:
                return True
    return False


@kernel
def _may_have_byline(values: Any, begin: int, end: int, classes: Any) -> bool:
    seen = 0
    for place in range(end - 1, begin - 1, -1):
        c = _class_of(values[place], classes)
        if c & _IS_CLOSING:
            return True
        if c & _IS_SPACE == 0:
            seen += 1
            if seen == 2:
                break
    return False
