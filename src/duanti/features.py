"""Texts into TF-IDF weighted terms, by scikit-learn's formulas and without scikit-learn.

Owns what a term is (a word n-gram or a character n-gram), how terms are counted, chosen and weighed. Words and
characters are two TF-IDF spaces side by side, each with its own norm: what a ``FeatureUnion`` of two
``TfidfVectorizer`` gives. Refuses to know topics, classifiers and files.

    text ─ normalise ─ lower ─┬─ Segmenter ─ stop words ─ word n-grams ──────┐
                              └─ runs of space folded ─ character n-grams ───┴─ counts ─ tf · idf ─ norm
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duanti import lexicon
from duanti.errors import DataError
from duanti.segmentation import Segmenter

TermKind = Literal["word", "character"]
_SPACES = re.compile(r"\s\s+")


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
    indices: NDArray[np.int64]  # column of each entry
    values: NDArray[np.float64]  # count or weight of each entry

    def select(self, rows: NDArray[np.intp]) -> Rows:
        """Return these rows, in the order given."""
        lengths = np.diff(self.indptr)[rows]
        indptr = np.concatenate(([0], np.cumsum(lengths)))
        entries = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], lengths)
        return Rows(indptr, self.indices[entries], self.values[entries])


class TermCounts(NamedTuple):
    """All terms of one kind in some texts: the terms, sorted, and how often each text has each."""

    kind: TermKind
    terms: list[str]
    rows: Rows

    def select(self, rows: NDArray[np.intp]) -> TermCounts:
        """Return the counts of these texts, over the same terms."""
        return self._replace(rows=self.rows.select(rows))


@dataclass(frozen=True)
class TermSpace:
    """The known terms of one kind, sorted, with their document frequencies and idf weights."""

    kind: TermKind
    terms: Sequence[str]
    document_frequency: NDArray[np.int64]
    idf: NDArray[np.float64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.terms)

    @cached_property
    def columns(self) -> dict[str, int]:
        """Term -> column."""
        return {term: column for column, term in enumerate(self.terms)}


def segmenter(options: FeatureOptions, n_jobs: int | None = None) -> Segmenter:
    """Return the segmenter these options ask for."""
    return Segmenter(user_words=options.user_words, hmm=options.hmm, n_jobs=n_jobs)


def count_terms(texts: Sequence[str], options: FeatureOptions, n_jobs: int | None = None) -> list[TermCounts]:
    """Count every term of every text, one ``TermCounts`` per kind."""
    counted = []
    for kind, terms_of_texts in _terms(texts, options, n_jobs):
        columns: dict[str, int] = {}
        rows = _count(terms_of_texts, columns, grow=True)
        terms = sorted(columns)
        position = np.empty(len(terms), dtype=np.int64)
        for sorted_column, term in enumerate(terms):
            position[columns[term]] = sorted_column
        counted.append(TermCounts(kind, terms, _sort_columns(rows, position)))
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
    return TermSpace(counts.kind, [counts.terms[column] for column in known], df, idf)


def weigh_counts(counts: TermCounts, space: TermSpace, options: FeatureOptions) -> Rows:
    """Return the weights of the known terms among ``counts``."""
    position = np.fromiter((space.columns.get(term, -1) for term in counts.terms), np.int64, len(counts.terms))
    return _weigh(_keep_known(counts.rows, position), space, options)


def weigh_texts(
    texts: Sequence[str], spaces: Sequence[TermSpace], options: FeatureOptions, n_jobs: int | None = None
) -> list[Rows]:
    """Return the weights of the known terms of each text, one ``Rows`` per space."""
    weighed = []
    for (_, terms_of_texts), space in zip(_terms(texts, options, n_jobs), spaces, strict=True):
        rows = _count(terms_of_texts, space.columns, grow=False)
        weighed.append(_weigh(_sort_columns(rows, np.arange(len(space))), space, options))
    return weighed


def side_by_side(parts: Sequence[Rows], widths: Sequence[int]) -> Rows:
    """Join matrices over the same texts: the columns of the second stand behind those of the first, and so on."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0, *widths[:-1]])
    lengths = np.array([np.diff(part.indptr) for part in parts])
    text_of = np.concatenate([np.repeat(np.arange(lengths.shape[1]), row) for row in lengths])
    order = np.argsort(text_of, kind="stable")
    indices = np.concatenate([part.indices + offset for part, offset in zip(parts, offsets, strict=True)])
    values = np.concatenate([part.values for part in parts])
    return Rows(np.concatenate(([0], np.cumsum(lengths.sum(axis=0)))), indices[order], values[order])


