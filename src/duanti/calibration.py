"""From out-of-fold scores to promises: probabilities, thresholds, sets of topics, and how a blend is put together.

Owns what is fitted to scores of rows that their model did not learn from. Refuses to know texts, classifiers, folds and
how the promises are kept afterwards. ``scores`` are (n_rows, n_topics), ``gold`` the column of each row's topic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.special import logsumexp, softmax


def fit_temperature(scores: NDArray[np.float64], gold: NDArray[np.intp]) -> float:
    """Return the T that makes ``softmax(scores / T)`` most likely for the gold columns.

    Guo et al. 2017, "On Calibration of Modern Neural Networks": the negative log-likelihood is minimised over
    ln T, within 1/1000 and 1000.
    """
    centred = scores - scores.max(axis=1, keepdims=True)
    gold_scores = centred[np.arange(len(gold)), gold]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(np.log(np.exp(centred * scale).sum(axis=1)) - gold_scores * scale))

    best = minimize_scalar(loss, bounds=(-np.log(1000), np.log(1000)), method="bounded", options={"xatol": 1e-6})
    # Four digits are all the data can tell.
    return float(f"{np.exp(best.x):.4g}")


def fit_powers(
    probabilities: NDArray[np.float64], gold: NDArray[np.intp], *, rows_a_bin: int = 500, most: int = 10
) -> tuple[tuple[float, float], ...]:
    """Return powers by the highest probability, so that it is right as often as it says: (knot, power), ascending.

    One temperature is not enough for naive Bayes and its blends. Rows are put into bins of equal size by their highest
    probability; of each bin, raised to its power and scaled, the mean of the highest is its accuracy. After Ji et al.
    2019, "Bin-wise Temperature Scaling". The order of a row's topics stays. Empty where there are too few rows.
    """
    n_bins = min(len(gold) // rows_a_bin, most)
    if n_bins < 3:
        return ()
    highest = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == gold
    powers = []
    for rows in np.array_split(np.argsort(highest, kind="stable"), n_bins):
        power = _power_for(probabilities[rows] / highest[rows, None], (correct[rows].sum() + 0.5) / (len(rows) + 1))
        powers.append((round(float(highest[rows].mean()), 6), round(power, 4)))
    return tuple(powers)


def _power_for(ratios: NDArray[np.float64], accuracy: float) -> float:
    """The power, within 1/8 and 8, that brings the mean highest probability to ``accuracy``, by halving."""
    low, high = np.log(1 / 8), np.log(8)
    for _ in range(30):
        middle = (low + high) / 2
        mean = float(np.mean(1 / (ratios ** np.exp(middle)).sum(axis=1)))
        low, high = (middle, high) if mean < accuracy else (low, middle)
    return float(np.exp((low + high) / 2))


def learn_weights(members: Sequence[NDArray[np.float64]], gold: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return how much each member of a blend counts: weights of at least 0, summing to 1.

    The negative log-likelihood of the softmax of the weighted sum is minimised; the sum of the weights, which is a
    temperature, is dropped.
    """
    stacked = np.stack(members)
    of_gold = stacked[:, np.arange(len(gold)), gold]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        combined = np.tensordot(weights, stacked, 1)
        normaliser = logsumexp(combined, axis=1)
        probabilities = np.exp(combined - normaliser[:, None])
        gradient = (stacked * probabilities).sum(axis=2).mean(axis=1) - of_gold.mean(axis=1)
        return float(np.mean(normaliser - weights @ of_gold)), gradient

    start = np.full(len(members), 2.0 / len(members))
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(members)).x
    weights: NDArray[np.float64] = np.round(best / best.sum(), 4)
    return weights


