"""Text into jieba's tokens, token for token, as boundaries over code points.

Owns the kernels that do what ``jieba.cut`` does, and ``Segmenter``. Refuses to know terms, weights and files.

    text ─ blocks [一-鿕a-zA-Z0-9+#&._%-]+ ─┬─ best path through the dictionary ─ runs of single characters ─ HMM
                                             └─ outside of blocks every character is a token, but \\r\\n is one
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from duanti.arrow import large_strings
from duanti.compilation import announce, borrowed, code_folder, inlined, kernel
from duanti.errors import DataError
from duanti.lexicon import HAN_FIRST, HAN_LAST, Lexicon, load_lexicon, read_only

# A batch of texts: strings, or an Arrow array of strings of any kind.
Texts: TypeAlias = Sequence[str] | pa.Array | pa.ChunkedArray
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Below this many code points a second thread costs more than it saves.
_CODE_POINTS_PER_THREAD = 50_000
_END, _SINGLE = 1, 3  # states of the HMM, in the order B E M S


class CodePoints(NamedTuple):
    """Texts one after the other: their code points, and where each begins and ends (n_texts + 1)."""

    values: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, texts: Texts | CodePoints) -> CodePoints:
        """Lay texts out, if they are not yet.

        Lone surrogates, which no file can hold, stay as they are, and null is an empty text.

        Raises
        ------
        DataError
            when an Arrow array holds no strings, or bytes that are not UTF-8
        """
        if isinstance(texts, CodePoints):
            return texts
        if isinstance(texts, pa.Array | pa.ChunkedArray):
            return cls.of_arrow(texts)
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        data = "".join(texts).encode("utf-32-le", "surrogatepass")
        return cls(np.frombuffer(data, dtype="<u4"), read_only(np.concatenate(([0], np.cumsum(lengths)))))

    @classmethod
    def of_arrow(cls, array: pa.Array | pa.ChunkedArray) -> CodePoints:
        """Lay out an array of strings of any of Arrow's kinds, without an object for each."""
        kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
        if kind not in (pa.string(), pa.large_string(), pa.string_view(), pa.null()):
            raise DataError(f"an Arrow array of {array.type} where texts are expected. Cast it to strings.")
        try:
            array.validate(full=True)
        except pa.ArrowInvalid as error:
            raise DataError(f"an Arrow array of texts is damaged: {error}. Write it as UTF-8.") from None
        array = array.cast(pa.large_string())
        if array.null_count:
            array = array.fill_null("")
        if isinstance(array, pa.ChunkedArray):
            array = array.combine_chunks()
        _, offsets, data = array.buffers()
        first = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
        values, offsets = _decode_utf8(np.frombuffer(data or b"", np.uint8), first)
        return cls(read_only(values), read_only(offsets))

    def texts(self) -> list[str]:
        """The texts as strings."""
        return [
            self.values[begin:end].tobytes().decode("utf-32-le", "surrogatepass")
            for begin, end in pairwise(self.offsets.tolist())
        ]

    def strings(self, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> pa.LargeStringArray:
        """Parts of the texts, from ``begins`` to ``ends`` in ``values``, as Arrow's strings."""
        offsets, data = _encode_utf8(self.values, begins, ends)
        return large_strings(offsets, data, np.ones(len(begins), np.bool_))

    @property
    def longest(self) -> int:
        """Code points of the longest text."""
        return int(np.diff(self.offsets).max(initial=0))

    def slice(self, first: int, last: int) -> CodePoints:
        """Texts ``first`` to ``last``, half open, without copying."""
        return CodePoints(self.values, self.offsets[first : last + 1])

    def narrowed(self, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> CodePoints:
        """The part of each text that stands in ``values`` from its ``begins`` to its ``ends``."""
        if np.array_equal(begins, self.offsets[:-1]) and np.array_equal(ends, self.offsets[1:]):
            return self
        offsets = np.concatenate([[0], np.cumsum(ends - begins)])
        return CodePoints(_copy_parts(self.values, begins, offsets), offsets)


class Segmenter:
    """jieba's segmentation without its process-wide state, many texts at once in threads.

    Parameters
    ----------
    user_words
        words the dictionary shall know besides its own, by ``jieba.add_word``'s rules, in this order
    hmm
        whether runs of single characters are joined by jieba's hidden Markov model
    n_jobs
        threads for ``cut_all``; None: all cores this process may use. The tokens never depend on it.

    >>> Segmenter().cut("他来到了网易杭研大厦")
    ['他', '来到', '了', '网易', '杭研', '大厦']
    """

    def __init__(self, *, user_words: Iterable[str] = (), hmm: bool = True, n_jobs: int | None = None) -> None:
        if isinstance(user_words, str):
            raise ValueError(f"user_words={user_words!r}: give a sequence of words, not a single string.")
        self.user_words = tuple(user_words)
        self.hmm = hmm
        self.n_jobs = n_jobs

    def cut(self, text: str) -> list[str]:
        """Return the tokens of one text, in order; joined they are the text."""
        return self.cut_all([text])[0]

    def cut_all(self, texts: Texts) -> list[list[str]]:
        """Return the tokens of each text, in order."""
        batch = CodePoints.of(texts)
        if not isinstance(texts, Sequence):
            texts = batch.texts()
        tokens: list[list[str]] = []
        for part, (ends, offsets) in in_slices(batch, self.boundaries, self.n_jobs):
            for number, text in enumerate(texts[part]):
                bounds = ends[offsets[number] : offsets[number + 1]].tolist()
                tokens.append([text[a:b] for a, b in zip([0, *bounds[:-1]], bounds, strict=True)] if bounds else [])
        return tokens

    def boundaries(self, batch: CodePoints) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return where the tokens of each text end, counted from its beginning, and which are whose (n_texts + 1)."""
        return token_ends(batch, load_lexicon(self.user_words), self.hmm)


def token_ends(batch: CodePoints, lexicon: Lexicon, hmm: bool) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return ``Segmenter.boundaries`` of texts by a given lexicon, such as the one a model carries."""
    announce("compiling kernels (half a minute)", code_folder())
    ends = np.empty(batch.offsets[-1] - batch.offsets[0], np.int32)
    offsets = np.empty_like(batch.offsets)
    _segment_texts(*batch, lexicon, hmm, make_scratch(batch.longest), ends, offsets)
    return ends[: offsets[-1]], offsets  # what lies behind was never touched, and takes no memory


def in_slices(
    batch: CodePoints, work: Callable[[CodePoints], _Result], n_jobs: int | None
) -> Iterator[tuple[slice, _Result]]:
    """Do ``work`` on slices of a batch in threads, and yield each slice of texts with its result, in order."""
    n_threads = min(
        n_jobs or available_cores(), 1 + int(batch.offsets[-1] - batch.offsets[0]) // _CODE_POINTS_PER_THREAD
    )
    if n_threads <= 1:
        yield slice(0, len(batch.offsets) - 1), work(batch)
        return
    # Cut where the code points are even, not the texts: one of them may be a book.
    targets = np.linspace(batch.offsets[0], batch.offsets[-1], n_threads + 1)
    cuts = [*np.searchsorted(batch.offsets[:-1], targets[:-1]).tolist(), len(batch.offsets) - 1]
    results = in_threads(work, [batch.slice(first, last) for first, last in pairwise(cuts)])
    for (first, last), result in zip(pairwise(cuts), results, strict=True):
        yield slice(first, last), result


def in_threads(work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Do ``work`` on each item, all at once."""
    if len(items) <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(work, items))


def available_cores() -> int:
    """Number of cores this process may use, which on shared machines is fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Scratch(NamedTuple):
    """Memory one thread segments in, for texts of up to so many code points."""

    codes: NDArray[np.uint16]  # trie codes of the text
    best_score: NDArray[np.float64]
    best_end: NDArray[np.int32]
    came_from: NDArray[np.uint8]
    states: NDArray[np.uint8]


@kernel
def _decode_utf8(data: Any, offsets: Any) -> Any:
    """Code points of valid UTF-8, and where each text's begin and end."""
    starts = np.zeros(len(offsets), np.int64)
    n = 0
    for i in range(len(offsets) - 1):
        for place in range(offsets[i], offsets[i + 1]):
            n += data[place] & 0xC0 != 0x80
        starts[i + 1] = n
    values = np.empty(n, np.uint32)
    place = offsets[0]
    for k in range(n):
        c = np.uint32(data[place])
        if c < 0x80:
            place += 1
        elif c < 0xE0:
            c = (c & 0x1F) << 6 | data[place + 1] & 0x3F
            place += 2
        elif c < 0xF0:
            c = (c & 0x0F) << 12 | (data[place + 1] & 0x3F) << 6 | data[place + 2] & 0x3F
            place += 3
        else:
            c = (c & 0x07) << 12 | (data[place + 1] & 0x3F) << 6 | data[place + 2] & 0x3F
            c = c << 6 | data[place + 3] & 0x3F
            place += 4
        values[k] = c
    return values, starts


@kernel
def _encode_utf8(values: Any, begins: Any, ends: Any) -> Any:
    """Where each part begins and ends as UTF-8 (n_parts + 1), and all of it."""
    offsets = np.zeros(len(begins) + 1, np.int64)
    for i in range(len(begins)):
        n = 0
        for place in range(begins[i], ends[i]):
            c = values[place]
            n += 1 + (c >= 0x80) + (c >= 0x800) + (c >= 0x10000)
        offsets[i + 1] = offsets[i] + n
    data = np.empty(offsets[len(begins)], np.uint8)
    filled = 0
    for i in range(len(begins)):
        for place in range(begins[i], ends[i]):
            filled = write_utf8(data, filled, values[place])
    return offsets, data


@kernel
def write_utf8(data: Any, place: int, character: Any) -> int:
    """Write one code point as UTF-8; returns where the next one goes."""
    c = np.int64(character)
    if c < 0x80:
        data[place] = c
        return place + 1
    if c < 0x800:
        data[place] = 0xC0 | c >> 6
        data[place + 1] = 0x80 | c & 63
        return place + 2
    if c < 0x10000:
        data[place] = 0xE0 | c >> 12
        data[place + 1] = 0x80 | c >> 6 & 63
        data[place + 2] = 0x80 | c & 63
        return place + 3
    data[place] = 0xF0 | c >> 18
    data[place + 1] = 0x80 | c >> 12 & 63
    data[place + 2] = 0x80 | c >> 6 & 63
    data[place + 3] = 0x80 | c & 63
    return place + 4


@kernel
def _copy_parts(values: Any, begins: Any, offsets: Any) -> Any:
    parts = np.empty(offsets[-1], np.uint32)
    for i in range(len(begins)):
        for k in range(offsets[i + 1] - offsets[i]):
            parts[offsets[i] + k] = values[begins[i] + k]
    return parts


def make_scratch(longest: int) -> Scratch:
    """Return the memory that texts of up to ``longest`` code points need."""
    return Scratch(
        np.empty(longest, np.uint16),
        np.empty(longest + 1, np.float64),
        np.empty(longest + 1, np.int32),
        np.empty(longest + 1, np.uint8),
        np.empty(longest + 1, np.uint8),
    )


@kernel
def _segment_texts(
    values: Any, offsets: Any, lexicon: Lexicon, hmm: bool, scratch: Scratch, ends: Any, token_offsets: Any
) -> None:
    """Segment texts one after the other: the ends of their tokens, and each text's share of them."""
    values, offsets, lexicon, scratch, ends = borrowed((values, offsets, lexicon, scratch, ends))
    token_offsets[0] = 0
    for i in range(len(offsets) - 1):
        filled = token_offsets[i]
        text = values[offsets[i] : offsets[i + 1]]
        token_offsets[i + 1] = filled + segment(text, lexicon, hmm, scratch, ends[filled:])


@inlined
def segment(text: Any, lexicon: Lexicon, hmm: bool, scratch: Any, ends: Any) -> int:
    """Write the end of each of jieba's tokens into ``ends``; return how many there are."""
    n = len(text)
    filled = 0
    i = 0
    while i < n:
        if in_block(text[i]):
            last = i + 1
            while last < n and in_block(text[last]):
                last += 1
            _find_best_path(text, i, last, lexicon, scratch)
            if hmm:
                filled = _tokens_with_hmm(text, i, last, lexicon, scratch, ends, filled)
            else:
                filled = _tokens_without_hmm(text, i, last, scratch, ends, filled)
            i = last
        else:
            i += 2 if text[i] == 13 and i + 1 < n and text[i + 1] == 10 else 1
            ends[filled] = i
            filled += 1
    return filled


@kernel
def is_han(c: int) -> bool:
    """Whether finalseg takes this code point for Han: [一-鿕]."""
    return HAN_FIRST <= c <= HAN_LAST


@kernel
def is_alphanumeric(c: int) -> bool:
    """Whether this code point is an ASCII letter or digit."""
    return 48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122


@kernel
def in_block(c: int) -> bool:
    """Whether jieba looks for words here: [一-鿕a-zA-Z0-9+#&._%-]."""
    # + # & . _ % -
    return is_han(c) or is_alphanumeric(c) or c == 43 or c == 35 or c == 38 or c == 46 or c == 95 or c == 37 or c == 45


@inlined
def _find_best_path(text: Any, first: int, last: int, lexicon: Lexicon, scratch: Any) -> None:
    """``Tokenizer.calc``: for each position the best word to begin there, found from the back.

    Sums are taken in jieba's order, (ln f - ln total) + rest, and of equal ones the longer word wins.
    """
    # Unsigned throughout: a signed index is looked at for being negative.
    cells, links = lexicon.cells, lexicon.cells.view(np.uint32)
    codes, score, end = scratch.codes, scratch.best_score, scratch.best_end
    unknown = lexicon.unknown[0]
    score[last] = 0.0
    for i in range(last - 1, first - 1, -1):
        codes[i] = lexicon.codes[text[i]]
        best, best_end = -np.inf, i
        state = np.uint64(0)
        for j in range(i, last):
            code = np.uint64(codes[j])
            following = np.uint64(links[state, 0]) + code
            if code == 0 or np.uint64(links[following, 1]) != state:
                break
            state = following
            # Where no word ends this is NaN, and nothing is at least as good as NaN.
            total = cells[state, 1] + score[j + 1]
            if total >= best:
                best, best_end = total, j + 1
        if best_end == i:
            best, best_end = unknown + score[i + 1], i + 1
        score[i], end[i] = best, best_end


@inlined
def _tokens_with_hmm(text: Any, first: int, last: int, lexicon: Lexicon, scratch: Any, ends: Any, filled: int) -> int:
    """``Tokenizer.__cut_DAG``: words of the path; what lies between them in single characters is looked at again."""
    best_end = scratch.best_end
    run = first  # where the present run of single characters begins
    i = first
    while i < last:
        j = best_end[i]
        if j - i > 1 or j == last:
            stop = i if j - i > 1 else last
            # Runs of one are by far the most, and a call costs more than all else here.
            if stop - run == 1:
                ends[filled] = stop
                filled += 1
            elif stop > run:
                filled = _end_run(text, run, stop, lexicon, scratch, ends, filled)
            if j - i > 1:
                ends[filled] = j
                filled += 1
            run = j
        i = j
    return filled


@kernel
def _end_run(text: Any, first: int, last: int, lexicon: Lexicon, scratch: Any, ends: Any, filled: int) -> int:
    """A run of single characters: a dictionary word stays apart in characters, all else goes to finalseg."""
    if _is_word(first, last, lexicon, scratch):
        for i in range(first, last):
            ends[filled] = i + 1
            filled += 1
        return filled
    i = first
    while i < last:
        j = i + 1
        if is_han(text[i]):
            while j < last and is_han(text[j]):
                j += 1
            filled = _viterbi_tokens(text, i, j, lexicon, scratch, ends, filled)
        else:
            while j < last and not is_han(text[j]):
                j += 1
            filled = _other_tokens(text, i, j, ends, filled)
        i = j
    return filled


@kernel
def _is_word(first: int, last: int, lexicon: Lexicon, scratch: Any) -> bool:
    """Whether the dictionary has these characters as one word."""
    links = lexicon.cells.view(np.int32)
    state = np.int64(0)
    for i in range(first, last):
        following = np.int64(links[state, 0]) + scratch.codes[i]
        if scratch.codes[i] == 0 or links[following, 1] != state:
            return False
        state = following
    return not np.isnan(lexicon.cells[state, 1])


@kernel
def _viterbi_tokens(text: Any, first: int, last: int, lexicon: Lexicon, scratch: Any, ends: Any, filled: int) -> int:
    """``finalseg.__cut`` on a run of Han: the likeliest states B E M S; of equal paths the later letter wins.

    Each state has two that may come before it, E or S before B and S, B or M before E and M: one bit a state and
    character tells which, 1 for the later letter.
    """
    came_from, states = scratch.came_from, scratch.states
    t, emission, start = lexicon.transition, lexicon.emission, lexicon.start
    eb, sb, be, me, bm, mm, es, ss = t[1, 0], t[3, 0], t[0, 1], t[2, 1], t[0, 2], t[2, 2], t[1, 3], t[3, 3]
    row = text[first] - HAN_FIRST
    b, e = start[0] + emission[row, 0], start[1] + emission[row, 1]
    m, s = start[2] + emission[row, 2], start[3] + emission[row, 3]
    if last - first == 2:  # most runs are pairs: only whether they end in E or S matters
        row = text[first + 1] - HAN_FIRST
        of_e, of_s = emission[row, 1], emission[row, 3]
        if max(e + es + of_s, s + ss + of_s) >= max(b + be + of_e, m + me + of_e):
            ends[filled] = first + 1
            filled += 1
        ends[filled] = last
        return filled + 1
    for i in range(first + 1, last):
        row = text[i] - HAN_FIRST
        of_b, of_e, of_m, of_s = emission[row, 0], emission[row, 1], emission[row, 2], emission[row, 3]
        b_after_e, b_after_s = e + eb + of_b, s + sb + of_b
        e_after_b, e_after_m = b + be + of_e, m + me + of_e
        m_after_b, m_after_m = b + bm + of_m, m + mm + of_m
        s_after_e, s_after_s = e + es + of_s, s + ss + of_s
        later_b, later_e = b_after_s >= b_after_e, e_after_m >= e_after_b
        later_m, later_s = m_after_m >= m_after_b, s_after_s >= s_after_e
        came_from[i] = later_b | later_e << 1 | later_m << 2 | later_s << 3
        b = b_after_s if later_b else b_after_e
        e = e_after_m if later_e else e_after_b
        m = m_after_m if later_m else m_after_b
        s = s_after_s if later_s else s_after_e
    state = _SINGLE if s >= e else _END
    for i in range(last - 1, first, -1):
        states[i] = state
        later = (came_from[i] >> state) & 1
        state = (state == 0 or state == 3) + 2 * later
    states[first] = state
    # The last character is E or S, so that every token ends at one of the two.
    for i in range(first, last):
        ends[filled] = i + 1
        filled += states[i] & 1
    return filled


@kernel
def _other_tokens(text: Any, first: int, last: int, ends: Any, filled: int) -> int:
    """finalseg's ``[a-zA-Z0-9]+(\\.\\d+)?%?`` on a run without Han; what lies between matches is one token."""
    i = first
    while i < last:
        j = i
        if is_alphanumeric(text[i]):
            while j < last and is_alphanumeric(text[j]):
                j += 1
            if j + 1 < last and text[j] == 46 and 48 <= text[j + 1] <= 57:
                j += 2
                while j < last and 48 <= text[j] <= 57:
                    j += 1
            if j < last and text[j] == 37:
                j += 1
        else:
            while j < last and not is_alphanumeric(text[j]):
                j += 1
        ends[filled] = j
        filled += 1
        i = j
    return filled


@inlined
def _tokens_without_hmm(text: Any, first: int, last: int, scratch: Any, ends: Any, filled: int) -> int:
    """``Tokenizer.__cut_DAG_NO_HMM``: words of the path, single ASCII letters and digits joined."""
    i = first
    while i < last:
        j = scratch.best_end[i]
        if j - i == 1 and is_alphanumeric(text[i]):
            while j < last and scratch.best_end[j] == j + 1 and is_alphanumeric(text[j]):
                j += 1
        ends[filled] = j
        filled += 1
        i = j
    return filled
