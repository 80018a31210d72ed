"""Texts into TF-IDF weighted terms, by scikit-learn's formulas and without scikit-learn.

Owns what a term is (a word n-gram or a character n-gram), how terms are counted, chosen, weighed and scored. Words
and characters are two TF-IDF spaces side by side, each with its own norm: what a ``FeatureUnion`` of two
``TfidfVectorizer`` gives. Refuses to know topics, classifiers and files.

    texts ─ code points ─ normalise, lower ─┬─ segment ─ stop words ─ word n-grams ──────┐
                                            └─ runs of space folded ─ character n-grams ─┴─ counts ─ tf · idf ─ norm

A term is known by the 64-bit hash of its code points. Kernels take a block of texts and write what they find into
arrays that were made large enough for it; nothing is made per text, token or term.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial
from numbers import Integral
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from duanti import lexicon
from duanti.compilation import announce, code_folder, inlined, kernel
from duanti.errors import DataError
from duanti.lexicon import CAPITAL_SIGMA, EXPANSION, Forms, Lexicon, TextTables, read_only
from duanti.segmentation import CodePoints, in_slices, make_scratch, segment

TermKind = Literal["word", "character"]

# Code points handled at once: enough to forget the calls, few enough for the results to stay in a cache.
_BLOCK = 1 << 18
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_WORD_SEED, _CHARACTER_SEED = np.uint64(0xD1B54A32D192ED03), np.uint64(0)
_NORMS = {None: 0, "l1": 1, "l2": 2}


@dataclass(frozen=True)
class FeatureOptions:
    """How terms are taken from a text and weighed; the parameters of ``TermVectorizer`` of the same names."""

    words: tuple[int, int] | None = (1, 1)
    characters: tuple[int, int] | None = (1, 2)
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
        spaces: tuple[tuple[TermKind, Any], ...] = (("word", self.words), ("character", self.characters))
        return tuple(kind for kind, lengths in spaces if lengths is not None)


class Rows(NamedTuple):
    """A sparse matrix by rows (CSR), columns ascending within a row."""

    indptr: NDArray[np.int64]  # n_texts + 1: where each text's entries begin and end
    indices: NDArray[np.int32]  # column of each entry
    values: NDArray[np.float64]  # count or weight of each entry

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
    """The known terms of one kind, sorted, with their document frequencies, idf weights and hashes."""

    kind: TermKind
    terms: pa.LargeStringArray = field(repr=False)
    document_frequency: NDArray[np.int64] = field(repr=False)
    idf: NDArray[np.float64] = field(repr=False)
    hashes: NDArray[np.uint64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.terms)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Hash -> column."""
        return _vocabulary_of(self.hashes)


class Vocabulary(NamedTuple):
    """A hash table with open addressing: ``slots[i]`` is a term's hash (0: none) and its column."""

    slots: NDArray[np.uint64]  # (size, 2), size a power of two
    n_terms: NDArray[np.int64]  # (1,)


class Names(NamedTuple):
    """The UTF-8 of terms as they are met; offsets have one entry more than there are terms."""

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]


def load_tables(options: FeatureOptions) -> TextTables:
    """Return the installed tables that these options ask for."""
    return lexicon.load_tables(options.user_words, normalized=options.normalize, lowercase=options.lowercase)


def prepare(texts: Sequence[str], options: FeatureOptions, forms: Forms) -> CodePoints:
    """Lay texts out and replace each code point by its form: normalised, lower-cased."""
    batch = CodePoints.of(texts)
    if not (options.normalize or options.lowercase):
        return batch
    values, offsets = _apply_forms(batch.values, batch.offsets, forms)
    if options.lowercase and CAPITAL_SIGMA in values:
        # The one letter whose lower case depends on its neighbours: those texts are lower-cased by Python.
        of_text = np.unique(np.searchsorted(offsets, np.flatnonzero(values == CAPITAL_SIGMA), side="right") - 1)
        mended = list(texts)
        for number in of_text:
            mended[number] = (lexicon.normalize(mended[number]) if options.normalize else mended[number]).lower()
        return prepare(mended, options, forms)
    return CodePoints(read_only(values), read_only(offsets))