class Stacking(NamedTuple):
    """What makes new scores of the scores of all topics."""

    coupling: NDArray[np.float64]  # (n_topics, n_topics): what a topic's score, by its row, says for each topic
    bias: NDArray[np.float64]  # (n_topics,)

    def apply(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """New scores of these, centred over the topics."""
        stacked: NDArray[np.float64] = scores @ self.coupling + self.bias
        return stacked


def learn_stacking(scores: NDArray[np.float64], gold: NDArray[np.intp], penalty: float) -> Stacking:
    """Learn a softmax over the scores of all topics: where rows are few, related topics speak for each other.

    Stacked generalisation (Wolpert 1992). The coupling is a multiple of the identity, and a deviation from it that is
    held back by ``penalty / 2`` times the sum of its squares, for scores of a spread of 1; the negative log-likelihood
    of all rows is minimised. Scores are finite.
    """
    n_topics = scores.shape[1]
    spread = (float(scores.std()) if len(scores) else 0.0) or 1.0
    even, one_hot = scores / spread, np.eye(n_topics)[gold]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        deviation, own, bias = flat[: -n_topics - 1].reshape(n_topics, n_topics), flat[-n_topics - 1], flat[-n_topics:]
        logits = even @ deviation + own * even + bias
        error = softmax(logits, axis=1) - one_hot
        gradient = even.T @ error
        value = np.sum(logsumexp(logits, axis=1) - (logits * one_hot).sum(axis=1))
        return (
            float(value + penalty / 2 * np.sum(deviation**2) + np.sum(bias**2) / 2),
            np.concatenate([(gradient + penalty * deviation).ravel(), [np.trace(gradient)], error.sum(axis=0) + bias]),
        )

    start = np.concatenate([np.zeros(n_topics**2), [1.0], np.zeros(n_topics)])
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    deviation, own, bias = best[: -n_topics - 1].reshape(n_topics, n_topics), best[-n_topics - 1], best[-n_topics:]
    coupling = (deviation + own * np.eye(n_topics)) / spread
    return Stacking(coupling - coupling.mean(axis=1, keepdims=True), bias - bias.mean())


def tune_bias(scores: NDArray[np.float64], gold: NDArray[np.intp], *, rounds: int = 3) -> NDArray[np.float64]:
    """Return what to add to the scores so that the macro-F1 of the highest is best: (n_topics,), in steps.

    Topic after topic, the step up or down that helps most is taken; a gain must be worth it for each of two halves of
    the rows, so that what only fits these rows is left.
    """
    n_topics = scores.shape[1]
    spread = float(np.median(scores.max(axis=1) - np.sort(scores, axis=1)[:, -2])) or 1.0
    bias = np.zeros(n_topics)
    halves = [np.arange(len(gold)) % 2 == 0, np.arange(len(gold)) % 2 == 1]
    for _ in range(rounds):
        for topic in range(n_topics):
            best, best_step = [_macro_f1((scores + bias)[half], gold[half]) for half in halves], 0.0
            for step in spread * np.array([-1.0, -0.5, -0.25, 0.25, 0.5, 1.0]):
                moved = bias.copy()
                moved[topic] += step
                found = [_macro_f1((scores + moved)[half], gold[half]) for half in halves]
                if min(f - b for f, b in zip(found, best, strict=True)) >= 0 and sum(found) > sum(best):
                    best, best_step = found, float(step)
            bias[topic] += best_step
    return bias


def threshold_of_precision(
    probabilities: NDArray[np.float64], correct: NDArray[np.bool_], precision: float
) -> float | None:
    """Return the least probability from which on predictions are right in ``precision`` (0..1) of cases; None: never.

    Of all rows at or above it. One more row that is wrong is counted, so that few rows do not promise much.
    """
    order = np.argsort(-probabilities, kind="stable")
    right = np.cumsum(correct[order]) / (np.arange(len(order)) + 2)
    # Rows of the same probability stand or fall together.
    ends = np.append(np.diff(probabilities[order]) < 0, True)
    kept = np.flatnonzero((right >= precision) & ends)
    return float(probabilities[order[kept[-1]]]) if len(kept) else None


def threshold_of_coverage(probabilities: NDArray[np.float64], gold: NDArray[np.intp], coverage: float) -> float:
    """Return from which probability on a topic is in the set, so that ``coverage`` (0..1) of sets have the gold one.

    Split conformal prediction (Vovk et al. 2005; Sadinle et al. 2019): the ``ceil((n + 1) coverage)``-th largest
    probability of a gold topic; 0, all topics, where there are too few rows for the promise.
    """
    of_gold = np.sort(probabilities[np.arange(len(gold)), gold])[::-1]
    rank = int(np.ceil((len(gold) + 1) * coverage))
    return float(of_gold[rank - 1]) if rank <= len(gold) else 0.0


def _macro_f1(scores: NDArray[np.float64], gold: NDArray[np.intp]) -> float:
    n_topics = scores.shape[1]
    predicted = scores.argmax(axis=1)
    hits = np.bincount(gold[predicted == gold], minlength=n_topics)
    support, claimed = np.bincount(gold, minlength=n_topics), np.bincount(predicted, minlength=n_topics)
    occurs = support + claimed > 0
    return float(np.mean(2 * hits[occurs] / (support + claimed)[occurs]))
