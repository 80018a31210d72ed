"""Texts into TF-IDF weighted terms, by scikit-learn's formulas and without scikit-learn.

Owns what a term is (an n-gram of words or of characters, of the text or of its opening, a prefix, the text's length),
how terms are counted, chosen, weighed and scored. The kinds are TF-IDF spaces side by side, each with its own norm:
what a ``FeatureUnion`` of as many ``TfidfVectorizer`` gives. Refuses to know topics, classifiers and files.

    texts ─ code points ─ normalise, lower ─┬─ segment ─ stop words ─ word n-grams ────────┐
                                            ├─ runs of space folded ─┬─ character n-grams ─┤
                                            │                        └─ prefixes ──────────┤
                                            └─ characters that are no space ─ their number ┴─ counts ─ tf · idf ─ norm

A term is known by the 64-bit hash of its code points. Kernels take a block of texts and write what they find into
arrays that were made large enough for it; nothing is made per text, token or term.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from numbers import Integral
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from duanti import lexicon
from duanti.arrow import as_numpy
from duanti.compilation import announce, borrowed, code_folder, inlined, kernel
from duanti.errors import DataError
from duanti.lexicon import CAPITAL_SIGMA, EXPANSION, Forms, Lexicon, TextTables, read_only
from duanti.segmentation import CodePoints, Texts, in_slices, in_threads, make_scratch, segment, write_utf8

#: A word n-gram, a character n-gram, the first characters of a text, how many it has, n-grams of only its beginning.
TermKind = Literal["word", "character", "prefix", "text_length", "opening_word", "opening_character"]
_KINDS: tuple[TermKind, ...] = get_args(TermKind)
_WORD, _CHARACTER, _PREFIX, _TEXT_LENGTH = range(4)  # as kernels know them

# Code points handled at once: enough for the dictionary to stay in the processor's cache when the other kind of term
# has had its turn. Where terms are new, fewer, because room is made for the most that a block can bring.
_BLOCK, _BLOCK_OF_NEW = 1 << 18, 1 << 15
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_WORD_SEED, _CHARACTER_SEED = np.uint64(0xD1B54A32D192ED03), np.uint64(0)
_NORMS = {None: 0, "l1": 1, "l2": 2}


@dataclass(frozen=True)
class FeatureOptions:
    """How terms are taken from a text and weighed; the parameters of ``TermVectorizer`` of the same names."""

    words: tuple[int, int] | None = (1, 1)
    characters: tuple[int, int] | None = (1, 2)
    prefixes: tuple[int, int] | None = None
    text_length: bool = False
    opening: int | None = None
    normalize: bool = False
    lowercase: bool = True
    hmm: bool = True
    user_words: tuple[str, ...] = ()
    stop_words: tuple[str, ...] = ()
    sublinear_tf: bool = False
    use_idf: bool = True
    norm: Literal["l1", "l2"] | None = "l2"

    @property
    def kinds(self) -> tuple[TermKind, ...]:
        """The spaces in use, in column order."""
        return tuple(kind for kind in _KINDS if self.lengths(kind) is not None)

    def lengths(self, kind: TermKind) -> tuple[int, int] | None:
        """Shortest and longest term of a kind, in words or characters; None where there are none of the kind."""
        if kind == "text_length":
            return (1, 1) if self.text_length else None
        if kind.startswith("opening_") and self.opening is None:
            return None
        return {"word": self.words, "character": self.characters, "prefix": self.prefixes}[
            kind.removeprefix("opening_")
        ]

    def counting(self, kind: TermKind) -> FeatureOptions:
        """Only what the counts of one kind of term depend on, all else as it is by default."""
        names = {"normalize", "lowercase", name_of(kind).removeprefix("opening_")}
        names |= {"opening"} if kind.startswith("opening_") else set()
        names |= {"hmm", "user_words", "stop_words"} if kind.endswith("word") else set()
        return FeatureOptions(**{"words": None, "characters": None} | {name: getattr(self, name) for name in names})


def name_of(kind: TermKind) -> str:
    """The name of a kind's columns, and of the option that asks for it where there is one."""
    return "prefixes" if kind == "prefix" else kind if kind == "text_length" else f"{kind}s"


def label_of(kind: TermKind, term: str) -> str:
    """How a term is written where its kind is not: ``^股市`` (a prefix), ``opening=股市``, ``length=23``, ``股市``."""
    mark = {"prefix": "^", "text_length": "length=", "opening_word": "opening=", "opening_character": "opening="}
    return f"{mark.get(kind, '')}{term}"


class Rows(NamedTuple):
    """A sparse matrix by rows (CSR), columns ascending within a row."""

    indptr: NDArray[np.int64]  # n_texts + 1: where each text's entries begin and end
    indices: NDArray[np.int32]  # column of each entry
    values: NDArray[Any]  # of each entry: its count (int32) or weight (float64)

    def select(self, rows: NDArray[np.intp]) -> Rows:
        """Return these rows, in the order given."""
        lengths = np.diff(self.indptr)[rows]
        indptr = np.concatenate(([0], np.cumsum(lengths)))
        entries = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], lengths)
        return Rows(indptr, self.indices[entries], self.values[entries])


class TermCounts(NamedTuple):
    """All terms of one kind in some texts: the terms, sorted, their hashes, and how often each text has each."""

    kind: TermKind
    terms: pa.LargeStringArray
    hashes: NDArray[np.uint64]
    rows: Rows

    def select(self, rows: NDArray[np.intp]) -> TermCounts:
        """Return the counts of these texts, over the same terms."""
        return self._replace(rows=self.rows.select(rows))


