"""TermVectorizer: the matrix that scikit-learn's FeatureUnion of two TfidfVectorizers gives over jieba's words."""

import json
import pickle
from functools import cache, partial
from pathlib import Path
from typing import Any

import jieba
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.svm import LinearSVC

from duanti import Corpus, DataError, TermVectorizer, lexicon, read_corpus
from test_features import prefixes_of, text_length_of

STARTER = Path(__file__).parents[1] / "data" / "starter" / "test.jsonl"
NASTY = [
    "",
    " ",
    "A股大涨A股大跌a股",
    "两  个　 空\t\t格\r\n\r\n换行",
    "İstanbul ΟΔΥΣΣΕΥΣ ὈΔΥΣΣΕΎΣ. Straße ǅ",
    "笑😂😂哭👨‍👩‍👧𠮷野家",
    "ＧＤＰ增长５．２％㎡",
    "C++语言,node.js_v2-beta&co 99.5%",
    "中\u200b华\ufeff人民共和国",
    "会",
]


def starter_texts() -> list[str]:
    lines = STARTER.read_text(encoding="utf-8").splitlines()
    assert len(lines) > 1000
    return [json.loads(line)["text"] for line in lines]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """A few hundred paragraphs to learn from, and some that bite."""
    return [*starter_texts()[::10], *NASTY]


@pytest.fixture(scope="module")
def unseen() -> list[str]:
    """Others that hold unknown terms, or nothing else."""
    return [*starter_texts()[5::20], *NASTY, "鿿鿿", "qqqq zzzz"]


@cache
def jiebas(user_words: tuple[str, ...], hmm: bool) -> Any:
    """The tokenizer that scikit-learn's users write, on a jieba of the test's own."""
    own = jieba.Tokenizer()
    for word in user_words:
        own.add_word(word)
    return lambda text: own.lcut(text, HMM=hmm)


def reference(
    words: tuple[int, int] | None = (1, 1),
    characters: tuple[int, int] | None = (1, 2),
    user_words: tuple[str, ...] = (),
    stop_words: tuple[str, ...] = (),
    hmm: bool = True,
    prefixes: tuple[int, int] | None = None,
    text_length: bool = False,
    opening: int | None = None,
    **shared: Any,
) -> FeatureUnion:
    """What TermVectorizer of the same parameters must equal."""
    spaces, last = [], []
    if words:
        tokenizer, stops = jiebas(user_words, hmm), list(stop_words) or None
        by_word = TfidfVectorizer(
            tokenizer=tokenizer, token_pattern=None, ngram_range=words, stop_words=stops, **shared
        )
        spaces.append(("words", by_word))
    if characters:
        spaces.append(("characters", TfidfVectorizer(analyzer="char", ngram_range=characters, **shared)))
    low = str.lower if shared.get("lowercase", True) else str
    if prefixes:
        analyzer = partial(prefixes_of, lengths=prefixes)
        spaces.append(("prefixes", TfidfVectorizer(analyzer=lambda text: analyzer(low(text)), **shared)))
    if opening:
        cut = {**shared, "lowercase": False, "preprocessor": lambda text: low(text)[:opening]}
        of_opening = reference(words, characters, user_words, stop_words, hmm, **cut)
        last = [(f"opening_{name}", space) for name, space in of_opening.transformer_list]
    if text_length:
        spaces.append(("text_length", TfidfVectorizer(analyzer=lambda text: text_length_of(low(text)), **shared)))
    return FeatureUnion([*spaces, *last])


def assert_equal(ours: sparse.csr_matrix, theirs: sparse.csr_matrix, tolerance: float = 1e-12) -> None:
    expected = sparse.csr_matrix(theirs)
    expected.sort_indices()
    assert ours.has_sorted_indices
    assert ours.shape == expected.shape
    assert ours.dtype == expected.dtype
    assert np.array_equal(ours.indptr, expected.indptr)
    assert np.array_equal(ours.indices, expected.indices)
    assert np.allclose(ours.data, expected.data, rtol=0, atol=tolerance)


