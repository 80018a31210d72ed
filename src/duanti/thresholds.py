"""Each topic by itself, from out-of-fold scores: its probability, and from where on a text has it.

Owns what is fitted where a text may have several topics or none: a sigmoid and a threshold for each topic, and the
weights of a blend. Refuses to know texts, classifiers, folds and how it is kept afterwards. ``scores`` are (n_rows,
n_topics), minus infinity where a row was not scored for a topic; ``gold``, of the same shape, says which a row has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

# How far a topic's slope is expected to be from that of all topics together, as a share of it.
_SLOPE_SPREAD = 0.5
# The least F1 out of fold by which a topic's own threshold is believed.
_LEAST_F1 = 0.1


class Sigmoids(NamedTuple):
    """Of each topic: its probability is ``1 / (1 + exp(-(slope * score + intercept)))``; slopes are above 0."""

    slopes: NDArray[np.float64]  # (n_topics,)
    intercepts: NDArray[np.float64]  # (n_topics,)

    def probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what scores stand for, (n_rows, n_topics); 0 where they are minus infinity."""
        return np.asarray(expit(scores * self.slopes + self.intercepts))


def fit_sigmoids(scores: NDArray[np.float64], gold: NDArray[np.bool_]) -> Sigmoids:
    """Fit a sigmoid for each topic, so that its probability is right as often as it says.

    Platt 1999, "Probabilistic Outputs for Support Vector Machines", with his targets: a row more of either kind than
    there is. The slope that fits all topics together is what a topic of few rows has; the more it has, the more is its
    own believed.
    """
    known = np.isfinite(scores)
    if not known.any():
        return Sigmoids(np.ones(scores.shape[1]), np.zeros(scores.shape[1]))
    common, _ = _fit_sigmoid(scores[known], gold[known])
    fitted = [_fit_sigmoid(scores[rows, k], gold[rows, k], drawn_to=common) for k, rows in enumerate(known.T)]
    slopes, intercepts = np.array(fitted).T
    return Sigmoids(slopes, intercepts)


def _fit_sigmoid(
    scores: NDArray[np.float64], gold: NDArray[np.bool_], *, drawn_to: float | None = None
) -> tuple[float, float]:
    """Slope and intercept of the most likely sigmoid, of slope 1 where there is no row."""
    inside = np.count_nonzero(gold)
    outside = len(gold) - inside
    target = np.where(gold, (inside + 1) / (inside + 2), 1 / (outside + 2))
    unit = drawn_to or 1 / (float(scores.std()) or 1.0)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = parameters[0] * unit * scores + parameters[1]
        error = expit(z) - target
        pull = (parameters[0] - 1) / _SLOPE_SPREAD if drawn_to else 0.0
        value = float(np.sum(np.logaddexp(0, z) - target * z)) + pull * pull / 2
        return value, np.array([unit * (error @ scores) + pull / _SLOPE_SPREAD, error.sum()])

    start = np.array([1.0, np.log((inside + 1) / (outside + 1))])
    slope, intercept = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(1e-3, None), (None, None)]).x
    return float(slope * unit), float(intercept)


def learn_thresholds(probabilities: NDArray[np.float64], gold: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return from which probability on a text is told to have each topic, so that the topic's F1 is best: (n_topics,).

    Of the cuts between two rows, the one with the highest ``2 hits / (told + having)``, where a row counts as having
    the topic half for what it is (SCut; Yang 2001, "A Study on Thresholding Strategies for Text Categorization") and
    half for what its probability says (Lipton et al. 2014, "Optimal Thresholding of Classifiers to Maximize F1
    Measure"): a few rows by themselves would put the cut anywhere. A topic whose best F1 is below 0.1 is told only of
    what is as likely as the likeliest row (SCutFBR.1; Lewis et al. 2004, "RCV1").
    """
    return np.array([_best_cut(p, (has + p) / 2) for p, has in zip(probabilities.T, gold.T, strict=True)])


def _best_cut(probabilities: NDArray[np.float64], having: NDArray[np.float64]) -> float:
    """The cut of the best F1, half way between the last row that is told and the first that is not."""
    order = np.argsort(-probabilities, kind="stable")
    falling = probabilities[order]
    f1 = 2 * np.cumsum(having[order]) / (np.arange(1, len(order) + 1) + having.sum())
    # Rows of the same probability stand or fall together.
    ends = np.flatnonzero(np.append(np.diff(falling) < 0, True))
    last = int(ends[f1[ends].argmax()])
    if f1[last] < _LEAST_F1:
        return float(falling[0])
    return float(falling[last] + np.append(falling, 0.0)[last + 1]) / 2


def learn_topic_weights(members: Sequence[NDArray[np.float64]], gold: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return how much each member of a blend counts: weights of at least 0, summing to 1.

    As ``calibration.learn_weights``, but of the sigmoids of all topics: the likelihood of ``1 / (1 + exp(-(weighted sum
    + intercept of the topic)))`` is made most; the intercepts and the sum of the weights are dropped.
    """
    stacked, n = np.stack(members), len(members)

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = np.tensordot(parameters[:n], stacked, 1) + parameters[n:]
        error = (expit(z) - gold) / gold.size
        of_weights = np.tensordot(stacked, error, axes=((1, 2), (0, 1)))
        return float(np.mean(np.logaddexp(0, z) - gold * z)), np.concatenate([of_weights, error.sum(axis=0)])

    start = np.concatenate([np.full(n, 2.0 / n), np.zeros(gold.shape[1])])
    bounds = [(0, None)] * n + [(None, None)] * gold.shape[1]
    best = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x[:n]
    weights: NDArray[np.float64] = np.round(best / best.sum(), 4)
    return weights