@dataclass(frozen=True)
class TermSpace:
    """The known terms of one kind, in column order, with their document frequencies, idf weights and hashes."""

    kind: TermKind
    terms: pa.LargeStringArray = field(repr=False)
    document_frequency: NDArray[np.int64] = field(repr=False)
    idf: NDArray[np.float64] = field(repr=False)
    hashes: NDArray[np.uint64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.terms)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """How many words each term has, of other kinds how many characters."""
        import pyarrow.compute as pc

        if self.kind.endswith("word"):
            return as_numpy(pc.count_substring(self.terms, " ")) + 1
        return as_numpy(pc.utf8_length(self.terms))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Hash -> column."""
        return _vocabulary_of(self.hashes)

    def take(self, order: NDArray[np.intp]) -> TermSpace:
        """Return these terms, in this order."""
        terms = self.terms.take(pa.array(order))
        return TermSpace(self.kind, terms, self.document_frequency[order], self.idf[order], self.hashes[order])

    def find(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the column of each term by its hash (see ``term_hashes``); -1 where it is not known."""
        columns: NDArray[np.int64] = _columns_of(self.vocabulary, hashes)
        return columns


class Vocabulary(NamedTuple):
    """A hash table with open addressing, a word of 64 bits a slot, 0 where it is empty.

    A term stands at or behind the slot that the low bits of its hash name. The slot holds the other bits, and in
    place of the low ones the term's column + 1: the whole hash is compared, and takes no more room than its column.
    """

    slots: NDArray[np.uint64]  # (size,), size a power of two
    n_terms: NDArray[np.int64]  # (1,)


class Names(NamedTuple):
    """The UTF-8 of terms as they are met; offsets have one entry more than there are terms."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]


def load_tables(options: FeatureOptions) -> TextTables:
    """Return the installed tables that these options ask for."""
    return lexicon.load_tables(options.user_words, normalized=options.normalize, lowercase=options.lowercase)


def prepare(batch: CodePoints, options: FeatureOptions, forms: Forms) -> CodePoints:
    """Replace each code point by its form: normalised, lower-cased."""
    if not (options.normalize or options.lowercase):
        return batch
    formed = CodePoints(*map(read_only, _apply_forms(batch.values, batch.offsets, forms)))
    if options.lowercase and CAPITAL_SIGMA in formed.values:
        # The one letter whose lower case depends on its neighbours: those texts are lower-cased by Python.
        texts = batch.texts()
        of_sigma = np.searchsorted(formed.offsets, np.flatnonzero(formed.values == CAPITAL_SIGMA), side="right") - 1
        for number in np.unique(of_sigma):
            texts[number] = (lexicon.normalize(texts[number]) if options.normalize else texts[number]).lower()
        return prepare(CodePoints.of(texts), options, forms)
    return formed


def count_terms(
    texts: Texts | CodePoints,
    options: FeatureOptions,
    tables: TextTables,
    n_jobs: int | None = None,
    kinds: Sequence[TermKind] | None = None,
) -> list[TermCounts]:
    """Count every term of every text, one ``TermCounts`` per kind, of all kinds in use or only these."""
    kinds = options.kinds if kinds is None else kinds
    analyzers = [_analyzer(kind, options, tables) for kind in kinds]
    work = partial(_count_slice, analyzers=analyzers, options=options, forms=tables.forms)
    of_kinds = [*zip(*(finders for _, finders in in_slices(CodePoints.of(texts), work, n_jobs)), strict=True)]
    # Characters, which are the most, first, and what was found let go before the next: that keeps the peak low.
    return [_merge(kind, of_kinds.pop()) for kind in reversed(kinds)][::-1]


def learn_space(
    counts: TermCounts,
    *,
    min_df: int | float = 1,
    max_df: int | float = 1.0,
    max_features: int | None = None,
) -> TermSpace:
    """Choose the terms to know and weigh them: ``idf = ln((1 + n) / (1 + df)) + 1``, n texts, df having the term.

    ``min_df`` and ``max_df`` are counts (int) or shares of the texts (float); ``max_features`` keeps the terms
    with the largest total counts, ties as scikit-learn's ``(-totals).argsort()`` breaks them.

    Raises
    ------
    DataError
        when no term is left
    """
    n_texts = len(counts.rows.indptr) - 1
    frequency, totals = _sums_by_column(counts.rows.indices, counts.rows.values, len(counts.terms))
    low = min_df if isinstance(min_df, Integral) else min_df * n_texts
    high = max_df if isinstance(max_df, Integral) else max_df * n_texts
    # A term of counts that were selected from more texts may stand in none of these.
    chosen = (frequency >= max(low, 1)) & (frequency <= high)
    if max_features is not None and chosen.sum() > max_features:
        most = (-totals[chosen]).argsort()[:max_features]
        kept = np.zeros_like(chosen)
        kept[np.flatnonzero(chosen)[most]] = True
        chosen = kept
    if not chosen.any():
        raise DataError(
            f"After pruning, no {counts.kind} terms remain in {n_texts} texts. Try a lower min_df or a higher max_df."
        )
    known = np.flatnonzero(chosen)
    df = frequency[known].astype(np.int64)
    idf = np.log((n_texts + 1.0) / (df + 1.0)) + 1.0
    return TermSpace(counts.kind, counts.terms.take(pa.array(known)), df, idf, counts.hashes[known])


class Tally(NamedTuple):
    """What a space knows of some texts."""

    document_frequency: NDArray[np.int64]  # of each of its terms, among these texts
    unknown: int  # occurrences of terms it does not know
    occurrences: int  # of all terms


def tally_known(counts: TermCounts, space: TermSpace) -> Tally:
    """Count in how many texts each known term stands, and how many occurrences are of unknown ones."""
    frequency, totals = _sums_by_column(counts.rows.indices, counts.rows.values, len(counts.terms))
    position = space.find(counts.hashes)
    known = position >= 0
    of_space = np.zeros(len(space), np.int64)
    of_space[position[known]] = frequency[known]
    return Tally(of_space, int(totals[~known].sum()), int(totals.sum()))


def weigh_counts(counts: Sequence[TermCounts], spaces: Sequence[TermSpace], options: FeatureOptions) -> Rows:
    """Return the weights of the known terms among ``counts``, the spaces side by side."""
    weighed = []
    for part, space in zip(counts, spaces, strict=True):
        position = space.find(part.hashes)
        weighed.append(Rows(*_weigh_known(*part.rows, position, _weighing(space, options))))
    return side_by_side(weighed, [len(space) for space in spaces])


def weigh_texts(
    texts: Texts | CodePoints,
    spaces: Sequence[TermSpace],
    options: FeatureOptions,
    tables: TextTables,
    n_jobs: int | None = None,
) -> Rows:
    """Return the weights of the known terms of each text, the spaces side by side."""
    tools = _tools(spaces, options, tables)
    work = partial(_weigh_slice, tools=tools, options=options, forms=tables.forms)
    return _stack([rows for _, part in in_slices(CodePoints.of(texts), work, n_jobs) for rows in part])


def score_texts(
    texts: Texts | CodePoints,
    spaces: Sequence[TermSpace],
    options: FeatureOptions,
    tables: TextTables,
    weights: NDArray[np.float32],
    bias: NDArray[np.float64],
    n_jobs: int | None = None,
    weight_rows: NDArray[np.int32] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return ``x @ weights + bias`` (n_texts, n_topics) and the number of known terms of each text, without x.

    How long a text is counts as no known term: any text has a length.
    ``weight_rows`` (n_terms,) tells which row of ``weights`` each term has, -1 for none; None: each its own, in order.
    Sums are of doubles, column by column: the same in a batch of any size.
    """
    tools = _tools(spaces, options, tables)
    scoring = _Scoring(read_only(weights), _NO_ROWS if weight_rows is None else read_only(weight_rows))
    work = partial(_score_slice, tools=tools, options=options, forms=tables.forms, scoring=scoring, bias=bias)
    parts = [part for _, part in in_slices(CodePoints.of(texts), work, n_jobs)]
    return np.concatenate([scores for scores, _ in parts]), np.concatenate([known for _, known in parts])


