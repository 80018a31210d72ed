"""scikit-learn's linear classifiers, and the one matrix that is left of each.

Owns which classifier a recipe means, and ``freeze``, which reduces what was fitted to weights and a bias. Refuses to
know texts, folds and probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.svm import LinearSVC

from duanti.config import (
    ComplementNBConfig,
    LinearSVCConfig,
    LogisticRegressionConfig,
    LowRankConfig,
    MemberConfig,
    MultinomialNBConfig,
    NaiveBayesSVMConfig,
    RidgeConfig,
)
from duanti.low_rank import LinearScores, LowRankClassifier

# A topic of fewer rows is damped as if it had so many.
_LEAST_ROWS = 5


def make_classifier(config: MemberConfig, seed: int) -> Any:
    """Return the unfitted classifier of a recipe."""
    if isinstance(config, LinearSVCConfig):
        return LinearSVC(C=config.C, class_weight=config.class_weight, random_state=seed, max_iter=10_000)
    if isinstance(config, NaiveBayesSVMConfig):
        return NaiveBayesSVM(
            C=config.C, alpha=config.alpha, shared=config.shared, class_weight=config.class_weight, random_state=seed
        )
    if isinstance(config, LowRankConfig):
        return LowRankClassifier(
            rank=config.rank, epochs=config.epochs, rate=config.rate, dropout=config.dropout, random_state=seed
        )
    if isinstance(config, LogisticRegressionConfig):
        return LogisticRegression(
            C=config.C, class_weight=config.class_weight, max_iter=config.max_iter, random_state=seed
        )
    if isinstance(config, ComplementNBConfig):
        return ComplementNB(alpha=config.alpha, norm=config.norm)
    if isinstance(config, MultinomialNBConfig):
        return MultinomialNB(alpha=config.alpha, fit_prior=config.fit_prior)
    if isinstance(config, RidgeConfig):
        return RidgeClassifier(alpha=config.alpha, class_weight=config.class_weight, solver="sparse_cg")
    return SGDClassifier(
        loss=config.loss,
        alpha=config.alpha,
        class_weight=config.class_weight,
        max_iter=config.max_iter,
        average=config.average,
        random_state=seed,
    )


def fit_frozen(
    config: MemberConfig, seed: int, X: sparse.csr_matrix, y: NDArray[Any], factors: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Fit a classifier on ``X * factors`` and fold the factors into what is left of it.

    ``factors`` (n_terms,) say how much each term counts; one of 0 is not seen, and its weights are 0.
    """
    seen = np.flatnonzero(factors)
    if len(seen) == X.shape[1] and (factors == 1).all():
        weights, bias = freeze(make_classifier(config, seed).fit(X, y))
    else:
        scaled = (X[:, seen] @ sparse.diags(factors[seen].astype(X.dtype))).tocsr()
        part, bias = freeze(make_classifier(config, seed).fit(scaled, y))
        weights = np.zeros((X.shape[1], part.shape[1]), np.float32)
        weights[seen] = part * factors[seen, None]
    if isinstance(config, RidgeConfig) and config.damping:
        rows = np.maximum(np.unique(y, return_counts=True)[1], _LEAST_ROWS) ** config.damping
        weights, bias = _centred(weights / rows.astype(np.float32), bias / rows)
    return weights, bias