def count_terms(
    texts: Sequence[str], options: FeatureOptions, tables: TextTables, n_jobs: int | None = None
) -> list[TermCounts]:
    """Count every term of every text, one ``TermCounts`` per kind."""
    batch = prepare(texts, options, tables.forms)
    counted = []
    for kind in options.kinds:
        work = partial(_count_slice, analyzer=_analyzer(kind, options, tables))
        parts = [part for _, part in in_slices(batch, work, n_jobs)]
        counted.append(_merge(kind, parts))
    return counted


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
    frequency = np.bincount(counts.rows.indices, minlength=len(counts.terms))
    low = min_df if isinstance(min_df, Integral) else min_df * n_texts
    high = max_df if isinstance(max_df, Integral) else max_df * n_texts
    # A term of counts that were selected from more texts may stand in none of these.
    chosen = (frequency >= max(low, 1)) & (frequency <= high)
    if max_features is not None and chosen.sum() > max_features:
        totals = np.bincount(counts.rows.indices, weights=counts.rows.values, minlength=len(counts.terms))
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


def weigh_counts(counts: TermCounts, space: TermSpace, options: FeatureOptions) -> Rows:
    """Return the weights of the known terms among ``counts``."""
    position = _columns_of(space.vocabulary, counts.hashes)
    return Rows(*_weigh_known(*counts.rows, position, _weighing(space, options)))


def weigh_texts(
    texts: Sequence[str],
    spaces: Sequence[TermSpace],
    options: FeatureOptions,
    tables: TextTables,
    n_jobs: int | None = None,
) -> list[Rows]:
    """Return the weights of the known terms of each text, one ``Rows`` per space."""
    batch = prepare(texts, options, tables.forms)
    weighed = []
    for space in spaces:
        analyzer = _analyzer(space.kind, options, tables)
        work = partial(_weigh_slice, analyzer=analyzer, space=space, weigh=_weighing(space, options))
        weighed.append(_stack([rows for _, part in in_slices(batch, work, n_jobs) for rows in part]))
    return weighed


