"""What is promised from out-of-fold scores, held against rows it did not see."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import binom
from sklearn.metrics import f1_score

from duanti import Corpus, TopicModel, evaluate, fit_topic_model
from duanti.calibration import (
    fit_powers,
    learn_stacking,
    learn_weights,
    threshold_of_coverage,
    threshold_of_precision,
    tune_bias,
)
from duanti.config import RunConfig
from duanti.evaluation import expected_calibration_error
from duanti.model import link


def drawn(seed: int, n: int, n_topics: int = 6, sharpness: float = 2.0) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Probabilities that are true, and topics drawn by them."""
    random = np.random.default_rng(seed)
    probabilities = softmax(sharpness * random.normal(size=(n, n_topics)), axis=1)
    gold = np.array([random.choice(n_topics, p=row) for row in probabilities])
    return probabilities, gold


@pytest.mark.parametrize("precision", [0.6, 0.8, 0.95])
def test_topics_above_the_threshold_are_right_as_often_as_promised(precision: float) -> None:
    (p, gold), (q, later) = drawn(0, 5000), drawn(1, 5000)
    threshold = threshold_of_precision(p.max(axis=1), p.argmax(axis=1) == gold, precision)
    assert threshold is not None
    told = q.max(axis=1) >= threshold
    hits = int((q.argmax(axis=1) == later)[told].sum())
    # Both sides are samples: the promise is kept unless this few hits were unlikely even a little below it.
    assert binom.cdf(hits, int(told.sum()), precision - 0.01) > 0.001
    assert told.mean() > 0.05


def test_a_precision_that_is_never_reached_promises_nothing() -> None:
    assert threshold_of_precision(np.array([0.9, 0.8]), np.array([False, False]), 0.5) is None
    assert threshold_of_precision(np.array([0.9]), np.array([True]), 0.95) is None  # one row shows too little
    assert threshold_of_precision(np.array([0.5, 0.5, 0.5, 0.9]), np.array([True] * 4), 0.8) == 0.5


@pytest.mark.parametrize("coverage", [0.5, 0.9, 0.99])
def test_sets_hold_the_right_topic_as_often_as_promised(coverage: float) -> None:
    (p, gold), (q, later) = drawn(0, 5000), drawn(1, 5000)
    sets = q >= threshold_of_coverage(p, gold, coverage)
    covered = int(sets[np.arange(len(later)), later].sum())
    assert binom.cdf(covered, len(later), coverage - 0.01) > 0.001
    assert covered / len(later) < coverage + 0.02
    assert threshold_of_coverage(p[:5], gold[:5], 0.99) == 0  # all topics: five rows cannot promise that


def test_powers_make_the_highest_probability_right_as_often_as_it_says() -> None:
    """Probabilities that are too sure of themselves where they are high, and too little where they are low."""

    def bent(p: NDArray[np.float64]) -> NDArray[np.float64]:
        raised: NDArray[np.float64] = p ** (0.5 + 2.5 * p.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)

    (p, gold), (q, later) = drawn(0, 10_000), drawn(1, 10_000)
    powers = fit_powers(bent(p), gold)
    said = bent(q)
    mended = link(np.log(said), 1.0, powers)
    before, after = (
        expected_calibration_error(each.max(axis=1), each.argmax(axis=1) == later) for each in (said, mended)
    )
    assert before > 0.08
    assert after < 0.02
    np.testing.assert_allclose(mended.sum(axis=1), 1)
    np.testing.assert_array_equal(np.argsort(mended, axis=1), np.argsort(said, axis=1))
    assert fit_powers(p[:100], gold[:100]) == ()


def test_weights_of_a_blend_prefer_the_member_that_knows() -> None:
    random = np.random.default_rng(9)
    p, gold = drawn(0, 3000)
    knows, guesses = np.log(p), random.normal(size=p.shape)
    weights = learn_weights([knows, guesses], gold)
    assert weights.sum() == pytest.approx(1, abs=1e-3)
    assert weights[0] > 0.95
    assert (weights >= 0).all()