GRID: list[dict[str, Any]] = [
    {},
    {"words": (1, 2)},
    {"words": (2, 2)},
    {"words": (1, 3), "characters": None},
    {"words": None},
    {"words": None, "characters": (1, 1)},
    {"characters": None},
    {"characters": (2, 3)},
    {"characters": (1, 4)},
    {"lowercase": False},
    {"hmm": False},
    {"user_words": ("改革", "的发展", "国务院办公厅关于")},
    {"user_words": ("国务院办公厅关于",), "hmm": False, "words": (1, 2)},
    {"stop_words": ("的", "了", ",", "。", "和")},
    {"stop_words": ("的", "了", ",", "。", "和"), "words": (1, 2)},
    {"min_df": 2},
    {"min_df": 0.01},
    {"min_df": 2, "max_df": 0.3, "words": (1, 2)},
    {"max_df": 20},
    {"max_df": 1},
    {"max_features": 100},
    {"max_features": 777, "words": (1, 2), "min_df": 2},
    {"max_features": 10**6},
    {"sublinear_tf": True},
    {"use_idf": False},
    {"use_idf": False, "sublinear_tf": True, "norm": None},
    {"norm": "l1"},
    {"norm": None},
    {"sublinear_tf": True, "words": (1, 2), "characters": (1, 3), "min_df": 2, "norm": "l2"},
    {"lowercase": False, "characters": (2, 3), "norm": "l1", "sublinear_tf": True},
    {"prefixes": (1, 3)},
    {"opening": 20},
    {
        "opening": 3,
        "characters": None,
        "words": (1, 2),
        "text_length": True,
        "stop_words": ("的", "了", ",", "。", "和"),
    },
    {"opening": 50, "words": None, "lowercase": False, "min_df": 2, "sublinear_tf": True, "norm": "l1"},
    {"prefixes": (2, 2), "words": None, "min_df": 2, "norm": None},
    {"text_length": True},
    {"text_length": True, "prefixes": (1, 4), "words": None, "characters": None, "norm": "l1", "max_df": 0.2},
    {"text_length": True, "prefixes": (1, 2), "lowercase": False, "use_idf": False, "norm": None, "max_features": 50},
]


@pytest.mark.parametrize("parameters", GRID, ids=lambda parameters: ",".join(map("=".join, shown(parameters))))
def test_the_matrix_is_scikit_learns(parameters: dict[str, Any], texts: list[str], unseen: list[str]) -> None:
    theirs, ours = reference(**parameters), TermVectorizer(**parameters, n_jobs=1)
    assert_equal(ours.fit_transform(texts), theirs.fit_transform(texts))
    assert_equal(ours.transform(unseen), theirs.transform(unseen))
    assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())


def shown(parameters: dict[str, Any]) -> list[tuple[str, str]]:
    """Parameters as a test's name has them, in ASCII."""
    return [(key, str(value) if str(value).isascii() else "some") for key, value in parameters.items()]


@pytest.mark.parametrize("parameters", [{}, {"sublinear_tf": True, "words": (1, 2), "norm": "l1"}, {"norm": None}])
def test_a_matrix_of_float32_is_scikit_learns(parameters: dict[str, Any], texts: list[str], unseen: list[str]) -> None:
    theirs = reference(**parameters, dtype=np.float32)
    ours = TermVectorizer(**parameters, dtype=np.float32)
    tolerance = 1e-6 if parameters.get("norm", "l2") else 1e-4  # without a norm weights reach the hundreds
    assert_equal(ours.fit_transform(texts), theirs.fit_transform(texts), tolerance)
    assert_equal(ours.transform(unseen), theirs.transform(unseen), tolerance)


def test_normalising_is_what_normalising_the_texts_first_gives(texts: list[str], unseen: list[str]) -> None:
    ours = TermVectorizer(normalize=True)
    theirs = reference().fit([lexicon.normalize(text) for text in texts])
    assert_equal(ours.fit_transform(texts), theirs.transform([lexicon.normalize(text) for text in texts]))
    assert_equal(ours.transform(unseen), theirs.transform([lexicon.normalize(text) for text in unseen]))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.text("股市大涨的一aAＡİΣς .%9\r\n　😂\u200b"), min_size=1, max_size=6),
    st.lists(st.text("股市大涨的一aAＡİΣς .%9\r\n　😂\u200b"), max_size=3),
    st.sampled_from([(1, 1), (1, 2), (2, 2)]),
    st.booleans(),
)
def test_any_texts_have_scikit_learns_matrix(
    texts: list[str], unseen: list[str], lengths: tuple[int, int], lowercase: bool
) -> None:
    known = [*texts, "股市大涨"]
    parameters: dict[str, Any] = {
        "words": lengths,
        "characters": lengths,
        "prefixes": lengths,
        "text_length": True,
        "opening": 4,
        "lowercase": lowercase,
    }
    theirs, ours = reference(**parameters), TermVectorizer(**parameters)
    assert_equal(ours.fit_transform(known), theirs.fit_transform(known))
    assert_equal(ours.transform([*unseen, ""]), theirs.transform([*unseen, ""]))


