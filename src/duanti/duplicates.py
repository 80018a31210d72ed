"""Which texts are the same, or nearly the same.

Owns the form in which texts are compared, the similarity of two texts, and the way to all similar pairs in about
linear time. Refuses to know topics, documents and files.

    texts ─ normalise, lower, drop spaces ─ distinct texts ─ 3-grams of characters ─ minima ─ bands ─ exact check

Similarity is Jaccard's: the 3-grams that two texts share, over all that either has; a text of fewer than three
characters is one gram. Under a random hash two texts have their minimum at the same gram with just that probability
(Broder 1997, "On the resemblance and containment of documents"). Texts that agree in all minima of some band are held
against one another gram by gram: nothing dissimilar is ever called similar, and of the pairs that lie just at the
threshold about one in a hundred thousand is never looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duanti.compilation import announce, code_folder, inlined, kernel
from duanti.features import FeatureOptions, prepare
from duanti.lexicon import load_forms, read_only
from duanti.segmentation import CodePoints, Texts, in_slices

#: Similarity, 0..1, from which on two texts are nearly the same.
THRESHOLD = 0.8

_COMPARED = FeatureOptions(normalize=True, lowercase=True)
_MINIMA = 160  # hash functions
_MISSED = 1e-5  # of pairs at the threshold, the share that no band may bring together
# How many texts of its bucket one is held against at most. Only where thousands of texts share a template, and are
# yet dissimilar, is a bucket larger than that; every band is another chance.
_REACH = 32
# A gram is three code points of 21 bits, each + 1, so that a shorter one is no other's.
_BITS = np.uint64(21)
_GRAM = np.uint64((1 << 63) - 1)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Groups(NamedTuple):
    """Who is like whom within some texts. A text like no other is a group of its own.

    What is near to one text of a near group belongs to it, so its ends may be less similar than the threshold.
    """

    exact: NDArray[np.int64]  # (n_texts,) the first text that is the same
    near: NDArray[np.int64]  # (n_texts,) the first text of the near group
    similarity: NDArray[np.float64]  # (n_texts,) to that one, 0..1


class Matches(NamedTuple):
    """What each of some texts is like among others."""

    partner: NDArray[np.int64]  # (n_texts,) the first of the others that is the same, else a near one, else -1
    exact: NDArray[np.bool_]  # (n_texts,) whether it is the same
    similarity: NDArray[np.float64]  # (n_texts,) to it, 0..1; 0 without a partner


def group_texts(texts: Texts, threshold: float = THRESHOLD, n_jobs: int | None = None) -> Groups:
    """Find the texts that are the same, and those at least ``threshold`` (0.5 to 1) similar.

    Texts of nothing but spaces are like no other.
    """
    sketches = _sketch(texts, threshold, n_jobs)
    parent = np.arange(len(sketches.first))
    for keys, order in sketches.buckets():
        _join_bucket_mates(keys, order, sketches.shingles, threshold, parent)
    roots = _roots(parent)
    leader = np.full(len(parent), len(sketches.number))
    np.minimum.at(leader, roots, sketches.first)
    leader = leader[roots]
    similarity = _similarities(sketches.number[leader], sketches.shingles)
    return Groups(sketches.first[sketches.number], leader[sketches.number], similarity[sketches.number])


def match_texts(
    texts: Sequence[str], others: Sequence[str], threshold: float = THRESHOLD, n_jobs: int | None = None
) -> Matches:
    """Find for each text one of the ``others`` that is the same, else one at least ``threshold`` (0.5 to 1) similar."""
    sketches = _sketch([*others, *texts], threshold, n_jobs)
    known = sketches.first < len(others)
    partner = np.where(known, np.arange(len(known)), -1)
    for keys, order in sketches.buckets():
        _match_bucket_mates(keys, order, sketches.shingles, threshold, known, partner)
    similarity = _similarities(partner, sketches.shingles)
    own = sketches.number[len(others) :]
    return Matches(np.where(partner < 0, -1, sketches.first[partner])[own], known[own], similarity[own])


def canonical(texts: Texts, n_jobs: int | None = None) -> CodePoints:
    """Return the texts as they are compared: normalised, lower-cased, without spaces."""
    announce("compiling kernels (half a minute)", code_folder())
    parts = [part for _, part in in_slices(CodePoints.of(texts), _canonical_slice, n_jobs)]
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return CodePoints(np.concatenate([part.values for part in parts]), np.concatenate([[0], np.cumsum(lengths)]))


class _Shingles(NamedTuple):
    """The 3-grams of each text, each once, ascending."""

    grams: NDArray[np.uint64]
    offsets: NDArray[np.int64]  # n_texts + 1


class _Sketches(NamedTuple):
    """Distinct texts, shortest first, and what brings similar ones together."""

    first: NDArray[np.int64]  # (n_distinct,) the first text that is this
    number: NDArray[np.int64]  # (n_texts,) which distinct text each is
    shingles: _Shingles
    keys: NDArray[np.uint64]  # (n_bands, n_distinct); texts with the same key of a band are its bucket

    def buckets(self) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.intp]]]:
        """The keys of each band, and its texts bucket by bucket; within one, those of one key of the next band too
        stand together, being the likelier to be similar."""
        for keys, next_keys in zip(self.keys, np.roll(self.keys, -1, axis=0), strict=True):
            yield keys, np.lexsort((next_keys, keys))


def _sketch(texts: Texts, threshold: float, n_jobs: int | None) -> _Sketches:
    if not 0.5 <= threshold <= 1:
        raise ValueError(f"threshold={threshold!r}: give a similarity from 0.5 to 1.")
    compared = canonical(texts, n_jobs)
    first, number = _distinct(compared)
    distinct = compared.narrowed(compared.offsets[first], compared.offsets[first + 1])
    parts = [part for _, part in in_slices(distinct, partial(_sketch_slice, n_rows=_rows(threshold)), n_jobs)]
    sizes = np.concatenate([np.diff(shingles.offsets) for shingles, _ in parts])
    grams = np.concatenate([shingles.grams for shingles, _ in parts])
    shingles = _Shingles(grams, np.concatenate([[0], np.cumsum(sizes)]))
    return _Sketches(first, number, shingles, np.hstack([keys for _, keys in parts]))


def _rows(threshold: float) -> int:
    """Minima per band: as many as still bring nearly all pairs at the threshold together in some band.

    A pair of similarity s agrees in a band of r minima with probability s**r, and in none of b bands with
    (1 - s**r)**b (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", 3.4).
    """
    return max(r for r in range(1, _MINIMA + 1) if (1 - threshold**r) ** (_MINIMA // r) <= _MISSED)


def _distinct(texts: CodePoints) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first text that is each distinct one, shortest first, and which of these each text is."""
    numbers: dict[bytes | int, int] = {}
    number = np.empty(len(texts.offsets) - 1, np.int64)
    for row, (begin, end) in enumerate(pairwise(texts.offsets.tolist())):
        # A text without characters is not the same as any other.
        number[row] = numbers.setdefault(texts.values[begin:end].tobytes() or row, len(numbers))
    first = np.unique(number, return_index=True)[1]
    order = np.argsort(np.diff(texts.offsets)[first], kind="stable")
    return first[order], np.argsort(order)[number]


def _canonical_slice(batch: CodePoints) -> CodePoints:
    formed = prepare(batch, _COMPARED, load_forms(normalized=True, lowercase=True))
    return CodePoints(*_drop_spaces(*formed, _spaces()))


@lru_cache(maxsize=1)
def _spaces() -> NDArray[np.bool_]:
    """Which of the first code points are spaces; the last there is, is U+3000."""
    return read_only(np.array([chr(code_point).isspace() for code_point in range(0x3001)]))


@lru_cache(maxsize=1)
def _hashes() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Two numbers for each hash function, the second odd, so that no two grams get the same hash."""
    random = np.random.Generator(np.random.PCG64(0))  # any will do, but always the same
    drawn = random.integers(1 << 32, size=(2, _MINIMA), dtype=np.uint32)
    return read_only(drawn[0]), read_only(drawn[1] | np.uint32(1))


def _sketch_slice(texts: CodePoints, n_rows: int) -> tuple[_Shingles, NDArray[np.uint64]]:
    grams, offsets = _shingle(*texts)
    keys = np.empty((_MINIMA // n_rows, len(offsets) - 1), np.uint64)
    _band_keys(grams, offsets, *_hashes(), n_rows, np.empty(_MINIMA, np.uint32), keys)
    return _Shingles(grams, offsets), keys


@kernel
def _drop_spaces(values: Any, offsets: Any, spaces: Any) -> Any:
    kept = np.empty(offsets[-1] - offsets[0], np.uint32)
    new_offsets = np.zeros(len(offsets), np.int64)
    n = 0
    for i in range(len(offsets) - 1):
        for place in range(offsets[i], offsets[i + 1]):
            if values[place] >= len(spaces) or not spaces[values[place]]:
                kept[n] = values[place]
                n += 1
        new_offsets[i + 1] = n
    return kept[:n].copy(), new_offsets


@kernel
def _shingle(values: Any, offsets: Any) -> Any:
    """The 3-grams of each text, ascending, each once."""
    n_texts = len(offsets) - 1
    grams = np.empty(offsets[-1] - offsets[0], np.uint64)
    gram_offsets = np.zeros(n_texts + 1, np.int64)
    n = 0
    for i in range(n_texts):
        begin, gram = n, np.uint64(0)
        for place in range(offsets[i], offsets[i + 1]):
            # The first two only prepare, unless the text ends with them.
            gram = (gram << _BITS | np.uint64(values[place] + 1)) & _GRAM
            if place >= offsets[i] + 2 or place == offsets[i + 1] - 1:
                grams[n] = gram
                n += 1
        grams[begin:n].sort()
        last, n = n, begin
        for place in range(begin, last):
            if n == begin or grams[place] != grams[n - 1]:
                grams[n] = grams[place]
                n += 1
        gram_offsets[i + 1] = n
    return grams[:n].copy(), gram_offsets


@kernel
def _band_keys(grams: Any, offsets: Any, flips: Any, factors: Any, n_rows: int, minima: Any, keys: Any) -> None:
    """For each text the minima of its grams under every hash function, folded into a key per band."""
    for i in range(len(offsets) - 1):
        minima[:] = np.uint32(0xFFFFFFFF)
        for place in range(offsets[i], offsets[i + 1]):
            mixed = grams[place] * _MULTIPLIER
            gram = np.uint32((mixed ^ mixed >> np.uint64(29)) * _MULTIPLIER >> np.uint64(32))
            for k in range(len(minima)):
                value = np.uint32((gram ^ flips[k]) * factors[k])
                minima[k] = min(minima[k], value)
        for band in range(len(keys)):
            key = np.uint64(band)
            for k in range(band * n_rows, (band + 1) * n_rows):
                key = (key ^ np.uint64(minima[k])) * _MULTIPLIER
                key ^= key >> np.uint64(32)
            keys[band, i] = key


@kernel
def _join_bucket_mates(keys: Any, order: Any, shingles: Any, threshold: float, parent: Any) -> None:
    """Join the similar texts of each bucket. ``order`` has the buckets one after the other, shorter texts first."""
    for place in range(len(order)):
        text = order[place]
        for before in range(place - 1, max(place - 1 - _REACH, -1), -1):
            mate = order[before]
            if keys[mate] != keys[text]:
                break
            root, other = _root(parent, text), _root(parent, mate)
            if root != other and _similarity(shingles, text, mate, threshold) >= threshold:
                parent[max(root, other)] = min(root, other)


@kernel
def _match_bucket_mates(keys: Any, order: Any, shingles: Any, threshold: float, known: Any, partner: Any) -> None:
    """Find a known text for those that have no partner yet, among the texts of each bucket."""
    for place in range(len(order)):
        text = order[place]
        for before in range(place - 1, max(place - 1 - _REACH, -1), -1):
            mate = order[before]
            if keys[mate] != keys[text]:
                break
            if known[text] == known[mate] or (partner[text] >= 0 and partner[mate] >= 0):
                continue
            if _similarity(shingles, text, mate, threshold) >= threshold:
                partner[mate if known[text] else text] = text if known[text] else mate


@kernel
def _roots(parent: Any) -> Any:
    roots = np.empty_like(parent)
    for i in range(len(parent)):
        roots[i] = _root(parent, i)
    return roots


@kernel
def _similarities(partner: Any, shingles: Any) -> Any:
    """The similarity of each text and its partner; 0 without one, 1 to itself."""
    similarities = np.zeros(len(partner))
    for i in range(len(partner)):
        if partner[i] == i:
            similarities[i] = 1.0
        elif partner[i] >= 0:
            similarities[i] = _similarity(shingles, i, partner[i], 0.0)
    return similarities


@inlined
def _root(parent: Any, i: Any) -> Any:
    """The root of i's tree, halving the way to it."""
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@kernel
def _similarity(shingles: Any, a: int, b: int, least: float) -> Any:
    """Jaccard's similarity of two texts, 0 when neither has a character; when below ``least``, a lower bound of it."""
    i, j = shingles.offsets[a], shingles.offsets[b]
    end_a, end_b = shingles.offsets[a + 1], shingles.offsets[b + 1]
    total, shared = end_a - i + end_b - j, 0
    # shared / (total - shared) >= least, said of those not shared; one more than that, because these are doubles.
    begin, most_unshared = i + j, total * (1 - least) / (1 + least) + 1
    while i < end_a and j < end_b and i + j - begin - 2 * shared <= most_unshared:
        left, right = shingles.grams[i], shingles.grams[j]
        shared += left == right
        i += left <= right
        j += right <= left
    return shared / (total - shared) if total else 0.0