def related(seed: int, n: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """Scores of four topics of which the first is told by the last, and says nothing of itself."""
    random = np.random.default_rng(seed)
    gold = random.integers(4, size=n)
    scores = 2 * np.eye(4)[gold] + random.normal(size=(n, 4))
    scores[:, 0] -= 2 * (gold == 0)
    scores[:, 3] -= 3 * (gold == 0)
    return scores, gold


def test_stacking_is_the_most_likely_coupling_that_the_penalty_leaves() -> None:
    scores, gold = related(0, 150)
    even = scores / scores.std()

    def loss(flat: NDArray[np.float64]) -> float:
        deviation, own, bias = flat[:16].reshape(4, 4), flat[16], flat[17:]
        total = 5 / 2 * (deviation**2).sum() + (bias**2).sum() / 2
        for row, topic in zip(even, gold, strict=True):
            total -= np.log(softmax([row @ deviation[:, k] + own * row[k] + bias[k] for k in range(4)])[topic])
        return float(total)

    best = minimize(loss, np.zeros(21), tol=1e-8).x
    expected = even @ (best[:16].reshape(4, 4) + best[16] * np.eye(4)) + best[17:]
    stacked = learn_stacking(scores, gold, 5.0).apply(scores)
    np.testing.assert_allclose(stacked, expected - expected.mean(axis=1, keepdims=True), atol=2e-3)


def test_stacked_topics_speak_for_each_other_on_rows_never_seen() -> None:
    (scores, gold), (unseen, later) = related(1, 2000), related(2, 2000)
    alone = np.mean(unseen.argmax(axis=1) == later)
    stacked = np.mean(learn_stacking(scores, gold, 10.0).apply(unseen).argmax(axis=1) == later)
    assert stacked > alone + 0.1


def test_a_large_penalty_leaves_each_topic_its_own_score() -> None:
    scores, gold = related(3, 500)
    stacking = learn_stacking(scores, gold, 1e12)
    own = stacking.apply(scores) - stacking.bias
    slope = np.ptp(own[0]) / np.ptp(scores[0])
    np.testing.assert_allclose(own, slope * (scores - scores.mean(axis=1, keepdims=True)), atol=1e-6)


def test_tuning_for_macro_f1_lifts_rare_topics_on_rows_it_did_not_see() -> None:
    random = np.random.default_rng(0)
    prior = np.array([0.7, 0.2, 0.06, 0.04])
    gold = random.choice(4, size=6000, p=prior)
    scores = 1.2 * np.eye(4)[gold] + random.normal(size=(6000, 4)) + np.log(prior)
    bias = tune_bias(scores[:3000], gold[:3000])
    before, after = (f1_score(gold[3000:], (scores[3000:] + b).argmax(axis=1), average="macro") for b in (0, bias))
    assert after > before


def texts_of(seed: int, n: int) -> Corpus:
    """Texts of which some are clear and some could be either topic."""
    random = np.random.default_rng(seed)
    words = {"财经": "股基银利债", "体育": "球赛门将冠"}
    texts, topics = [], []
    for _ in range(n):
        topic = random.choice([*words])
        other = "体育" if topic == "财经" else "财经"
        source = words[topic] * 3 + words[other]
        texts.append("，".join(random.choice([*source], 3)))
        topics.append(str(topic))
    return Corpus("either", texts, topics, [None] * n)


@pytest.fixture(scope="module")
def cautious() -> TopicModel:
    config = {"name": "c", "data": {"train": "x"}, "n_jobs": 1, "decision": {"precision": 0.97, "coverage": 0.95}}
    return fit_topic_model(RunConfig.model_validate(config), texts_of(0, 1500))


def test_a_cautious_model_keeps_its_promises_on_other_texts(cautious: TopicModel, tmp_path: object) -> None:
    later = texts_of(1, 1500)
    predictions = cautious.predict(later.texts)
    told = [(p.topic, gold) for p, gold in zip(predictions, later.topics, strict=True) if p.topic]
    assert 100 < len(told) < 1500
    hits = sum(topic == gold for topic, gold in told)
    assert binom.cdf(hits, len(told), 0.97 - 0.01) > 0.001
    decisions = cautious.decide(later.texts)
    assert decisions.sets is not None
    columns = [cautious.topics.index(topic) for topic in later.topics]
    covered = int(decisions.sets[np.arange(len(columns)), columns].sum())
    assert binom.cdf(covered, len(columns), 0.95 - 0.01) > 0.001
    assert {1, 2} == set(decisions.sets.sum(axis=1).tolist())
    assert evaluate(cautious, later, resamples=100).without_topic == 1500 - len(told)


def test_promises_stand_in_the_bundle(cautious: TopicModel, tmp_path: object) -> None:
    folder = f"{tmp_path}/c"
    cautious.save(folder)
    again = TopicModel.load(folder)
    assert again.decision == cautious.decision
    assert again.decision.min_probability is not None
    assert again.predict(["股球", "股基银"]) == cautious.predict(["股球", "股基银"])


def test_a_text_without_a_known_term_has_neither_topic_nor_set(cautious: TopicModel) -> None:
    decisions = cautious.decide(["龘"])
    assert decisions.topics[0, 0] == -1
    assert decisions.sets is not None
    assert not decisions.sets.any()
