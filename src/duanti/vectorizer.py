"""``TermVectorizer``: features as a scikit-learn transformer.

Owns parameters, validation and the CSR matrix that scikit-learn expects. Refuses to know how a term is made or
weighed, which is features' matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import DTypeLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from duanti.features import (
    FeatureOptions,
    Rows,
    TermCounts,
    TermSpace,
    count_terms,
    learn_space,
    load_tables,
    name_of,
    weigh_counts,
    weigh_texts,
)
from duanti.segmentation import Texts


class TermVectorizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Texts to a sparse matrix of TF-IDF weighted words and characters.

    The same matrix as scikit-learn's ``FeatureUnion`` of two ``TfidfVectorizer``: one over
    ``tokenizer=jieba.lcut``, one with ``analyzer="char"``, each with its own norm. ``prefixes``, ``text_length``
    and ``opening`` put more beside them.

    Parameters
    ----------
    words, characters
        shortest and longest n-gram of each kind; None leaves that space out
    prefixes
        shortest and longest prefix of a text, in characters, that is a term by its own; None: none are
    text_length
        let the length of a text be a term: how many of its characters are no space, from 100 on with all but the
        first two digits 0
    opening
        let the words and characters of so many first characters of a text be terms once more, in spaces of their own
    normalize
        replace each code point by its NFKC form and drop zero-width marks first
    min_df, max_df
        known terms stand in at least and at most so many texts: a count (int) or a share (float)
    max_features
        keep only so many terms of each kind, those with the largest total counts
    sublinear_tf
        use ``1 + ln(count)`` for the count
    norm
        scale each text's weights, space by space, to length one: "l2", "l1" or None
    use_idf, lowercase
        as in scikit-learn's ``TfidfVectorizer``
    user_words
        words added to jieba's dictionary
    stop_words
        words that are no terms, and stand in no n-gram
    hmm
        let jieba find words its dictionary lacks
    dtype
        float64 or float32
    n_jobs
        processes; None: all cores this process may use. The matrix never depends on it

    Attributes
    ----------
    spaces_
        the known terms, one ``TermSpace`` per kind
    """

    def __init__(
        self,
        *,
        words: tuple[int, int] | None = (1, 1),
        characters: tuple[int, int] | None = (1, 2),
        prefixes: tuple[int, int] | None = None,
        text_length: bool = False,
        opening: int | None = None,
        normalize: bool = False,
        min_df: int | float = 1,
        max_df: int | float = 1.0,
        max_features: int | None = None,
        sublinear_tf: bool = False,
        norm: Literal["l1", "l2"] | None = "l2",
        use_idf: bool = True,
        lowercase: bool = True,
        user_words: Iterable[str] = (),
        stop_words: Iterable[str] = (),
        hmm: bool = True,
        dtype: DTypeLike = np.float64,
        n_jobs: int | None = None,
    ) -> None:
        self.words = words
        self.characters = characters
        self.prefixes = prefixes
        self.text_length = text_length
        self.opening = opening
        self.normalize = normalize
        self.min_df = min_df
        self.max_df = max_df
        self.max_features = max_features
        self.sublinear_tf = sublinear_tf
        self.norm = norm
        self.use_idf = use_idf
        self.lowercase = lowercase
        self.user_words = user_words
        self.stop_words = stop_words
        self.hmm = hmm
        self.dtype = dtype
        self.n_jobs = n_jobs

    def fit(self, texts: Texts, y: object = None) -> TermVectorizer:
        """Learn the known terms and their weights. Returns self."""
        return self.fit_counts(self.count(texts))

    def fit_transform(self, texts: Texts, y: object = None) -> sparse.csr_matrix:
        """Learn from texts and return their matrix, counting the terms once."""
        counts = self.count(texts)
        return self.fit_counts(counts).transform_counts(counts)

    def transform(self, texts: Texts) -> sparse.csr_matrix:
        """Return the matrix of some texts, (n_texts, n_terms); unknown terms are passed over."""
        check_is_fitted(self)
        return self._matrix(
            weigh_texts(_checked(texts), self.spaces_, self.options, load_tables(self.options), self.n_jobs)
        )

    def count(self, texts: Texts) -> list[TermCounts]:
        """Count all terms of some texts, so that several fits on parts of them need not segment again."""
        self._validate()
        return count_terms(_checked(texts), self.options, load_tables(self.options), self.n_jobs)

    def fit_counts(self, counts: Sequence[TermCounts]) -> TermVectorizer:
        """Learn from terms already counted. Returns self."""
        self._validate()
        self.spaces_: list[TermSpace] = [
            learn_space(part, min_df=self.min_df, max_df=self.max_df, max_features=self.max_features) for part in counts
        ]
        return self

    def transform_counts(self, counts: Sequence[TermCounts]) -> sparse.csr_matrix:
        """Return the matrix of texts whose terms are already counted."""
        check_is_fitted(self)
        return self._matrix(weigh_counts(counts, self.spaces_, self.options))

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the columns' names: ``words__TERM``, ``characters__TERM``, ..., as a ``FeatureUnion`` would."""
        check_is_fitted(self)
        names = [f"{name_of(space.kind)}__{term}" for space in self.spaces_ for term in space.terms.to_pylist()]
        return np.asarray(names, dtype=object)

    @property
    def options(self) -> FeatureOptions:
        """The parameters that features needs."""
        return FeatureOptions(
            words=_pair(self.words),
            characters=_pair(self.characters),
            prefixes=_pair(self.prefixes),
            text_length=self.text_length,
            opening=self.opening,
            normalize=self.normalize,
            lowercase=self.lowercase,
            hmm=self.hmm,
            user_words=tuple(self.user_words),
            stop_words=tuple(self.stop_words),
            sublinear_tf=self.sublinear_tf,
            use_idf=self.use_idf,
            norm=self.norm,
        )

    def _validate(self) -> None:
        if self.words is None and self.characters is None and self.prefixes is None:
            raise ValueError("words, characters and prefixes are all None. Give one of them, such as words=(1, 1).")
        if self.opening is not None and self.words is None and self.characters is None:
            raise ValueError(f"opening={self.opening!r} counts words and characters again, and both are None.")
        for name, lengths in (("words", self.words), ("characters", self.characters), ("prefixes", self.prefixes)):
            if lengths is not None and not (len(lengths) == 2 and 1 <= lengths[0] <= lengths[1]):
                which = "prefix" if name == "prefixes" else "n-gram"
                raise ValueError(f"{name}={lengths!r}: give the shortest and the longest {which}, such as (1, 2).")
        if self.opening is not None and self.opening < 1:
            raise ValueError(
                f"opening={self.opening!r}: give a number of characters (int >= 1), or None for no opening."
            )
        for name, given in (("user_words", self.user_words), ("stop_words", self.stop_words)):
            if isinstance(given, str):
                raise ValueError(f"{name}={given!r}: give a sequence of words, not a single string.")
        for name, bound in (("min_df", self.min_df), ("max_df", self.max_df)):
            if bound < 0 or (not isinstance(bound, Integral) and bound > 1):
                raise ValueError(f"{name}={bound!r}: give a count (int >= 0) or a share of the texts (0.0 to 1.0).")
        if self.max_features is not None and self.max_features < 1:
            raise ValueError(f"max_features={self.max_features!r}: give a count (int >= 1), or None for all terms.")
        if np.dtype(self.dtype) not in (np.float64, np.float32):
            raise ValueError(f"dtype={self.dtype!r}: use float64 or float32.")
        if self.norm not in ("l1", "l2", None):
            raise ValueError(f"norm={self.norm!r}: use 'l1', 'l2' or None.")

    def _matrix(self, rows: Rows) -> sparse.csr_matrix:
        shape = (len(rows.indptr) - 1, sum(map(len, self.spaces_)))
        index = np.int32 if max(len(rows.indices), shape[1]) < 2**31 else np.int64
        return sparse.csr_matrix(
            (
                rows.values.astype(self.dtype, copy=False),
                rows.indices.astype(index, copy=False),
                rows.indptr.astype(index, copy=False),
            ),
            shape=shape,
        )


def _pair(lengths: Sequence[int] | None) -> tuple[int, int] | None:
    """Shortest and longest as a tuple, whatever sequence was given."""
    return None if lengths is None else (lengths[0], lengths[1])


def _checked(texts: Any) -> Texts:
    if isinstance(texts, str):
        raise ValueError("a single string where a sequence of texts is expected. Put it in a list.")
    if isinstance(texts, pa.Array | pa.ChunkedArray):
        if texts.null_count:
            raise ValueError(f"text {texts.is_null().index(True).as_py()} is null, not a string.")
        return texts
    checked = list(texts)
    for number, text in enumerate(checked):
        if not isinstance(text, str):
            raise ValueError(f"text {number} is {type(text).__name__}, not a string.")
    return checked