def term_hashes(kind: TermKind, terms: Sequence[str]) -> NDArray[np.uint64]:
    """Return the 64-bit hash of each term: its code points, one after the other, into a multiply-and-shift.

    ``h = (h ^ c) * 0x9E3779B97F4A7C15; h ^= h >> 32`` for each code point c, modulo 2**64, beginning with 0 for a
    character term and 0xD1B54A32D192ED03 for a word: far apart, so that no first code point leads from one to
    the other.
    """
    lengths = np.fromiter(map(len, terms), np.int64, len(terms))
    code_points = np.frombuffer("".join(terms).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    starts = np.cumsum(lengths) - lengths
    hashes = np.full(len(terms), 0xD1B54A32D192ED03 if kind == "word" else 0, dtype=np.uint64)
    for position in range(int(lengths.max(initial=0))):
        longer = lengths > position
        mixed = (hashes[longer] ^ code_points[starts[longer] + position]) * np.uint64(0x9E3779B97F4A7C15)
        hashes[longer] = mixed ^ (mixed >> np.uint64(32))
    return hashes


def _terms(
    texts: Sequence[str], options: FeatureOptions, n_jobs: int | None
) -> Iterator[tuple[TermKind, Iterator[list[str]]]]:
    """The terms of each text, in order and with repetitions, one stream per kind."""
    prepared = [_prepare(text, options) for text in texts]
    if options.words is not None:
        stop_words = frozenset(options.stop_words)
        tokens = segmenter(options, n_jobs).cut_all(prepared)
        yield "word", (word_ngrams([t for t in row if t not in stop_words], options.words) for row in tokens)
    if options.characters is not None:
        yield "character", (character_ngrams(text, options.characters) for text in prepared)


def _prepare(text: str, options: FeatureOptions) -> str:
    if options.normalize:
        text = lexicon.normalize(text)
    return text.lower() if options.lowercase else text


def word_ngrams(tokens: Sequence[str], lengths: tuple[int, int]) -> list[str]:
    """Return the n-grams of these lengths, their tokens joined by a space.

    >>> word_ngrams(["股市", "大", "涨"], (1, 2))
    ['股市', '大', '涨', '股市 大', '大 涨']
    """
    return [
        " ".join(tokens[start : start + n])
        for n in range(lengths[0], min(lengths[1], len(tokens)) + 1)
        for start in range(len(tokens) - n + 1)
    ]


def character_ngrams(text: str, lengths: tuple[int, int]) -> list[str]:
    """Return the n-grams of these lengths over code points, runs of white space folded to one space first.

    >>> character_ngrams("股市", (1, 2))
    ['股', '市', '股市']
    """
    text = _SPACES.sub(" ", text)
    return [
        text[start : start + n]
        for n in range(lengths[0], min(lengths[1], len(text)) + 1)
        for start in range(len(text) - n + 1)
    ]


def _count(terms_of_texts: Iterable[list[str]], columns: dict[str, int], *, grow: bool) -> Rows:
    """Count terms text by text; unknown ones get the next column, or are passed over."""
    indptr, indices, values = [0], list[int](), list[int]()
    for terms in terms_of_texts:
        counts: dict[int, int] = {}
        for term in terms:
            column = columns.setdefault(term, len(columns)) if grow else columns.get(term)
            if column is not None:
                counts[column] = counts.get(column, 0) + 1
        indices.extend(counts)
        values.extend(counts.values())
        indptr.append(len(indices))
    return Rows(np.array(indptr, np.int64), np.array(indices, np.int64), np.array(values, np.float64))


def _sort_columns(rows: Rows, position: NDArray[np.int64]) -> Rows:
    """Move each column to ``position[column]``, and put every row's entries in ascending order."""
    indices = position[rows.indices]
    text_of = np.repeat(np.arange(len(rows.indptr) - 1), np.diff(rows.indptr))
    order = np.lexsort((indices, text_of))
    return Rows(rows.indptr, indices[order], rows.values[order])


def _keep_known(rows: Rows, position: NDArray[np.int64]) -> Rows:
    """Move each column to ``position[column]``, ascending as the columns are; drop those at -1."""
    indices = position[rows.indices]
    known = indices >= 0
    kept_before = np.concatenate(([0], np.cumsum(known)))
    return Rows(kept_before[rows.indptr], indices[known], rows.values[known])


def _weigh(counts: Rows, space: TermSpace, options: FeatureOptions) -> Rows:
    """Term frequency times idf, scaled per text: scikit-learn's ``TfidfTransformer``."""
    weights = np.log(counts.values) + 1.0 if options.sublinear_tf else counts.values.copy()
    if options.use_idf:
        weights *= space.idf[counts.indices]
    if options.norm is not None:
        lengths = np.diff(counts.indptr)
        text_of = np.repeat(np.arange(len(lengths)), lengths)
        size = np.abs(weights) if options.norm == "l1" else weights * weights
        total = np.bincount(text_of, weights=size, minlength=len(lengths))
        scale = total if options.norm == "l1" else np.sqrt(total)
        weights /= scale[text_of]
    return Rows(counts.indptr, counts.indices, weights)
