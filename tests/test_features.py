"""Features: TF-IDF worked by hand, hashes and sparse rows against slow twins and scipy."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from duanti import DataError, TermVectorizer
from duanti.features import FeatureOptions, Rows, TermKind, count_terms, load_tables, side_by_side, term_hashes
from duanti.segmentation import Segmenter

STARTER = Path(__file__).parents[1] / "data" / "starter" / "train.jsonl"

# Of two texts, "甲乙甲" and "乙丙", 甲 and 丙 stand in one each and 乙 in both, whose idf is ln(3/3) + 1 = 1.
RARE = math.log(3 / 2) + 1
LONG = math.sqrt(1 + RARE**2)  # length of the second text's weights
KINDS: tuple[TermKind, ...] = get_args(TermKind)


def word_ngrams(tokens: list[str], lengths: tuple[int, int]) -> list[str]:
    """The obvious n-grams of tokens: the kernel's slow twin."""
    return [
        " ".join(tokens[start : start + n])
        for n in range(lengths[0], lengths[1] + 1)
        for start in range(len(tokens) - n + 1)
    ]


def character_ngrams(text: str, lengths: tuple[int, int]) -> list[str]:
    """The obvious n-grams of characters, runs of space folded: the kernel's slow twin."""
    text = re.sub(r"\s\s+", " ", text)
    return [text[start : start + n] for n in range(lengths[0], lengths[1] + 1) for start in range(len(text) - n + 1)]


def prefixes_of(text: str, lengths: tuple[int, int]) -> list[str]:
    """The obvious prefixes, runs of space folded: the kernel's slow twin."""
    text = re.sub(r"\s\s+", " ", text)
    return [text[:n] for n in range(lengths[0], lengths[1] + 1) if n <= len(text)]