@pytest.mark.parametrize("parameters", [{}, {"min_df": 2, "words": (1, 2), "sublinear_tf": True, "normalize": True}])
def test_fit_transform_is_fit_then_transform(parameters: dict[str, Any], texts: list[str]) -> None:
    at_once = TermVectorizer(**parameters).fit_transform(texts)
    assert_equal(at_once, TermVectorizer(**parameters).fit(texts).transform(texts), tolerance=0)


@pytest.mark.parametrize("parameters", [{}, {"min_df": 2, "max_features": 300, "words": (1, 2)}, {"max_df": 0.2}])
def test_counts_of_some_rows_are_as_good_as_their_texts(parameters: dict[str, Any], texts: list[str]) -> None:
    inside, outside = np.arange(0, len(texts), 2), np.arange(1, len(texts), 2)
    vectorizer = TermVectorizer(**parameters)
    counts = vectorizer.count(texts)
    known = [part.select(inside) for part in counts]
    theirs = reference(**parameters).fit([texts[row] for row in inside])
    assert_equal(vectorizer.fit_counts(known).transform_counts(known), theirs.transform([texts[i] for i in inside]))
    held_out = vectorizer.transform_counts([part.select(outside) for part in counts])
    assert_equal(held_out, theirs.transform([texts[row] for row in outside]))
    assert list(vectorizer.get_feature_names_out()) == list(theirs.get_feature_names_out())


def test_the_number_of_jobs_never_changes_the_matrix(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duanti.segmentation._CODE_POINTS_PER_THREAD", 50)
    alone = TermVectorizer(n_jobs=1).fit_transform(texts)
    assert_equal(TermVectorizer(n_jobs=2).fit_transform(texts), alone, tolerance=0)


@pytest.mark.parametrize("as_given", [tuple, np.array, iter], ids=["tuple", "array", "iterator"])
def test_texts_come_in_any_sequence(as_given: Any) -> None:
    expected = TermVectorizer().fit_transform(["股市大涨", "基金"])
    assert_equal(TermVectorizer().fit_transform(as_given(["股市大涨", "基金"])), expected)


def test_no_texts_are_a_matrix_without_rows() -> None:
    vectorizer = TermVectorizer().fit(["股市大涨", "基金"])
    assert vectorizer.transform([]).shape == (0, len(vectorizer.get_feature_names_out()))


def test_texts_without_known_terms_are_rows_without_entries() -> None:
    matrix = TermVectorizer().fit(["股市大涨", "基金"]).transform(["", "会议"])
    assert (matrix.shape[0], matrix.nnz) == (2, 0)


@pytest.mark.parametrize("nothing", [[], [""], ["", ""]])
def test_nothing_to_learn_from_is_told(nothing: list[str]) -> None:
    with pytest.raises(DataError, match="no word terms remain"):
        TermVectorizer().fit(nothing)


def test_a_lone_string_is_refused() -> None:
    for refuse in (TermVectorizer().fit, TermVectorizer().fit_transform, TermVectorizer().fit(["股市"]).transform):
        with pytest.raises(ValueError, match="a single string where a sequence of texts is expected"):
            refuse("股市大涨")


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"words": None, "characters": None, "text_length": True}, "words, characters and prefixes are all None"),
        (
            {"opening": 9, "words": None, "characters": None, "prefixes": (1, 2)},
            "opening=9 counts words and characters",
        ),
        ({"opening": 0}, "opening=0: give a number of characters"),
        ({"prefixes": (2, 1)}, r"prefixes=\(2, 1\): give the shortest and the longest prefix"),
        ({"words": (0, 1)}, r"words=\(0, 1\)"),
        ({"words": (2, 1)}, r"words=\(2, 1\)"),
        ({"characters": (1, 2, 3)}, r"characters=\(1, 2, 3\)"),
        ({"characters": (3, 2)}, r"characters=\(3, 2\)"),
        ({"min_df": -1}, "min_df=-1"),
        ({"min_df": 1.5}, r"min_df=1\.5"),
        ({"max_df": -0.5}, r"max_df=-0\.5"),
        ({"max_df": 2.0}, r"max_df=2\.0"),
        ({"max_features": 0}, "max_features=0"),
        ({"max_features": -5}, "max_features=-5"),
        ({"dtype": np.int64}, "dtype=.*int64.*: use float64 or float32"),
        ({"norm": "l3"}, "norm='l3'"),
    ],
)
def test_bad_parameters_are_told_when_fitting(parameters: dict[str, Any], said: str) -> None:
    vectorizer = TermVectorizer(**parameters)
    with pytest.raises(ValueError, match=said):
        vectorizer.fit(["股市大涨"])


