"""A linear classifier through a narrow layer, trained as fastText is, with terms left out at random.

Owns ``LowRankClassifier`` and its kernel, and ``LinearScores``, what classifiers of our own have in common. Its scores
are ``X @ E @ V + b``, E (n_terms, rank), V (rank, n_topics), which is one matrix in the end. Refuses to know texts. By
itself it is no better than an SVM; its errors are others, and a blend gains from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin

from duanti.compilation import kernel


class LinearScores(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What a fitted linear classifier says of texts: ``X @ coef_.T + intercept_``, a column for each of its topics."""

    classes_: NDArray[np.object_]
    coef_: NDArray[np.float32]
    intercept_: NDArray[np.float64]

    def decision_function(self, X: sparse.csr_matrix) -> NDArray[np.float64]:
        """Return the scores, (n_texts, n_topics)."""
        return np.asarray(X @ self.coef_.T.astype(np.float64) + self.intercept_)

    def predict(self, X: sparse.csr_matrix) -> NDArray[np.object_]:
        """Return the topic of the highest score of each text."""
        topics: NDArray[np.object_] = self.classes_[self.decision_function(X).argmax(axis=1)]
        return topics


class LowRankClassifier(LinearScores):
    """Softmax over a low-rank linear layer: stochastic gradient descent, text after text, the rate falling to nothing.

    Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification"; Srivastava et al. 2014, "Dropout". Each time
    a text is seen, each of its terms is left out with probability ``dropout``.

    Attributes
    ----------
    coef_, intercept_
        (n_topics, n_terms) and (n_topics,), for two topics as for more
    """

    def __init__(
        self,
        *,
        rank: int = 64,
        epochs: int = 20,
        rate: float = 0.05,
        dropout: float = 0.8,
        random_state: int | None = None,
    ) -> None:
        self.rank = rank
        self.epochs = epochs
        self.rate = rate
        self.dropout = dropout
        self.random_state = random_state

    def fit(self, X: sparse.csr_matrix, y: NDArray[np.object_]) -> LowRankClassifier:
        """Train. Returns self."""
        self.classes_, gold = np.unique(np.asarray(y), return_inverse=True)
        seed = self.random_state or 0
        bound = 1 / self.rank
        embedding = np.random.default_rng(seed).uniform(-bound, bound, (X.shape[1], self.rank)).astype(np.float32)
        output, bias = np.zeros((self.rank, len(self.classes_)), np.float32), np.zeros(len(self.classes_), np.float32)
        longest = int(np.diff(X.indptr).max(initial=0))
        _train(
            (X.indptr.astype(np.int64), X.indices.astype(np.int64), X.data.astype(np.float32)),
            gold.astype(np.int64),
            (embedding, output, bias),
            (np.empty(longest, np.int64), np.empty(longest, np.float32)),
            np.arange(len(gold)),
            self.epochs,
            np.float32(self.rate),
            np.float32(self.dropout),
            seed,
        )
        self.coef_ = np.ascontiguousarray((embedding @ output).T)
        self.intercept_ = bias.astype(np.float64)
        return self


@kernel
def _train(
    texts: Any, gold: Any, layers: Any, kept: Any, order: Any, epochs: int, rate: Any, dropout: Any, seed: int
) -> None:
    embedding, output, bias = layers
    np.random.seed(seed)
    hidden, gradient = np.empty(embedding.shape[1], np.float32), np.empty(embedding.shape[1], np.float32)
    error = np.empty(len(bias), np.float32)
    n_steps, step = epochs * len(gold), 0
    for _ in range(epochs):
        np.random.shuffle(order)
        for text in order:
            n_kept = _leave_out(texts, text, dropout, kept)
            _forward(embedding, output, bias, kept, n_kept, hidden, error)
            for topic in range(len(error)):
                error[topic] = np.float32(topic == gold[text]) - error[topic]
            now = rate * np.float32(1 - step / n_steps)
            _backward(embedding, output, bias, kept, n_kept, hidden, error, gradient, now)
            step += 1


@kernel
def _leave_out(texts: Any, text: int, dropout: Any, kept: Any) -> int:
    """The terms of a text that stay, weighed for those that do not. Returns how many they are."""
    indptr, indices, weights = texts
    columns, values = kept
    n_kept = 0
    for entry in range(indptr[text], indptr[text + 1]):
        if dropout == 0 or np.random.random() >= dropout:
            columns[n_kept], values[n_kept] = indices[entry], weights[entry] / (np.float32(1) - dropout)
            n_kept += 1
    return n_kept


@kernel
def _forward(embedding: Any, output: Any, bias: Any, kept: Any, n_kept: int, hidden: Any, probabilities: Any) -> None:
    columns, values = kept
    hidden[:] = 0
    for k in range(n_kept):
        row, value = embedding[columns[k]], values[k]
        for c in range(len(hidden)):
            hidden[c] += value * row[c]
    probabilities[:] = bias
    for c in range(len(hidden)):
        for topic in range(len(bias)):
            probabilities[topic] += hidden[c] * output[c, topic]
    highest, total = probabilities.max(), np.float32(0)
    for topic in range(len(bias)):
        probabilities[topic] = np.exp(probabilities[topic] - highest)
        total += probabilities[topic]
    for topic in range(len(bias)):
        probabilities[topic] /= total


@kernel
def _backward(
    embedding: Any,
    output: Any,
    bias: Any,
    kept: Any,
    n_kept: int,
    hidden: Any,
    error: Any,
    gradient: Any,
    rate: Any,
) -> None:
    columns, values = kept
    for c in range(len(hidden)):
        total, step = np.float32(0), hidden[c] * rate
        for topic in range(len(error)):
            total += output[c, topic] * error[topic]
            output[c, topic] += step * error[topic]
        gradient[c] = total * rate
    for topic in range(len(error)):
        bias[topic] += rate * error[topic]
    for k in range(n_kept):
        row, value = embedding[columns[k]], values[k]
        for c in range(len(gradient)):
            row[c] += value * gradient[c]