def text_length_of(text: str) -> list[str]:
    """The number of characters that are no space, to two digits: the kernel's slow twin."""
    n = sum(not character.isspace() for character in text)
    scale = 10 ** max(len(str(n)) - 2, 0)
    return [str(n // scale * scale)] if n else []


def rows_of(matrix: sparse.csr_matrix) -> Rows:
    return Rows(matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data.astype(np.float64))


def csr_of(rows: Rows, width: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((rows.values, rows.indices, rows.indptr), shape=(len(rows.indptr) - 1, width))


def same(rows: Rows, expected: sparse.csr_matrix) -> bool:
    return all(
        np.array_equal(ours, theirs)
        for ours, theirs in zip(rows, (expected.indptr, expected.indices, expected.data), strict=True)
    )


@st.composite
def matrices(draw: st.DrawFn, n_rows: int | None = None) -> sparse.csr_matrix:
    """Small sparse matrices, some of their rows empty, columns ascending."""
    height = draw(st.integers(0, 6)) if n_rows is None else n_rows
    width = draw(st.integers(1, 5))
    cells = draw(st.lists(st.integers(0, 3), min_size=height * width, max_size=height * width))
    return sparse.csr_matrix(np.array(cells, dtype=np.float64).reshape(height, width))


@pytest.mark.parametrize(
    ("settings", "first", "second"),
    [
        ({}, (2 * RARE / math.hypot(2 * RARE, 1), 1 / math.hypot(2 * RARE, 1), 0), (0, 1 / LONG, RARE / LONG)),
        ({"norm": None}, (2 * RARE, 1, 0), (0, 1, RARE)),
        ({"norm": "l1"}, (2 * RARE / (2 * RARE + 1), 1 / (2 * RARE + 1), 0), (0, 1 / (1 + RARE), RARE / (1 + RARE))),
        ({"norm": None, "use_idf": False}, (2, 1, 0), (0, 1, 1)),
        ({"norm": None, "sublinear_tf": True}, ((1 + math.log(2)) * RARE, 1, 0), (0, 1, RARE)),
        ({"norm": None, "use_idf": False, "sublinear_tf": True}, (1 + math.log(2), 1, 0), (0, 1, 1)),
    ],
)
def test_weights_worked_by_hand(
    settings: dict[str, object], first: tuple[float, ...], second: tuple[float, ...]
) -> None:
    vectorizer = TermVectorizer(words=None, characters=(1, 1), **settings)  # type: ignore[arg-type]
    matrix = vectorizer.fit_transform(["甲乙甲", "乙丙"])
    names = [f"characters__{term}" for term in sorted("甲乙丙")]
    assert list(vectorizer.get_feature_names_out()) == names
    columns = [names.index(f"characters__{term}") for term in "甲乙丙"]
    assert np.allclose(matrix.toarray()[:, columns], [first, second], rtol=0, atol=1e-12)


def test_document_frequency_and_idf_worked_by_hand() -> None:
    vectorizer = TermVectorizer(words=None, characters=(1, 1)).fit(["甲甲", "甲乙", "乙", "甲"])
    (space,) = vectorizer.spaces_
    assert dict(zip(space.terms.to_pylist(), space.document_frequency, strict=True)) == {"甲": 3, "乙": 2}
    assert dict(zip(space.terms.to_pylist(), space.idf, strict=True)) == pytest.approx(
        {"甲": 1 + math.log(5 / 4), "乙": 1 + math.log(5 / 3)}, abs=1e-15
    )


ALPHABET = st.sampled_from("股市大涨的了在是一二 \t\n\u3000\u2028aB9.%-+😂𠮷·，")
LENGTHS = st.sampled_from([(1, 1), (1, 2), (2, 2), (2, 3), (1, 4), (3, 5)])


@settings(deadline=None)  # the first call compiles
@given(
    st.lists(st.text(ALPHABET, max_size=30) | st.text("股 ", min_size=98, max_size=1300), max_size=6),
    LENGTHS,
    LENGTHS,
    st.sets(st.sampled_from("股市的了a ")),
    st.integers(1, 12),
)
def test_the_kernels_count_what_the_obvious_way_counts(
    texts: list[str], words: tuple[int, int], characters: tuple[int, int], stop_words: set[str], opening: int
) -> None:
    options = FeatureOptions(
        words,
        characters,
        characters,
        text_length=True,
        opening=opening,
        lowercase=False,
        stop_words=tuple(sorted(stop_words)),
    )
    openings = [text[:opening] for text in texts]
    tokens, opening_tokens = (
        [[token for token in row if token not in stop_words] for row in Segmenter().cut_all(part)]
        for part in (texts, openings)
    )
    expected = {
        "word": [Counter(word_ngrams(row, words)) for row in tokens],
        "character": [Counter(character_ngrams(text, characters)) for text in texts],
        "prefix": [Counter(prefixes_of(text, characters)) for text in texts],
        "text_length": [Counter(text_length_of(text)) for text in texts],
        "opening_word": [Counter(word_ngrams(row, words)) for row in opening_tokens],
        "opening_character": [Counter(character_ngrams(text, characters)) for text in openings],
    }
    for kind, terms, hashes, rows in count_terms(texts, options, load_tables(options)):
        known = terms.to_pylist()
        assert known == sorted(set().union(*expected[kind]))
        assert hashes.tolist() == term_hashes(kind, known).tolist()
        for number, counts in enumerate(expected[kind]):
            entries = slice(rows.indptr[number], rows.indptr[number + 1])
            columns = rows.indices[entries].tolist()
            assert columns == sorted(columns)
            assert {known[c]: n for c, n in zip(columns, rows.values[entries], strict=True)} == counts


def slow_hash(kind: TermKind, term: str) -> int:
    """The formula of the docstring, in whole numbers of any size."""
    value = 0xD1B54A32D192ED03 if kind in ("word", "opening_word") else 0
    for character in term:
        value = (value ^ ord(character)) * 0x9E3779B97F4A7C15 % 2**64
        value ^= value >> 32
    return value


@given(st.sampled_from(KINDS), st.lists(st.text()))
def test_hashes_follow_their_formula(kind: TermKind, terms: list[str]) -> None:
    hashes = term_hashes(kind, terms)
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == [slow_hash(kind, term) for term in terms]


def test_hashes_are_the_ones_that_saved_bundles_hold() -> None:
    assert [f"{value:x}" for value in term_hashes("character", ["股", "股市"])] == [
        "3dc04d4e7622c47b",
        "13857bbc32263c51",
    ]
    assert [f"{value:x}" for value in term_hashes("word", ["股", "股市"])] == ["dee8b877f219ce3d", "bf67e9958e4ab0be"]


def test_two_hundred_thousand_words_and_characters_have_hashes_of_their_own() -> None:
    terms: set[str] = set()
    with STARTER.open(encoding="utf-8") as lines:
        for line in lines:
            terms.update(character_ngrams(json.loads(line)["text"], (1, 4)))
            if len(terms) >= 200_000:
                break
    assert len(terms) >= 200_000
    both = np.concatenate([term_hashes(kind, sorted(terms)) for kind in KINDS[:2]])
    assert len(np.unique(both)) == 2 * len(terms)


@pytest.mark.parametrize(
    ("n", "term"),
    [(1, "1"), (9, "9"), (10, "10"), (99, "99"), (100, "100"), (109, "100"), (110, "110"), (1999, "1900")],
)
def test_the_length_of_a_text_is_told_to_two_digits(n: int, term: str) -> None:
    options = FeatureOptions(words=None, characters=None, text_length=True)
    (counts,) = count_terms([" 股" * n, " \n"], options, load_tables(options))
    assert counts.terms.to_pylist() == text_length_of("股" * n) == [term]
    assert np.diff(counts.rows.indptr).tolist() == [1, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_what_counting_depends_on_is_all_that_it_depends_on(kind: TermKind) -> None:
    options = FeatureOptions(
        (1, 2), (1, 3), (1, 4), True, 5, True, False, False, ("股市大涨",), ("的",), True, False, None
    )
    assert options.kinds == KINDS
    texts = ["Ａ股市大涨的一天", "股市 大跌"]
    whole = dict(zip(KINDS, count_terms(texts, options, load_tables(options)), strict=True))[kind]
    own = options.counting(kind)
    (alone,) = count_terms(texts, own, load_tables(own), kinds=[kind])
    assert alone.kind == kind
    assert alone.terms == whole.terms
    assert all(map(np.array_equal, alone.rows, whole.rows))


@given(matrices(), st.data())
def test_selecting_rows_is_what_scipy_gives(matrix: sparse.csr_matrix, data: st.DataObject) -> None:
    height = matrix.shape[0]
    chosen = data.draw(st.lists(st.integers(0, height - 1))) if height else []
    rows = np.array(chosen, dtype=np.intp)
    assert same(rows_of(matrix).select(rows), matrix[rows])


@given(st.data())
def test_matrices_side_by_side_are_what_scipy_gives(data: st.DataObject) -> None:
    height = data.draw(st.integers(0, 5))
    parts = data.draw(st.lists(matrices(height), min_size=1, max_size=4))
    joined = side_by_side([rows_of(part) for part in parts], [part.shape[1] for part in parts])
    expected = sparse.hstack(parts, format="csr")
    expected.sort_indices()
    assert same(joined, expected)
    assert np.array_equal(csr_of(joined, expected.shape[1]).toarray(), expected.toarray())


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"min_df": 3}, "word"),
        ({"max_df": 0.1}, "word"),
        ({"words": None, "min_df": 3}, "character"),
        ({"characters": None, "stop_words": ["股市", "大涨", "基金"]}, "word"),
    ],
)
def test_pruning_that_leaves_no_term_is_told(settings: dict[str, object], kind: str) -> None:
    vectorizer = TermVectorizer(**settings)  # type: ignore[arg-type]
    with pytest.raises(DataError) as fault:
        vectorizer.fit(["股市大涨", "基金"])
    assert str(fault.value) == (
        f"After pruning, no {kind} terms remain in 2 texts. Try a lower min_df or a higher max_df."
    )