def side_by_side(parts: Sequence[Rows], widths: Sequence[int]) -> Rows:
    """Join matrices over the same texts: the columns of the second stand behind those of the first, and so on."""
    indptr = np.sum([part.indptr for part in parts], axis=0)
    joined = Rows(indptr, np.empty(indptr[-1], np.int32), np.empty(indptr[-1]))
    filled, first_column = indptr[:-1].copy(), 0
    for part, width in zip(parts, widths, strict=True):
        _append_to_rows(*part, first_column, filled, joined.indices, joined.values)
        first_column += width
    return joined


def term_hashes(kind: TermKind, terms: pa.LargeStringArray | Sequence[str]) -> NDArray[np.uint64]:
    """Return the 64-bit hash of each term: its code points, one after the other, into a multiply-and-shift.

    ``h = (h ^ c) * 0x9E3779B97F4A7C15; h ^= h >> 32`` for each code point c, modulo 2**64, beginning with
    0xD1B54A32D192ED03 for a word and 0 for the other kinds: far apart, so that no first code point leads from one to
    the other.
    """
    seed = _WORD_SEED if kind.endswith("word") else _CHARACTER_SEED
    hashes: NDArray[np.uint64] = _hash_texts(*CodePoints.of(terms), seed)
    return hashes


class _Analyzer(NamedTuple):
    """What a kernel must know to take the terms of one kind from a text."""

    kind: int  # _WORD, ...; of terms of the opening that of the same terms of a whole text
    opening: int  # so many first characters of a text have terms; 0: all
    low: int
    high: int
    hmm: bool
    lexicon: Lexicon
    stop_words: Vocabulary


class _Weighing(NamedTuple):
    """How counts become weights."""

    idf: NDArray[np.float64]
    sublinear: bool
    norm: int  # 0: none, else of l1 or l2


class _Sorting(NamedTuple):
    """Memory to sort the columns of a text."""

    ascending: NDArray[np.int32]
    starts: NDArray[np.int32]  # of the buckets, three more than there are columns


def _make_sorting(n: int) -> _Sorting:
    return _Sorting(np.empty(n, np.int32), np.empty(n + 3, np.int32))


class _Workspace(NamedTuple):
    """Memory one thread takes the terms of a text in: fresh memory for each would cost as much as the work."""

    scratch: Any  # for segmenting
    begins: NDArray[np.int32]  # of tokens
    ends: NDArray[np.int32]
    folded: NDArray[np.uint32]  # the text with its runs of space folded, or what else is made of it to be a term
    hashes: NDArray[np.uint64]  # of each occurrence of a term, in the order of the text
    slots: NDArray[np.uint64]  # the slot that each is looked for in first
    firsts: NDArray[np.int32]  # the token, or character, each begins with
    lengths: NDArray[np.int32]  # and how many it has
    columns: NDArray[np.int32]  # the columns of those that have one
    sorting: _Sorting


class _Entries(NamedTuple):
    """Room for the entries of the rows of a block: columns, and counts or weights."""

    indices: NDArray[np.int32]
    values: NDArray[Any]


class _Tools(NamedTuple):
    """All it takes to weigh a text in one space."""

    analyzer: _Analyzer
    vocabulary: Vocabulary
    weighing: _Weighing


class _Scoring(NamedTuple):
    """What weighs for topics: rows of weights, and which of them each term has (empty: its own)."""

    weights: NDArray[np.float32]
    rows: NDArray[np.int32]


_NO_ROWS = read_only(np.empty(0, np.int32))


def _tools(spaces: Sequence[TermSpace], options: FeatureOptions, tables: TextTables) -> list[_Tools]:
    return [
        _Tools(_analyzer(space.kind, options, tables), space.vocabulary, _weighing(space, options)) for space in spaces
    ]


def _analyzer(kind: TermKind, options: FeatureOptions, tables: TextTables) -> _Analyzer:
    announce("compiling kernels (half a minute)", code_folder())
    low, high = options.lengths(kind) or (1, 1)
    opening = (options.opening or 0) if kind.startswith("opening_") else 0
    number = [each.removeprefix("opening_") for each in _KINDS].index(kind.removeprefix("opening_"))
    return _Analyzer(number, opening, low, high, options.hmm, tables.lexicon, _stop_words(options.stop_words))