def fit_one_vs_rest(
    config: MemberConfig, seed: int, X: sparse.csr_matrix, gold: NDArray[np.bool_], factors: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Fit a classifier for each topic, of the texts that have it against the rest, as ``fit_frozen`` does.

    ``gold`` (n_texts, n_topics) says which texts have which topics: of each some do and some do not. A column of
    ``weights`` is what speaks for having a topic, less what speaks for not having it.
    """
    weights, bias = np.empty((X.shape[1], gold.shape[1]), np.float32), np.empty(gold.shape[1])
    for topic, has in enumerate(gold.T):
        own, own_bias = fit_frozen(config, seed, X, has, factors)
        weights[:, topic], bias[topic] = own[:, 1] - own[:, 0], own_bias[1] - own_bias[0]
    return weights, bias


class NaiveBayesSVM(LinearScores):
    """A linear SVM of each topic against the rest, over terms scaled by their log-count ratio for that topic.

    ``r = ln((alpha + p) / |alpha + p|) - ln((alpha + q) / |alpha + q|)``, p and q the sums of the terms' weights in
    texts of the topic and in all others; the SVM sees ``x * r``. As ``(x * r) @ w == x @ (r * w)``, the ratios are
    folded into ``coef_``. ``shared``: one scale for all topics, the root mean square of a term's ratios.
    Wang and Manning 2012, "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification".

    Attributes
    ----------
    coef_, intercept_
        (n_topics, n_terms) and (n_topics,), for two topics as for more
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        alpha: float = 1.0,
        shared: bool = False,
        class_weight: str | None = None,
        random_state: int | None = None,
    ) -> None:
        self.C = C
        self.alpha = alpha
        self.shared = shared
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: sparse.csr_matrix, y: NDArray[np.object_]) -> NaiveBayesSVM:
        """Fit one SVM for each topic. Returns self."""
        y = np.asarray(y)
        self.classes_ = np.unique(y)
        ratios = self._ratios(X, y)
        if self.shared:
            ratios[:] = np.sqrt(np.mean(ratios**2, axis=0))
        self.coef_ = np.empty(ratios.shape, np.float32)
        self.intercept_ = np.empty(len(self.classes_))
        scaled = X.copy()
        for number, topic in enumerate(self.classes_):
            scaled.data = X.data * ratios[number, X.indices]
            svm = LinearSVC(
                C=self.C, class_weight=self.class_weight, random_state=self.random_state, max_iter=10_000
            ).fit(scaled, y == topic)
            self.coef_[number], self.intercept_[number] = svm.coef_[0] * ratios[number], svm.intercept_[0]
        return self

    def _ratios(self, X: sparse.csr_matrix, y: NDArray[np.object_]) -> NDArray[np.float32]:
        """The log-count ratio of each term for each topic, (n_topics, n_terms)."""
        total = np.asarray(X.sum(axis=0)).ravel()
        ratios = np.empty((len(self.classes_), X.shape[1]), np.float32)
        for number, topic in enumerate(self.classes_):
            inside = np.asarray(X[y == topic].sum(axis=0)).ravel() + self.alpha
            outside = total - inside + 2 * self.alpha
            ratios[number] = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
        return ratios


def freeze(classifier: Any) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Reduce a fitted linear classifier to ``weights`` (n_terms, n_topics) and ``bias`` (n_topics,).

    ``X @ weights + bias`` ranks the topics as the classifier does, and its softmax is the classifier's where
    that has one. Two topics get a column each, half the decision value with either sign. Each row is centred
    over the topics, which softmax and argmax do not see: float32 would cost naive Bayes 1e-5 otherwise.
    """
    if isinstance(classifier, ComplementNB | MultinomialNB):
        coefficients = classifier.feature_log_prob_.T
        intercept = np.zeros(len(classifier.classes_))
        if isinstance(classifier, MultinomialNB):
            intercept = classifier.class_log_prior_
    else:
        # LIBLINEAR and lbfgs keep one row for two topics: the decision for the second.
        coefficients, intercept = np.atleast_2d(classifier.coef_).T, np.atleast_1d(classifier.intercept_)
        if coefficients.shape[1] == 1:
            coefficients = np.hstack([-coefficients, coefficients]) / 2
            intercept = np.concatenate([-intercept, intercept]) / 2
    return _centred(coefficients, intercept)


def _centred(coefficients: Any, intercept: Any) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    weights = (coefficients - coefficients.mean(axis=1, keepdims=True)).astype(np.float32)
    return weights, np.asarray(intercept - intercept.mean(), dtype=np.float64)
