"""scikit-learn's linear classifiers, and the one matrix that is left of each.

Owns which classifier a recipe means, and ``freeze``, which reduces what was fitted to weights and a bias. Refuses to
know texts, folds and probabilities.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.svm import LinearSVC

from duanti.config import (
    ComplementNBConfig,
    LinearSVCConfig,
    LogisticRegressionConfig,
    MemberConfig,
    MultinomialNBConfig,
    NaiveBayesSVMConfig,
    RidgeConfig,
)


def make_classifier(config: MemberConfig, seed: int) -> Any:
    """Return the unfitted classifier of a recipe."""
    if isinstance(config, LinearSVCConfig):
        return LinearSVC(C=config.C, class_weight=config.class_weight, random_state=seed, max_iter=10_000)
    if isinstance(config, NaiveBayesSVMConfig):
        return NaiveBayesSVM(C=config.C, alpha=config.alpha, class_weight=config.class_weight, random_state=seed)
    if isinstance(config, LogisticRegressionConfig):
        return LogisticRegression(
            C=config.C, class_weight=config.class_weight, max_iter=config.max_iter, random_state=seed
        )
    if isinstance(config, ComplementNBConfig):
        return ComplementNB(alpha=config.alpha, norm=config.norm)
    if isinstance(config, MultinomialNBConfig):
        return MultinomialNB(alpha=config.alpha, fit_prior=config.fit_prior)
    if isinstance(config, RidgeConfig):
        return RidgeClassifier(
            alpha=config.alpha, class_weight=config.class_weight, solver="sparse_cg", random_state=seed
        )
    return SGDClassifier(
        loss=config.loss,
        alpha=config.alpha,
        class_weight=config.class_weight,
        max_iter=config.max_iter,
        average=config.average,
        random_state=seed,
    )


class NaiveBayesSVM(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A linear SVM of each topic against the rest, over terms scaled by their log-count ratio for that topic.

    ``r = ln((alpha + p) / |alpha + p|) - ln((alpha + q) / |alpha + q|)``, p and q the sums of the terms' weights in
    texts of the topic and in all others; the SVM sees ``x * r``. As ``(x * r) @ w == x @ (r * w)``, the ratios are
    folded into ``coef_``. Wang and Manning 2012, "Baselines and Bigrams: Simple, Good Sentiment and Topic
    Classification".

    Attributes
    ----------
    coef_, intercept_
        (n_topics, n_terms) and (n_topics,), for two topics as for more
    """

    def __init__(
        self, *, C: float = 1.0, alpha: float = 1.0, class_weight: str | None = None, random_state: int | None = None
    ) -> None:
        self.C = C
        self.alpha = alpha
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: sparse.csr_matrix, y: NDArray[np.object_]) -> NaiveBayesSVM:
        """Fit one SVM for each topic. Returns self."""
        y = np.asarray(y)
        self.classes_ = np.unique(y)
        self.coef_ = np.empty((len(self.classes_), X.shape[1]), np.float32)
        self.intercept_ = np.empty(len(self.classes_))
        total = np.asarray(X.sum(axis=0)).ravel()
        scaled = X.copy()
        for number, topic in enumerate(self.classes_):
            inside = np.asarray(X[y == topic].sum(axis=0)).ravel() + self.alpha
            outside = total - inside + 2 * self.alpha
            ratio = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
            scaled.data = X.data * ratio[X.indices]
            svm = LinearSVC(
                C=self.C, class_weight=self.class_weight, random_state=self.random_state, max_iter=10_000
            ).fit(scaled, y == topic)
            self.coef_[number], self.intercept_[number] = svm.coef_[0] * ratio, svm.intercept_[0]
        return self

    def decision_function(self, X: sparse.csr_matrix) -> NDArray[np.float64]:
        """Return the scores, (n_texts, n_topics)."""
        return np.asarray(X @ self.coef_.T.astype(np.float64) + self.intercept_)

    def predict(self, X: sparse.csr_matrix) -> NDArray[np.object_]:
        """Return the topic of the highest score of each text."""
        topics: NDArray[np.object_] = self.classes_[self.decision_function(X).argmax(axis=1)]
        return topics


def freeze(classifier: Any, *, centred: bool = True) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Reduce a fitted linear classifier to ``weights`` (n_terms, n_topics) and ``bias`` (n_topics,).

    ``X @ weights + bias`` ranks the topics as the classifier does, and its softmax is the classifier's where
    that has one. Two topics get a column each, half the decision value with either sign. Each row is centred
    over the topics, which softmax and argmax do not see: float32 would cost naive Bayes 1e-5 otherwise. A sigmoid
    does see it: for that, ``centred`` must be false.
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
    if centred:
        coefficients = coefficients - coefficients.mean(axis=1, keepdims=True)
        intercept = intercept - intercept.mean()
    return coefficients.astype(np.float32), np.asarray(intercept, dtype=np.float64)