@lru_cache(maxsize=8)
def _stop_words(words: tuple[str, ...]) -> Vocabulary:
    hashes = np.unique(term_hashes("word", words))
    return _vocabulary_of(hashes)


def _vocabulary_of(hashes: NDArray[np.uint64]) -> Vocabulary:
    vocabulary = _new_vocabulary(len(hashes))
    _add_all(vocabulary, hashes)
    return vocabulary


def _new_vocabulary(n_terms: int) -> Vocabulary:
    """An empty table that this many terms fill to three fifths at most."""
    size = 1 << max(4, (5 * n_terms // 3).bit_length())
    return Vocabulary(np.zeros(size, np.uint64), np.zeros(1, np.int64))


def _blocks(batch: CodePoints, size: int) -> Iterator[CodePoints]:
    """Runs of texts of up to ``size`` code points, at least one text each."""
    first = 0
    while first < len(batch.offsets) - 1:
        limit = batch.offsets[first] + size
        last = max(int(np.searchsorted(batch.offsets, limit, side="right")) - 1, first + 1)
        yield batch.slice(first, last)
        first = last


def _occurrences(batch: CodePoints, analyzer: _Analyzer) -> int:
    """How many terms these texts have at most."""
    return int(batch.offsets[-1] - batch.offsets[0]) * (analyzer.high - analyzer.low + 1)


def _entries(blocks: Sequence[CodePoints], analyzer: _Analyzer) -> _Entries:
    """Room for the largest block."""
    most = max((_occurrences(block, analyzer) for block in blocks), default=0)
    return _Entries(np.empty(most, np.int32), np.empty(most))


class _TermFinder:
    """The terms of one kind in block after block of texts, numbered in the order they are met.

    Memory grows between blocks, never inside a kernel.
    """

    def __init__(self, analyzer: _Analyzer) -> None:
        self.analyzer = analyzer
        self.vocabulary = _new_vocabulary(0)
        self.blocks: list[_Occurrences] = []
        self._hashes = np.empty(0, np.uint64)
        self._names = Names(np.empty(0, np.uint8), np.zeros(1, np.int64))

    @property
    def n_terms(self) -> int:
        return int(self.vocabulary.n_terms[0])

    @property
    def hashes(self) -> NDArray[np.uint64]:
        return self._hashes[: self.n_terms]

    @property
    def names(self) -> pa.LargeStringArray:
        buffers = [None, pa.py_buffer(self._names.offsets), pa.py_buffer(self._names.data)]
        return pa.Array.from_buffers(pa.large_string(), self.n_terms, buffers)

    def find(self, block: CodePoints) -> None:
        """Add the occurrences of a block of texts."""
        n_most = _occurrences(block, self.analyzer)
        self._make_room(n_most, int(block.offsets[-1] - block.offsets[0]))
        offsets, terms = np.zeros(len(block.offsets), np.int64), np.empty(n_most, np.int32)
        work = _workspace([block], self.analyzer)
        _find_terms(*block, self.analyzer, self.vocabulary, self._hashes, self._names, work, offsets, terms)
        self.blocks.append(_Occurrences(offsets, terms[: offsets[-1]].copy()))

    def _make_room(self, more: int, n_code_points: int) -> None:
        """For so many new terms, of so many code points."""
        n_terms, high = self.n_terms, self.analyzer.high
        if 5 * (n_terms + more) > 3 * len(self.vocabulary.slots):
            self.vocabulary = _new_vocabulary(2 * n_terms + more)
            _add_all(self.vocabulary, self._hashes[:n_terms])
        self._hashes = _grown(self._hashes, n_terms, n_terms + more)
        # A term of n characters, or words, takes n times their bytes and n - 1 spaces.
        n_bytes = int(self._names.offsets[n_terms])
        data = _grown(self._names.data, n_bytes, n_bytes + 5 * n_code_points * high * (high + 1) // 2)
        self._names = Names(data, _grown(self._names.offsets, n_terms + 1, n_terms + more + 1))


class _Occurrences(NamedTuple):
    """The term of each occurrence in some texts."""

    offsets: NDArray[np.int64]  # where each text's begin and end
    terms: NDArray[np.int32]


def _count_slice(
    batch: CodePoints, analyzers: Sequence[_Analyzer], options: FeatureOptions, forms: Forms
) -> list[_TermFinder]:
    finders = [_TermFinder(analyzer) for analyzer in analyzers]
    for raw in _blocks(batch, _BLOCK_OF_NEW):
        block = prepare(raw, options, forms)
        for finder in finders:
            finder.find(block)
    return finders


def _grown(array: NDArray[Any], used: int, size: int) -> NDArray[Any]:
    """The array, or one at least twice as large with its used part, so that it holds ``size``."""
    if size <= len(array):
        return array
    grown = np.empty(max(size, 2 * len(array)), array.dtype)
    grown[:used] = array[:used]
    return grown


def _merge(kind: TermKind, parts: Sequence[_TermFinder]) -> TermCounts:
    """Join the slices: each term once, in the order of code points, which is that of UTF-8 bytes."""
    import pyarrow.compute as pc  # here, because predicting starts faster without it

    terms, hashes = pa.concat_arrays([part.names for part in parts]), np.concatenate([part.hashes for part in parts])
    if len(parts) > 1:
        hashes, first = np.unique(hashes, return_index=True)
        terms = terms.take(pa.array(first))
    order = pc.sort_indices(terms).to_numpy()
    terms, hashes = terms.take(pa.array(order)), hashes[order]
    # Room for the most there can be: what stays empty is never touched, and takes no memory.
    sizes = [sum(len(block.terms) for block in part.blocks) for part in parts]
    room = _Entries(np.empty(sum(sizes), np.int32), np.empty(sum(sizes), np.int32))
    begins = np.cumsum([0, *sizes[:-1]]).tolist()
    work = partial(_tally_part, vocabulary=_vocabulary_of(hashes), room=room)
    lengths = in_threads(work, list(zip(parts, begins, strict=True)))
    # Each thread filled the front of its share; the shares are moved together.
    indptr = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    filled = 0
    for begin, own in zip(begins, lengths, strict=True):
        _move_entries(room, begin, begin + own.sum(), filled)
        filled += own.sum()
    return TermCounts(kind, terms, hashes, Rows(indptr, room.indices[:filled], room.values[:filled]))


def _tally_part(part_and_begin: tuple[_TermFinder, int], vocabulary: Vocabulary, room: _Entries) -> NDArray[np.int64]:
    """Count the terms of each text of a slice, by the columns of the joined terms. Returns how many each has."""
    part, begin = part_and_begin
    position, n_columns = _columns_of(vocabulary, part.hashes), int(vocabulary.n_terms[0])
    longest = max((int(np.diff(block.offsets).max(initial=0)) for block in part.blocks), default=0)
    columns, sorting = np.empty(longest, np.int32), _make_sorting(longest)
    lengths = [np.zeros(0, np.int64)]
    for block in part.blocks:
        indptr = np.zeros(len(block.offsets), np.int64)
        entries = _Entries(room.indices[begin:], room.values[begin:])
        _tally_texts(*block, position, n_columns, columns, sorting, entries, indptr)
        lengths.append(np.diff(indptr))
        begin += indptr[-1]
    return np.concatenate(lengths)


def _stack(parts: Sequence[Rows]) -> Rows:
    """Put matrices below one another."""
    if not parts:
        return Rows(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0))
    starts = np.cumsum([0, *(part.indptr[-1] for part in parts)])
    indptr = np.concatenate([[0], *(part.indptr[1:] + start for part, start in zip(parts, starts, strict=False))])
    return Rows(indptr, np.concatenate([p.indices for p in parts]), np.concatenate([p.values for p in parts]))


def _weighing(space: TermSpace, options: FeatureOptions) -> _Weighing:
    idf = space.idf if options.use_idf else np.ones(len(space))
    return _Weighing(read_only(idf), options.sublinear_tf, _NORMS[options.norm])


def _weigh_slice(batch: CodePoints, tools: Sequence[_Tools], options: FeatureOptions, forms: Forms) -> list[Rows]:
    blocks = list(_blocks(prepare(batch, options, forms), _BLOCK))
    widths = [len(weighing.idf) for _, _, weighing in tools]
    memory = [(_workspace(blocks, analyzer), _entries(blocks, analyzer)) for analyzer, _, _ in tools]
    return [
        side_by_side(
            [Rows(_weigh_block(*block, tool, *room), *room[1]) for tool, room in zip(tools, memory, strict=True)],
            widths,
        )
        for block in blocks
    ]


def _score_slice(
    batch: CodePoints,
    tools: Sequence[_Tools],
    options: FeatureOptions,
    forms: Forms,
    scoring: _Scoring,
    bias: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    prepared = prepare(batch, options, forms)
    n_texts = len(prepared.offsets) - 1
    scores, known_terms = np.tile(bias, (n_texts, 1)), np.zeros(n_texts, np.int64)
    first_term = 0
    for tool in tools:
        work = _workspace([prepared], tool.analyzer)
        entries = _Entries(np.empty(len(work.columns), np.int32), np.empty(len(work.columns)))
        _score_block(*prepared, tool, work, entries, scoring, first_term, scores, known_terms)
        first_term += len(tool.weighing.idf)
    return scores, known_terms


@kernel
def _apply_forms(values: Any, offsets: Any, forms: Forms) -> Any:
    """Replace each code point by its form: once to measure, once to write."""
    n_texts = len(offsets) - 1
    new_offsets = np.zeros(n_texts + 1, np.int64)
    length = 0
    for i in range(n_texts):
        for j in range(offsets[i], offsets[i + 1]):
            added = forms.pages[forms.page_of[values[j] >> 8], values[j] & 255]
            if added < EXPANSION:
                length += 1
            else:
                length += forms.expansion_offsets[added - EXPANSION + 1] - forms.expansion_offsets[added - EXPANSION]
        new_offsets[i + 1] = length
    new_values = np.empty(length, np.uint32)
    filled = 0
    for j in range(offsets[0], offsets[n_texts]):
        added = forms.pages[forms.page_of[values[j] >> 8], values[j] & 255]
        if added < EXPANSION:
            new_values[filled] = np.int64(values[j]) + added
            filled += 1
        else:
            for k in range(forms.expansion_offsets[added - EXPANSION], forms.expansion_offsets[added - EXPANSION + 1]):
                new_values[filled] = forms.expansions[k]
                filled += 1
    return new_values, new_offsets


@kernel
def _mix(h: Any, c: Any) -> Any:
    """One code point into a hash."""
    h = (h ^ np.uint64(c)) * _MULTIPLIER
    return h ^ (h >> np.uint64(32))


@kernel
def _hash_texts(values: Any, offsets: Any, seed: Any) -> Any:
    hashes = np.empty(len(offsets) - 1, np.uint64)
    for i in range(len(hashes)):
        h = seed
        for j in range(offsets[i], offsets[i + 1]):
            h = _mix(h, values[j])
        hashes[i] = h
    return hashes


@inlined
def _find(slots: Any, h: Any) -> Any:
    """The place of a hash, or the empty one where it would stand."""
    mask = np.uint64(len(slots) - 1)
    place = h & mask
    # What differs between a slot and its hash are the low bits only.
    while slots[place] != np.uint64(0) and slots[place] ^ h > mask:
        place = (place + np.uint64(1)) & mask
    return place


@inlined
def _column(slots: Any, h: Any) -> Any:
    """The column of a known hash, else -1."""
    return np.int64(slots[_find(slots, h)] & np.uint64(len(slots) - 1)) - 1


@inlined
def _add(vocabulary: Vocabulary, h: Any) -> Any:
    """The column of a hash, the next one if it is new."""
    slots, n_terms = vocabulary.slots, vocabulary.n_terms
    mask = np.uint64(len(slots) - 1)
    place = _find(slots, h)
    if slots[place] == np.uint64(0):
        n_terms[0] += 1
        slots[place] = (h & ~mask) | np.uint64(n_terms[0])
    return np.int64(slots[place] & mask) - 1


@kernel
def _add_all(vocabulary: Vocabulary, hashes: Any) -> None:
    for i in range(len(hashes)):
        _add(vocabulary, hashes[i])


@kernel
def _columns_of(vocabulary: Vocabulary, hashes: Any) -> Any:
    columns = np.empty(len(hashes), np.int64)
    for i in range(len(hashes)):
        columns[i] = _column(vocabulary.slots, hashes[i])
    return columns


def _workspace(blocks: Sequence[CodePoints], analyzer: _Analyzer) -> _Workspace:
    """Memory for the longest text of some blocks."""
    longest = max((block.longest for block in blocks), default=0)
    n_most = longest * (analyzer.high - analyzer.low + 1)
    begins, ends = np.empty((2, longest), np.int32)
    firsts, lengths, columns = np.empty((3, n_most), np.int32)
    return _Workspace(
        make_scratch(longest),
        begins,
        ends,
        np.empty(longest, np.uint32),
        np.empty(n_most, np.uint64),
        np.empty(n_most, np.uint64),
        firsts,
        lengths,
        columns,
        _make_sorting(n_most),
    )


@inlined
def _hash_terms(text: Any, analyzer: _Analyzer, work: _Workspace) -> int:
    """Hash every occurrence of a term in a text. Returns how many there are."""
    if analyzer.opening > 0:
        text = text[: analyzer.opening]
    if analyzer.kind == _WORD:
        return _hash_words(text, analyzer, work)
    if analyzer.kind == _CHARACTER:
        return _hash_characters(text, analyzer, work)
    if analyzer.kind == _PREFIX:
        return _hash_prefixes(text, analyzer, work)
    return _hash_text_length(text, work)


@inlined
def _hash_words(text: Any, analyzer: _Analyzer, work: _Workspace) -> int:
    """N-grams of the tokens that are no stop words, joined by a space."""
    begins, ends, hashes, firsts, lengths = work.begins, work.ends, work.hashes, work.firsts, work.lengths
    low, high = analyzer.low, analyzer.high
    n_tokens = _split_words(text, analyzer, work)
    n = 0
    for i in range(n_tokens):
        h = _WORD_SEED
        for length in range(1, min(high, n_tokens - i) + 1):
            if length > 1:
                h = _mix(h, 32)
            for j in range(begins[i + length - 1], ends[i + length - 1]):
                h = _mix(h, text[j])
            if length >= low:
                hashes[n], firsts[n], lengths[n] = h, i, length
                n += 1
    return n


@inlined
def _hash_characters(text: Any, analyzer: _Analyzer, work: _Workspace) -> int:
    """N-grams of the characters of the text with its runs of space folded."""
    folded, hashes, firsts, lengths = work.folded, work.hashes, work.firsts, work.lengths
    low, high = analyzer.low, analyzer.high
    n_characters = _fold_spaces(text, folded)
    n = 0
    for i in range(n_characters):
        h = _CHARACTER_SEED
        for length in range(1, min(high, n_characters - i) + 1):
            h = _mix(h, folded[i + length - 1])
            if length >= low:
                hashes[n], firsts[n], lengths[n] = h, i, length
                n += 1
    return n


@inlined
def _hash_prefixes(text: Any, analyzer: _Analyzer, work: _Workspace) -> int:
    """The first characters of the text, its runs of space folded."""
    folded, hashes, firsts, lengths = work.folded, work.hashes, work.firsts, work.lengths
    n = 0
    h = _CHARACTER_SEED
    for length in range(1, min(analyzer.high, _fold_spaces(text, folded)) + 1):
        h = _mix(h, folded[length - 1])
        if length >= analyzer.low:
            hashes[n], firsts[n], lengths[n] = h, 0, length
            n += 1
    return n


@inlined
def _hash_text_length(text: Any, work: _Workspace) -> int:
    """How many characters are no space, in digits of which only the first two are not 0; nothing for none."""
    digits, hashes, firsts, lengths = work.folded, work.hashes, work.firsts, work.lengths
    n_characters = 0
    for c in text:
        n_characters += not _is_space(c)
    if n_characters == 0:
        return 0
    n_zeros = 0
    while n_characters >= 100:
        n_characters //= 10
        n_zeros += 1
    n_digits = 0
    if n_characters >= 10:
        digits[0] = 48 + n_characters // 10
        n_digits = 1
    digits[n_digits] = 48 + n_characters % 10
    n_digits += 1
    for _ in range(n_zeros):
        digits[n_digits] = 48
        n_digits += 1
    h = _CHARACTER_SEED
    for i in range(n_digits):
        h = _mix(h, digits[i])
    hashes[0], firsts[0], lengths[0] = h, 0, n_digits
    return 1


@inlined
def _split_words(text: Any, analyzer: _Analyzer, work: _Workspace) -> int:
    """Segment a text and drop its stop words. Returns how many tokens are left."""
    n_tokens = segment(text, analyzer.lexicon, analyzer.hmm, work.scratch, work.ends)
    begins, ends = work.begins, work.ends
    any_stop_words = analyzer.stop_words.n_terms[0] > 0
    begin = np.int32(0)
    kept = 0
    for i in range(n_tokens):
        end = ends[i]
        if not any_stop_words or not _is_stop_word(text, begin, end, analyzer.stop_words.slots):
            begins[kept], ends[kept] = begin, end
            kept += 1
        begin = end
    return kept


@kernel
def _is_stop_word(text: Any, begin: Any, end: Any, slots: Any) -> Any:
    h = _WORD_SEED
    for j in range(begin, end):
        h = _mix(h, text[j])
    return _column(slots, h) >= 0


@inlined
def _fold_spaces(text: Any, folded: Any) -> int:
    r"""``re.sub(r"\s\s+", " ", text)``. Returns the length."""
    n = len(text)
    filled = 0
    i = 0
    while i < n:
        if _is_space(text[i]) and i + 1 < n and _is_space(text[i + 1]):
            folded[filled] = 32
            while i < n and _is_space(text[i]):
                i += 1
        else:
            folded[filled] = text[i]
            i += 1
        filled += 1
    return filled


@kernel
def _is_space(c: Any) -> Any:
    """Whether Python's ``\\s`` matches this code point."""
    if c < 128:
        return 9 <= c <= 13 or 28 <= c <= 32
    if c < 0x2000:
        return c == 0x85 or c == 0xA0 or c == 0x1680
    return c <= 0x200A or c == 0x2028 or c == 0x2029 or c == 0x202F or c == 0x205F or c == 0x3000


@inlined
def _known_columns(n_occurrences: int, slots: Any, work: _Workspace) -> int:
    """Look up all occurrences; returns how many are known.

    All slots are read before anything is decided or counted: misses of the cache overlap where nothing waits for them.
    """
    hashes, first_slots, columns = work.hashes, work.slots, work.columns
    mask = np.uint64(len(slots) - 1)
    for k in range(n_occurrences):
        first_slots[k] = slots[hashes[k] & mask]
    n = 0
    for k in range(n_occurrences):
        h, slot = hashes[k], first_slots[k]
        if slot != np.uint64(0) and slot ^ h > mask:
            slot = slots[_find(slots, h)]
        columns[n] = np.int64(slot & mask) - 1
        n += columns[n] >= 0
    return n


@inlined
def _all_columns(
    text: Any,
    n_occurrences: int,
    analyzer: _Analyzer,
    vocabulary: Vocabulary,
    hashes: Any,
    names: Names,
    work: _Workspace,
    columns: Any,
    filled: int,
) -> None:
    """Look up all occurrences; a new term gets the next column and leaves its hash and its name."""
    found = work.hashes
    for k in range(n_occurrences):
        columns[filled + k] = _column(vocabulary.slots, found[k])
    for k in range(n_occurrences):
        if columns[filled + k] < 0:
            n_terms = vocabulary.n_terms[0]
            column = _add(vocabulary, found[k])
            columns[filled + k] = column
            if column == n_terms:  # else this very text has brought it already
                hashes[column] = found[k]
                end = _write_name(text, work.firsts[k], work.lengths[k], analyzer, column, names, work)
                names.offsets[column + 1] = end


@inlined
def _sort(columns: Any, n: int, n_columns: int, starts: Any, ascending: Any) -> None:
    """Put columns into ascending order: dealt into about as many buckets as there are columns, each of which holds
    few, and the few by insertion."""
    shift = 0
    while n_columns >> shift > n:
        shift += 1
    n_buckets = (n_columns >> shift) + 1
    starts[: n_buckets + 1] = 0
    for k in range(n):
        starts[(columns[k] >> shift) + 1] += 1
    for bucket in range(n_buckets):
        starts[bucket + 1] += starts[bucket]
    for k in range(n):
        bucket = columns[k] >> shift
        ascending[starts[bucket]] = columns[k]
        starts[bucket] += 1
    for k in range(1, n):
        column = ascending[k]
        place = k
        while place > 0 and ascending[place - 1] > column:
            ascending[place] = ascending[place - 1]
            place -= 1
        ascending[place] = column


@inlined
def _tally(columns: Any, n: int, n_columns: int, work: _Sorting, entries: _Entries, filled: int) -> int:
    """Write how often each of ``n`` columns occurs behind the entries that are there; returns where they end."""
    ascending, indices, counts = work.ascending, entries.indices, entries.values
    _sort(columns, n, n_columns, work.starts, ascending)
    last = -1
    for k in range(n):
        if ascending[k] != last:
            last = ascending[k]
            indices[filled], counts[filled] = last, 0
            filled += 1
        counts[filled - 1] += 1
    return filled


@kernel
def _write_name(text: Any, first: int, length: int, analyzer: _Analyzer, column: Any, names: Names, work: Any) -> Any:
    """Write the UTF-8 of a term behind the names that are there; returns where it ends."""
    filled = names.offsets[column]
    if analyzer.kind == _WORD:
        for i in range(first, first + length):
            if i > first:
                filled = write_utf8(names.data, filled, 32)
            for j in range(work.begins[i], work.ends[i]):
                filled = write_utf8(names.data, filled, text[j])
    else:
        for i in range(first, first + length):
            filled = write_utf8(names.data, filled, work.folded[i])
    return filled


@kernel
def _find_terms(
    values: Any,
    offsets: Any,
    analyzer: _Analyzer,
    vocabulary: Vocabulary,
    hashes: Any,
    names: Names,
    work: _Workspace,
    starts: Any,
    occurrences: Any,
) -> None:
    """Write the term of every occurrence in texts, numbered in the order of first sight, from ``starts[0]`` on."""
    values, offsets, analyzer, vocabulary = borrowed((values, offsets, analyzer, vocabulary))
    hashes, names, work, starts, occurrences = borrowed((hashes, names, work, starts, occurrences))
    for i in range(len(offsets) - 1):
        text = values[offsets[i] : offsets[i + 1]]
        n = _hash_terms(text, analyzer, work)
        _all_columns(text, n, analyzer, vocabulary, hashes, names, work, occurrences, starts[i])
        starts[i + 1] = starts[i] + n


@kernel
def _tally_texts(
    offsets: Any,
    occurrences: Any,
    position: Any,
    n_columns: int,
    columns: Any,
    sorting: _Sorting,
    entries: _Entries,
    indptr: Any,
) -> None:
    """Count the occurrences in each text into ``entries``, terms by their new numbers."""
    offsets, occurrences, position, indptr = borrowed((offsets, occurrences, position, indptr))
    columns, sorting, entries = borrowed((columns, sorting, entries))
    for i in range(len(offsets) - 1):
        n = offsets[i + 1] - offsets[i]
        for k in range(n):
            columns[k] = position[occurrences[offsets[i] + k]]
        indptr[i + 1] = _tally(columns, n, n_columns, sorting, entries, indptr[i])


@inlined
def _tally_as_met(columns: Any, n: int, places: Any, entries: _Entries) -> int:
    """Write how often each of ``n`` columns occurs, in the order of first sight: sums need no other, and it is there.

    ``places`` (n_columns,) are all 0, before and after.
    """
    indices, counts = entries.indices, entries.values
    filled = 0
    for k in range(n):
        column = columns[k]
        place = places[column]
        if place == 0:
            indices[filled], counts[filled] = column, 1
            filled += 1
            places[column] = filled
        else:
            counts[place - 1] += 1
    for k in range(filled):
        places[indices[k]] = 0
    return filled


@kernel
def _move_entries(entries: _Entries, begin: int, end: int, to: int) -> None:
    """Move entries to the left, without a copy beside them."""
    indices, values = entries.indices, entries.values
    for k in range(end - begin):
        indices[to + k], values[to + k] = indices[begin + k], values[begin + k]


@kernel
def _sums_by_column(indices: Any, values: Any, n_columns: int) -> Any:
    """How many entries each column has, and their sum: what bincount gives, without its copies."""
    entries, sums = np.zeros(n_columns, np.int64), np.zeros(n_columns)
    for k in range(len(indices)):
        entries[indices[k]] += 1
        sums[indices[k]] += values[k]
    return entries, sums


@kernel
def _weigh_block(
    values: Any,
    offsets: Any,
    tools: _Tools,
    work: _Workspace,
    entries: _Entries,
) -> Any:
    """Weigh the known terms of texts into ``entries``. Returns indptr."""
    values, offsets, tools, work, entries = borrowed((values, offsets, tools, work, entries))
    analyzer, vocabulary, weighing = tools
    indptr = np.zeros(len(offsets), np.int64)
    for i in range(len(offsets) - 1):
        n = _hash_terms(values[offsets[i] : offsets[i + 1]], analyzer, work)
        n = _known_columns(n, vocabulary.slots, work)
        indptr[i + 1] = _tally(work.columns, n, len(weighing.idf), work.sorting, entries, indptr[i])
        _weigh_row(entries.indices, entries.values, indptr[i], indptr[i + 1], weighing)
    return indptr


@inlined
def _weigh_row(indices: Any, values: Any, begin: int, end: int, weighing: _Weighing) -> None:
    """Turn a text's counts into weights: term frequency times idf, scaled (scikit-learn's ``TfidfTransformer``)."""
    idf, sublinear, norm = weighing.idf, weighing.sublinear, weighing.norm
    size = 0.0
    for entry in range(begin, end):
        count = values[entry]
        # Most terms stand in a text once, and a logarithm takes longer than all else here.
        frequency = np.log(count) + 1.0 if sublinear and count != 1.0 else count
        weight = frequency * idf[indices[entry]]
        values[entry] = weight
        size += abs(weight) if norm == 1 else weight * weight
    if norm != 0 and size > 0:
        scale = size if norm == 1 else np.sqrt(size)
        for entry in range(begin, end):
            values[entry] /= scale


@kernel
def _score_block(
    values: Any,
    offsets: Any,
    tools: _Tools,
    work: _Workspace,
    entries: _Entries,
    scoring: _Scoring,
    first_term: int,
    scores: Any,
    known_terms: Any,
) -> None:
    """Add one space's part to the scores of texts."""
    values, offsets, tools, work, entries = borrowed((values, offsets, tools, work, entries))
    scoring, scores = borrowed((scoring, scores))
    weights, rows = scoring
    analyzer, vocabulary, weighing = tools
    places = np.zeros(len(weighing.idf), np.int32)
    for i in range(len(offsets) - 1):
        n = _hash_terms(values[offsets[i] : offsets[i + 1]], analyzer, work)
        n = _known_columns(n, vocabulary.slots, work)
        n = _tally_as_met(work.columns, n, places, entries)
        of_text = scores[i]
        _weigh_row(entries.indices, entries.values, 0, n, weighing)
        for k in range(n):
            row, weight = first_term + entries.indices[k], entries.values[k]
            if len(rows):
                row = rows[row]
                if row < 0:
                    continue
            of_term = weights[row]
            for topic in range(len(of_term)):
                of_text[topic] += weight * of_term[topic]
        if analyzer.kind != _TEXT_LENGTH:
            known_terms[i] += n


@kernel
def _weigh_known(indptr: Any, indices: Any, counts: Any, position: Any, weighing: _Weighing) -> Any:
    """Weights of counted terms; ``position`` is each one's column, ascending as they are, or -1."""
    new_indptr = np.zeros_like(indptr)
    new_indices, weights = np.empty(len(indices), np.int32), np.empty(len(indices))
    filled = 0
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            column = position[indices[entry]]
            if column >= 0:
                new_indices[filled], weights[filled] = column, counts[entry]
                filled += 1
        new_indptr[row + 1] = filled
        _weigh_row(new_indices, weights, new_indptr[row], filled, weighing)
    return new_indptr, new_indices[:filled], weights[:filled]


@kernel
def _append_to_rows(
    indptr: Any, indices: Any, values: Any, first_column: int, filled: Any, into_indices: Any, into_values: Any
) -> None:
    """Copy each row's entries to where that row of a wider matrix is filled to, columns moved to the right."""
    for row in range(len(indptr) - 1):
        place = filled[row]
        for entry in range(indptr[row], indptr[row + 1]):
            into_indices[place], into_values[place] = indices[entry] + first_column, values[entry]
            place += 1
        filled[row] = place