def score_texts(
    texts: Sequence[str],
    spaces: Sequence[TermSpace],
    options: FeatureOptions,
    tables: TextTables,
    weights: NDArray[np.float32],
    bias: NDArray[np.float64],
    n_jobs: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return ``x @ weights + bias`` (n_texts, n_topics) and the number of known terms of each text, without x.

    Sums are of doubles, term by term in the order of the text: the same in a batch of any size.
    """
    spaces_in_use, first_row = [], 0
    for space in spaces:
        rows = read_only(weights)[first_row : first_row + len(space)]
        spaces_in_use.append(
            (_analyzer(space.kind, options, tables), space.vocabulary, _weighing(space, options), rows)
        )
        first_row += len(space)
    work = partial(_score_slice, spaces=spaces_in_use, bias=bias)
    parts = [part for _, part in in_slices(prepare(texts, options, tables.forms), work, n_jobs)]
    return np.concatenate([scores for scores, _ in parts]), np.concatenate([known for _, known in parts])


def side_by_side(parts: Sequence[Rows], widths: Sequence[int]) -> Rows:
    """Join matrices over the same texts: the columns of the second stand behind those of the first, and so on."""
    joined = parts[0]
    width = widths[0]
    for part, part_width in zip(parts[1:], widths[1:], strict=True):
        joined = Rows(*_side_by_side(*joined, *part, width))
        width += part_width
    return joined


def term_hashes(kind: TermKind, terms: pa.LargeStringArray | Sequence[str]) -> NDArray[np.uint64]:
    """Return the 64-bit hash of each term: its code points, one after the other, into a multiply-and-shift.

    ``h = (h ^ c) * 0x9E3779B97F4A7C15; h ^= h >> 32`` for each code point c, modulo 2**64, beginning with 0 for a
    character term and 0xD1B54A32D192ED03 for a word: far apart, so that no first code point leads from one to
    the other. 0, which marks an empty slot, becomes 1.
    """
    hashes: NDArray[np.uint64] = _hash_texts(*CodePoints.of(terms), _WORD_SEED if kind == "word" else _CHARACTER_SEED)
    return hashes


class _Analyzer(NamedTuple):
    """What a kernel must know to take the terms of one kind from a text."""

    is_word: bool
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


class _Workspace(NamedTuple):
    """Memory one thread takes terms in, for texts of up to so many code points."""

    scratch: Any  # for segmenting
    begins: NDArray[np.int64]  # of tokens
    ends: NDArray[np.int64]
    folded: NDArray[np.uint32]  # the text with its runs of space folded
    hashes: NDArray[np.uint64]  # of each occurrence of a term, in the order of the text
    firsts: NDArray[np.int32]  # the token, or character, each begins with
    lengths: NDArray[np.int32]  # and how many it has
    columns: NDArray[np.int32]  # the column of each, -1 for none
    entries: NDArray[np.int64]  # distinct terms: column << 32 | count
    entry_of: NDArray[np.int32]  # by column, where it stands in entries; needs no clearing between texts


class _Buffer(NamedTuple):
    """Memory for the entries of a block: made once a slice, because fresh memory costs as much as the work."""

    indices: NDArray[np.int32]
    values: NDArray[np.float64]
    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    dealt: NDArray[np.float64]
    starts: NDArray[np.int64]  # by column


def _make_buffer(n_entries: int, n_columns: int) -> _Buffer:
    indices, rows, columns = (np.empty(n_entries, np.int32) for _ in range(3))
    return _Buffer(indices, np.empty(n_entries), rows, columns, np.empty(n_entries), np.empty(n_columns + 1, np.int64))


def _analyzer(kind: TermKind, options: FeatureOptions, tables: TextTables) -> _Analyzer:
    announce("compiling kernels (half a minute)", code_folder())
    low, high = (options.words if kind == "word" else options.characters) or (1, 1)
    return _Analyzer(kind == "word", low, high, options.hmm, tables.lexicon, _stop_words(options.stop_words))


@lru_cache(maxsize=8)
def _stop_words(words: tuple[str, ...]) -> Vocabulary:
    hashes = np.unique(term_hashes("word", words))
    return _vocabulary_of(hashes)


def _vocabulary_of(hashes: NDArray[np.uint64]) -> Vocabulary:
    vocabulary = _new_vocabulary(len(hashes))
    _add_all(vocabulary, hashes)
    return vocabulary


def _new_vocabulary(n_terms: int) -> Vocabulary:
    size = 1 << max(4, int(2 * n_terms).bit_length())
    return Vocabulary(np.zeros((size, 2), np.uint64), np.zeros(1, np.int64))


def _blocks(batch: CodePoints) -> Iterator[CodePoints]:
    """Runs of texts of about ``_BLOCK`` code points, at least one text each."""
    first = 0
    while first < len(batch.offsets) - 1:
        limit = batch.offsets[first] + _BLOCK
        last = max(int(np.searchsorted(batch.offsets, limit, side="right")) - 1, first + 1)
        yield batch.slice(first, last)
        first = last


def _occurrences(batch: CodePoints, analyzer: _Analyzer) -> int:
    """How many terms these texts have at most."""
    return int(batch.offsets[-1] - batch.offsets[0]) * (analyzer.high - analyzer.low + 1)


class _Part(NamedTuple):
    """Counts of one slice of texts, its terms in the order they were met."""

    names: Names
    hashes: NDArray[np.uint64]
    blocks: list[Rows]


def _count_slice(batch: CodePoints, analyzer: _Analyzer) -> _Part:
    """Count the terms of a slice of texts; memory grows between blocks, never inside a kernel."""
    vocabulary, hashes = _new_vocabulary(0), np.empty(0, np.uint64)
    names, n_bytes = Names(np.empty(0, np.uint8), np.zeros(1, np.int64)), 0
    found: list[Rows] = []
    for block in _blocks(batch):
        n_terms, more = int(vocabulary.n_terms[0]), _occurrences(block, analyzer)
        if 2 * (n_terms + more) > len(vocabulary.slots):
            vocabulary = _new_vocabulary(2 * (n_terms + more))
            _add_all(vocabulary, hashes[:n_terms])
        hashes = _grown(hashes, n_terms, n_terms + more)
        # A term of n characters, or words, takes n times their bytes and n - 1 spaces.
        longest = 5 * int(block.offsets[-1] - block.offsets[0]) * analyzer.high * (analyzer.high + 1) // 2
        names = Names(
            _grown(names.data, n_bytes, n_bytes + longest), _grown(names.offsets, n_terms + 1, n_terms + more + 1)
        )
        found.append(Rows(*_count_block(block.values, block.offsets, analyzer, vocabulary, hashes, names)))
        n_bytes = int(names.offsets[vocabulary.n_terms[0]])
    n_terms = int(vocabulary.n_terms[0])
    return _Part(Names(names.data[:n_bytes], names.offsets[: n_terms + 1]), hashes[:n_terms], found)


def _grown(array: NDArray[Any], used: int, size: int) -> NDArray[Any]:
    """The array, or one at least twice as large with its used part, so that it holds ``size``."""
    if size <= len(array):
        return array
    grown = np.empty(max(size, 2 * len(array)), array.dtype)
    grown[:used] = array[:used]
    return grown


def _merge(kind: TermKind, parts: Sequence[_Part]) -> TermCounts:
    """Join the slices: each term once, in the order of code points, which is that of UTF-8 bytes."""
    arrays = [_string_array(part.names) for part in parts]
    terms, hashes = pa.concat_arrays(arrays), np.concatenate([part.hashes for part in parts])
    if len(parts) > 1:
        hashes, first = np.unique(hashes, return_index=True)
        terms = terms.take(pa.array(first))
    order = pc.sort_indices(terms).to_numpy()
    terms, hashes = terms.take(pa.array(order)), hashes[order]
    vocabulary = _vocabulary_of(hashes)
    moved: list[Rows] = []
    for part in parts:
        position = _columns_of(vocabulary, part.hashes)
        buffer = _make_buffer(max((len(block.indices) for block in part.blocks), default=0), len(terms))
        moved += [Rows(block.indptr, *_move_columns(*block, position, buffer)) for block in part.blocks]
    return TermCounts(kind, terms, hashes, _stack(moved))


def _string_array(names: Names) -> pa.LargeStringArray:
    buffers = [None, pa.py_buffer(names.offsets), pa.py_buffer(names.data)]
    return pa.Array.from_buffers(pa.large_string(), len(names.offsets) - 1, buffers)


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


def _weigh_slice(batch: CodePoints, analyzer: _Analyzer, space: TermSpace, weigh: _Weighing) -> list[Rows]:
    blocks = list(_blocks(batch))
    work = _make_workspace(batch.offsets, len(space), analyzer)
    buffer = _make_buffer(max((_occurrences(block, analyzer) for block in blocks), default=0), len(space))
    given = (analyzer, space.vocabulary, weigh, work, buffer)
    return [Rows(*_weigh_block(block.values, block.offsets, *given)) for block in blocks]


def _score_slice(
    batch: CodePoints,
    spaces: Sequence[tuple[_Analyzer, Vocabulary, _Weighing, NDArray[np.float32]]],
    bias: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    n_texts = len(batch.offsets) - 1
    scores, known_terms = np.tile(bias, (n_texts, 1)), np.zeros(n_texts, np.int64)
    for analyzer, vocabulary, weigh, rows in spaces:
        _score_block(batch.values, batch.offsets, analyzer, vocabulary, weigh, rows, scores, known_terms)
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
def _never_zero(h: Any) -> Any:
    return h if h != np.uint64(0) else np.uint64(1)


@kernel
def _hash_texts(values: Any, offsets: Any, seed: Any) -> Any:
    hashes = np.empty(len(offsets) - 1, np.uint64)
    for i in range(len(hashes)):
        h = seed
        for j in range(offsets[i], offsets[i + 1]):
            h = _mix(h, values[j])
        hashes[i] = _never_zero(h)
    return hashes


@inlined
def _find(slots: Any, h: Any) -> Any:
    """The slot of a hash, or the empty one where it would stand."""
    mask = len(slots) - 1
    place = np.int64(h) & mask
    while slots[place, 0] != h and slots[place, 0] != np.uint64(0):
        place = (place + 1) & mask
    return place


@inlined
def _column(slots: Any, h: Any) -> Any:
    """The column of a known hash, else -1."""
    place = _find(slots, h)
    return np.int64(slots[place, 1]) if slots[place, 0] == h else np.int64(-1)


@inlined
def _add(vocabulary: Vocabulary, h: Any) -> Any:
    """The column of a hash, the next one if it is new."""
    place = _find(vocabulary.slots, h)
    if vocabulary.slots[place, 0] != h:
        vocabulary.slots[place, 0] = h
        vocabulary.slots[place, 1] = np.uint64(vocabulary.n_terms[0])
        vocabulary.n_terms[0] += 1
    return np.int64(vocabulary.slots[place, 1])


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


@kernel
def _make_workspace(offsets: Any, n_terms: int, analyzer: _Analyzer) -> Any:
    """Memory for the longest of some texts and a vocabulary of up to ``n_terms``."""
    longest = 0
    for i in range(len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    n_most = longest * (analyzer.high - analyzer.low + 1)
    return _Workspace(
        make_scratch(longest),
        np.empty(longest, np.int64),
        np.empty(longest, np.int64),
        np.empty(longest, np.uint32),
        np.empty(n_most, np.uint64),
        np.empty(n_most, np.int32),
        np.empty(n_most, np.int32),
        np.empty(n_most, np.int32),
        np.empty(n_most, np.int64),
        np.zeros(n_terms, np.int32),
    )


@inlined
def _hash_terms(text: Any, analyzer: _Analyzer, work: _Workspace) -> int:
    """Hash every occurrence of a term in a text. Returns how many there are."""
    return _hash_words(text, analyzer, work) if analyzer.is_word else _hash_characters(text, analyzer, work)


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
                hashes[n], firsts[n], lengths[n] = _never_zero(h), i, length
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
                hashes[n], firsts[n], lengths[n] = _never_zero(h), i, length
                n += 1
    return n


@inlined
def _split_words(text: Any, analyzer: _Analyzer, work: _Workspace) -> int:
    """Segment a text and drop its stop words. Returns how many tokens are left."""
    n_tokens = segment(text, analyzer.lexicon, analyzer.hmm, work.scratch, work.ends)
    begins, ends = work.begins, work.ends
    any_stop_words = analyzer.stop_words.n_terms[0] > 0
    begin = np.int64(0)
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
    return _column(slots, _never_zero(h)) >= 0


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
def _tally_known(n_occurrences: int, vocabulary: Vocabulary, work: _Workspace) -> int:
    """Count the occurrences of known terms. Returns how many distinct ones there are."""
    columns, entries, entry_of = work.columns, work.entries, work.entry_of
    _look_up(n_occurrences, vocabulary.slots, work.hashes, columns)
    n = 0
    for k in range(n_occurrences):
        if columns[k] >= 0:
            n = _count(entries, entry_of, n, columns[k])
    return n


@inlined
def _look_up(n_occurrences: int, slots: Any, hashes: Any, columns: Any) -> None:
    """All columns before anything is counted: misses of the cache overlap where nothing waits for them."""
    for k in range(n_occurrences):
        columns[k] = _column(slots, hashes[k])


@inlined
def _tally_all(
    text: Any, n_occurrences: int, analyzer: _Analyzer, vocabulary: Vocabulary, hashes: Any, names: Names, work: Any
) -> int:
    """Count all occurrences; a new term gets the next column and leaves its hash and its name."""
    columns, entries, entry_of = work.columns, work.entries, work.entry_of
    _look_up(n_occurrences, vocabulary.slots, work.hashes, columns)
    n = 0
    for k in range(n_occurrences):
        column = np.int64(columns[k])
        if column < 0:
            n_terms = vocabulary.n_terms[0]
            column = _add(vocabulary, work.hashes[k])
            if column == n_terms:  # else this very text has brought it already
                hashes[column] = work.hashes[k]
                end = _write_name(text, work.firsts[k], work.lengths[k], analyzer, column, names, work)
                names.offsets[column + 1] = end
        n = _count(entries, entry_of, n, column)
    return n


@inlined
def _count(entries: Any, entry_of: Any, n: int, column: Any) -> int:
    """Count one occurrence of a column; returns how many distinct ones there are now."""
    place = entry_of[column]
    if place < n and entries[place] >> 32 == column:
        entries[place] += 1
        return n
    entries[n] = np.int64(column) << 32 | 1
    entry_of[column] = n
    return n + 1


@kernel
def _write_name(text: Any, first: int, length: int, analyzer: _Analyzer, column: Any, names: Names, work: Any) -> Any:
    """Write the UTF-8 of a term behind the names that are there; returns where it ends."""
    filled = names.offsets[column]
    if analyzer.is_word:
        for i in range(first, first + length):
            if i > first:
                filled = _write_utf8(names.data, filled, 32)
            for j in range(work.begins[i], work.ends[i]):
                filled = _write_utf8(names.data, filled, text[j])
    else:
        for i in range(first, first + length):
            filled = _write_utf8(names.data, filled, work.folded[i])
    return filled


@kernel
def _write_utf8(data: Any, place: int, character: Any) -> int:
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
def _count_block(
    values: Any, offsets: Any, analyzer: _Analyzer, vocabulary: Vocabulary, hashes: Any, names: Names
) -> Any:
    """Count the terms of texts, columns in the order of first sight."""
    n_texts = len(offsets) - 1
    n_most = (offsets[n_texts] - offsets[0]) * (analyzer.high - analyzer.low + 1)
    work = _make_workspace(offsets, vocabulary.n_terms[0] + n_most, analyzer)
    indptr, indices, counts = np.zeros(n_texts + 1, np.int64), np.empty(n_most, np.int32), np.empty(n_most)
    filled = 0
    for i in range(n_texts):
        text = values[offsets[i] : offsets[i + 1]]
        n = _tally_all(text, _hash_terms(text, analyzer, work), analyzer, vocabulary, hashes, names, work)
        for k in range(n):
            indices[filled + k] = work.entries[k] >> 32
            counts[filled + k] = work.entries[k] & 0xFFFFFFFF
        filled += n
        indptr[i + 1] = filled
    return indptr, indices[:filled].copy(), counts[:filled].copy()


@inlined
def _weigh_entries(entries: Any, n: int, weigh: _Weighing, weights: Any) -> None:
    """Term frequency times idf, scaled per text: scikit-learn's ``TfidfTransformer``."""
    size = 0.0
    for k in range(n):
        count = float(entries[k] & 0xFFFFFFFF)
        if weigh.sublinear:
            count = np.log(count) + 1.0
        weight = count * weigh.idf[entries[k] >> 32]
        weights[k] = weight
        size += abs(weight) if weigh.norm == 1 else weight * weight
    if weigh.norm != 0 and n > 0:
        scale = size if weigh.norm == 1 else np.sqrt(size)
        for k in range(n):
            weights[k] /= scale


@kernel
def _weigh_block(
    values: Any,
    offsets: Any,
    analyzer: _Analyzer,
    vocabulary: Vocabulary,
    weigh: _Weighing,
    work: _Workspace,
    buffer: _Buffer,
) -> Any:
    """Weights of the known terms of texts."""
    n_texts = len(offsets) - 1
    indptr, indices, counts = np.zeros(n_texts + 1, np.int64), buffer.indices, buffer.values
    filled = 0
    for i in range(n_texts):
        n = _tally_known(_hash_terms(values[offsets[i] : offsets[i + 1]], analyzer, work), vocabulary, work)
        for k in range(n):
            indices[filled + k] = work.entries[k] >> 32
            counts[filled + k] = work.entries[k] & 0xFFFFFFFF
        filled += n
        indptr[i + 1] = filled
    columns, weights = _sort_rows(indptr, indices, counts, buffer)
    _weigh_rows(indptr, columns, weights, weigh)
    return indptr, columns, weights


@kernel
def _weigh_rows(indptr: Any, indices: Any, values: Any, weigh: _Weighing) -> None:
    """Turn counts into weights, in place: term frequency times idf, scaled per text (``TfidfTransformer``)."""
    idf, sublinear, norm = weigh.idf, weigh.sublinear, weigh.norm
    for row in range(len(indptr) - 1):
        size = 0.0
        for entry in range(indptr[row], indptr[row + 1]):
            weight = (np.log(values[entry]) + 1.0 if sublinear else values[entry]) * idf[indices[entry]]
            values[entry] = weight
            size += abs(weight) if norm == 1 else weight * weight
        if norm != 0 and size > 0:
            scale = size if norm == 1 else np.sqrt(size)
            for entry in range(indptr[row], indptr[row + 1]):
                values[entry] /= scale


@kernel
def _sort_rows(indptr: Any, indices: Any, values: Any, buffer: _Buffer) -> Any:
    """Put each row's entries into ascending order: dealt out by column, then gathered by row, in two passes."""
    n = indptr[-1]
    rows, columns, dealt, starts = buffer.rows, buffer.columns, buffer.dealt, buffer.starts
    starts[:] = 0
    for entry in range(n):
        starts[indices[entry] + 1] += 1
    for column in range(len(starts) - 1):
        starts[column + 1] += starts[column]
    for row in range(len(indptr) - 1):
        for entry in range(indptr[row], indptr[row + 1]):
            column = indices[entry]
            place = starts[column]
            rows[place], columns[place], dealt[place] = row, column, values[entry]
            starts[column] = place + 1
    following = indptr[:-1].copy()
    sorted_indices, sorted_values = np.empty(n, np.int32), np.empty(n)
    for entry in range(n):
        place = following[rows[entry]]
        sorted_indices[place], sorted_values[place] = columns[entry], dealt[entry]
        following[rows[entry]] = place + 1
    return sorted_indices, sorted_values


@kernel
def _score_block(
    values: Any,
    offsets: Any,
    analyzer: _Analyzer,
    vocabulary: Vocabulary,
    weigh: _Weighing,
    rows: Any,
    scores: Any,
    known_terms: Any,
) -> None:
    """Add one space's part to the scores of texts."""
    work = _make_workspace(offsets, len(weigh.idf), analyzer)
    weights = np.empty(len(work.entries))
    for i in range(len(offsets) - 1):
        n = _tally_known(_hash_terms(values[offsets[i] : offsets[i + 1]], analyzer, work), vocabulary, work)
        _weigh_entries(work.entries, n, weigh, weights)
        for k in range(n):
            row = work.entries[k] >> 32
            for topic in range(rows.shape[1]):
                scores[i, topic] += weights[k] * rows[row, topic]
        known_terms[i] += n


@kernel
def _weigh_known(indptr: Any, indices: Any, counts: Any, position: Any, weigh: _Weighing) -> Any:
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
    new_indices, weights = new_indices[:filled].copy(), weights[:filled].copy()
    _weigh_rows(new_indptr, new_indices, weights, weigh)
    return new_indptr, new_indices, weights


@kernel
def _move_columns(indptr: Any, indices: Any, counts: Any, position: Any, buffer: _Buffer) -> Any:
    """Give each column its new number, and put each row's entries into ascending order."""
    for entry in range(len(indices)):
        buffer.indices[entry] = position[indices[entry]]
    return _sort_rows(indptr, buffer.indices, counts, buffer)


@kernel
def _side_by_side(
    indptr: Any, indices: Any, values: Any, other_indptr: Any, other_indices: Any, other_values: Any, width: int
) -> Any:
    joined = indptr + other_indptr
    columns, entries = np.empty(joined[-1], np.int32), np.empty(joined[-1])
    for i in range(len(indptr) - 1):
        filled = joined[i]
        for entry in range(indptr[i], indptr[i + 1]):
            columns[filled], entries[filled] = indices[entry], values[entry]
            filled += 1
        for entry in range(other_indptr[i], other_indptr[i + 1]):
            columns[filled], entries[filled] = other_indices[entry] + width, other_values[entry]
            filled += 1
    return joined, columns, entries