@pytest.mark.parametrize("bound", [2, np.int64(2), np.int32(2)])
def test_whole_numbers_of_any_kind_are_counts(bound: Any, texts: list[str]) -> None:
    expected = reference(min_df=2, max_df=20).fit_transform(texts)
    assert_equal(TermVectorizer(min_df=bound, max_df=type(bound)(20)).fit_transform(texts), expected)


def test_what_is_not_fitted_says_so() -> None:
    for refuse in (TermVectorizer().get_feature_names_out, lambda: TermVectorizer().transform(["股市"])):
        with pytest.raises(NotFittedError):
            refuse()


def test_parameters_are_got_set_and_cloned() -> None:
    given_words = ["段题"]
    vectorizer = TermVectorizer(words=(1, 2), user_words=given_words, min_df=2)
    assert vectorizer.get_params()["user_words"] is given_words
    twin = clone(vectorizer.fit(["股市", "股市"]))
    assert twin.get_params() == vectorizer.get_params()
    assert not hasattr(twin, "spaces_")
    assert twin.set_params(min_df=1, words=None).get_params()["words"] is None
    with pytest.raises(ValueError, match="Invalid parameter 'ngrams'"):
        twin.set_params(ngrams=(1, 2))


def test_parameters_set_after_construction_are_obeyed(texts: list[str]) -> None:
    vectorizer = TermVectorizer().fit(texts).set_params(characters=None, sublinear_tf=True)
    assert_equal(vectorizer.fit_transform(texts), reference(characters=None, sublinear_tf=True).fit_transform(texts))


def test_a_pickled_vectorizer_gives_the_same_matrix(texts: list[str], unseen: list[str]) -> None:
    vectorizer = TermVectorizer(words=(1, 2), user_words=("的发展",), stop_words=("的",)).fit(texts)
    copy = pickle.loads(pickle.dumps(vectorizer))  # noqa: S301
    assert_equal(copy.transform(unseen), vectorizer.transform(unseen), tolerance=0)
    assert list(copy.get_feature_names_out()) == list(vectorizer.get_feature_names_out())


def test_it_works_in_scikit_learns_pipeline_and_search(small_corpus: Corpus) -> None:
    pipeline = Pipeline([("terms", TermVectorizer(n_jobs=1)), ("classifier", LinearSVC())])
    pipeline.fit(small_corpus.texts, small_corpus.topics)
    assert list(pipeline.predict(small_corpus.texts)) == small_corpus.topics
    search = GridSearchCV(pipeline, {"terms__characters": [(1, 1), (1, 2)], "terms__words": [(1, 1), None]}, cv=2)
    search.fit(small_corpus.texts, small_corpus.topics)
    assert set(search.best_params_) == {"terms__characters", "terms__words"}
    assert all(np.isfinite(search.cv_results_["mean_test_score"]))


def test_real_headlines_have_scikit_learns_matrix(corpora: Path) -> None:
    headlines = read_corpus(corpora / "thucnews" / "dev.jsonl.gz").texts[:1500]
    parameters: dict[str, Any] = {"words": (1, 2), "characters": (1, 3), "min_df": 2, "sublinear_tf": True}
    assert_equal(
        TermVectorizer(**parameters).fit_transform(headlines), reference(**parameters).fit_transform(headlines)
    )


def test_arrow_arrays_give_the_matrix_of_their_strings(texts: list[str]) -> None:
    vectorizer = TermVectorizer()
    expected = vectorizer.fit_transform(texts)
    array = pa.chunked_array([texts[:50], texts[50:]])
    assert_equal(vectorizer.transform(array), expected, 0)
    assert_equal(TermVectorizer().fit_transform(array), expected, 0)


def test_a_null_in_an_array_is_told() -> None:
    with pytest.raises(ValueError, match="text 1 is null, not a string"):
        TermVectorizer().fit(pa.array(["股市", None]))


@pytest.mark.slow
def test_the_matrix_of_a_whole_real_corpus_is_scikit_learns(corpora: Path) -> None:
    headlines = read_corpus(corpora / "thucnews" / "train.jsonl.gz").texts
    assert len(headlines) > 50_000
    theirs, ours = reference(), TermVectorizer()
    assert_equal(ours.fit_transform(headlines), theirs.fit_transform(headlines))
    assert list(ours.get_feature_names_out()) == list(theirs.get_feature_names_out())
