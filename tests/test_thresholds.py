"""Sigmoids, thresholds and weights of topics by themselves."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score, log_loss
from sklearn.svm import LinearSVC

from duanti.thresholds import fit_sigmoids, learn_thresholds, learn_topic_weights


def drawn(n_rows: int, slopes: list[float], intercepts: list[float]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores, and topics that rows have as often as these sigmoids say."""
    random = np.random.default_rng(3)
    scores = random.normal(size=(n_rows, len(slopes)))
    return scores, random.random(scores.shape) < expit(scores * slopes + intercepts)


def test_sigmoids_are_those_the_rows_were_drawn_from() -> None:
    scores, gold = drawn(20_000, [2.0, 3.0], [-1.0, -3.0])
    sigmoids = fit_sigmoids(scores, gold)
    assert sigmoids.slopes == pytest.approx([2.0, 3.0], rel=0.05)
    assert sigmoids.intercepts == pytest.approx([-1.0, -3.0], abs=0.1)
    # Each says on average what is so.
    np.testing.assert_allclose(sigmoids.probabilities(scores).mean(axis=0), gold.mean(axis=0), atol=2e-3)


def test_a_sigmoid_of_many_rows_is_scikit_learns() -> None:
    """Platt's scaling as scikit-learn has it, of one topic: there is nothing then that its slope could be drawn to."""
    random = np.random.default_rng(5)
    X = random.normal(size=(3000, 4))
    y = X @ [1.0, -1.0, 0.5, 0.0] + random.normal(size=3000) > 1
    svm = LinearSVC(random_state=0).fit(X, y)
    theirs = CalibratedClassifierCV(FrozenEstimator(svm), method="sigmoid", ensemble=False).fit(X, y)
    scores = svm.decision_function(X)[:, None]
    ours = fit_sigmoids(scores, y[:, None]).probabilities(scores)[:, 0]
    np.testing.assert_allclose(ours, theirs.predict_proba(X)[:, 1], atol=2e-3)


def test_a_rare_topic_has_nearly_the_slope_of_all_and_a_base_rate_of_its_own() -> None:
    scores, gold = drawn(4000, [2.0, 2.0, 2.0], [-1.0, -1.0, -1.0])
    gold[:, 2] = False
    gold[np.argsort(scores[:, 2])[1200], 2] = True  # one row, and a misleading one: 70 % score higher
    sigmoids = fit_sigmoids(scores, gold)
    assert 0.5 < sigmoids.slopes[2] < sigmoids.slopes[:2].min()
    assert sigmoids.probabilities(scores)[:, 2].mean() < 0.01


def test_what_no_fold_could_score_is_not_learnt_from() -> None:
    scores, gold = drawn(500, [2.0, 3.0], [-1.0, -1.0])
    whole = fit_sigmoids(scores[:400], gold[:400])
    scores[400:] = -np.inf
    part = fit_sigmoids(scores, gold)
    np.testing.assert_array_equal(part.slopes, whole.slopes)
    assert not part.probabilities(scores)[400:].any()


def test_a_threshold_is_where_f1_is_best_when_probabilities_say_nothing_else() -> None:
    """Held against every cut there is. Where probability and row agree, half of each is each."""
    probabilities = np.array([[0.9], [0.8], [0.7], [0.2], [0.1], [0.05]])
    gold = np.array([[1], [1], [1], [0], [0], [0]], np.bool_)
    (threshold,) = learn_thresholds(probabilities, gold)
    assert threshold == pytest.approx((0.7 + 0.2) / 2)
    scores, labels = drawn(30_000, [3.0], [-2.0])
    likely = expit(scores * 3.0 - 2.0)
    (threshold,) = learn_thresholds(likely, labels)
    best = max(f1_score(labels[:, 0], likely[:, 0] >= cut) for cut in np.linspace(0.05, 0.95, 91))
    assert f1_score(labels[:, 0], likely[:, 0] >= threshold) > best - 0.003
    # Lipton et al.: of probabilities that are right, half the best F1 there is.
    assert threshold == pytest.approx(best / 2, abs=0.04)


def test_rows_of_one_probability_are_told_together() -> None:
    probabilities = np.array([[0.6], [0.6], [0.6], [0.1]])
    (threshold,) = learn_thresholds(probabilities, np.array([[1], [0], [1], [0]], np.bool_))
    assert threshold == pytest.approx(0.35)


def test_a_topic_that_cannot_be_told_is_told_only_of_what_is_likeliest() -> None:
    probabilities = np.random.default_rng(0).uniform(0.001, 0.01, (2000, 1))
    (threshold,) = learn_thresholds(probabilities, np.zeros((2000, 1), np.bool_))
    assert threshold == probabilities.max()


def test_weights_of_a_blend_are_the_most_likely_ones() -> None:
    random = np.random.default_rng(1)
    good, bad = random.normal(size=(2, 5000, 2))
    gold = random.random(good.shape) < expit(2 * good + 0.5 * bad - 1)
    weights = learn_topic_weights([good, bad], gold)
    assert weights.sum() == pytest.approx(1)
    assert weights == pytest.approx([0.8, 0.2], abs=0.02)
    losses = [log_loss(gold.ravel(), expit(2.5 * (w * good + (1 - w) * bad) - 1).ravel()) for w in (0.8, 0.6, 0.4)]
    assert all(better < worse for better, worse in pairwise(losses))
