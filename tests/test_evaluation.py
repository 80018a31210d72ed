"""Figures, held against scikit-learn."""

import logging

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_recall_fscore_support

from duanti import Corpus, TopicModel, evaluate
from duanti.evaluation import (
    bin_by_probability,
    boundary_errors,
    compare,
    coverage_of,
    expected_calibration_error,
)
from duanti.model import NO_TOPIC, Prediction


def predictions(topics: list[str | None]) -> list[Prediction]:
    return [NO_TOPIC if topic is None else Prediction(topic, 0.5, (), 1) for topic in topics]


def corpus_of(topics: list[str], documents: list[str | None] | None = None) -> Corpus:
    return Corpus("gold", ["文"] * len(topics), topics, documents or [None] * len(topics))


def test_figures_equal_scikit_learns() -> None:
    random = np.random.default_rng(1)
    gold = list(map(str, random.choice(list("甲乙丙丁"), 300, p=[0.5, 0.3, 0.15, 0.05])))
    predicted = [g if random.random() < 0.7 else str(random.choice(list("甲乙丙"))) for g in gold]
    report = compare(corpus_of(gold), predictions(list(predicted)))
    assert report.accuracy == accuracy_score(gold, predicted)
    assert report.macro_f1 == pytest.approx(f1_score(gold, predicted, average="macro"))
    labels = list(report.labels)
    precision, recall, f1, support = precision_recall_fscore_support(gold, predicted, labels=labels, zero_division=0)
    for number, topic in enumerate(labels):
        figures = report.topics[topic]
        assert (figures.precision, figures.recall) == pytest.approx((precision[number], recall[number]))
        assert (figures.f1, figures.rows) == (pytest.approx(f1[number]), support[number])
    np.testing.assert_array_equal(report.confusion[:, :-1], confusion_matrix(gold, predicted, labels=labels))
    assert report.accuracy_interval[0] < report.accuracy < report.accuracy_interval[1]


def test_no_topic_is_wrong_and_no_label() -> None:
    report = compare(corpus_of(["甲", "甲", "乙"]), predictions(["甲", None, "乙"]))
    assert report.accuracy == pytest.approx(2 / 3)
    assert report.without_topic == 1
    assert report.labels == ("乙", "甲")
    assert report.topics["甲"].recall == 0.5
    assert report.topics["甲"].precision == 1.0


def test_macro_f1_averages_over_topics_of_gold_or_predictions() -> None:
    report = compare(corpus_of(["甲", "甲"]), predictions(["甲", "丙"]))
    assert report.macro_f1 == pytest.approx(f1_score(["甲", "甲"], ["甲", "丙"], average="macro"))


def test_a_topic_the_model_does_not_know_is_wrong_and_named(
    small_model: TopicModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        report = evaluate(small_model, Corpus("gold", ["股市大涨", "股市大涨"], ["财经", "占星"], [None, None]))
    assert report.accuracy == 0.5
    assert "占星" in caplog.text


def test_intervals_resample_documents_not_rows() -> None:
    """Fifty rows of one document are one draw: the interval is wide, where fifty documents make it narrow."""
    gold, predicted = ["甲"] * 100, predictions(["甲"] * 50 + ["乙"] * 50)
    by_document = compare(corpus_of(gold, ["right"] * 50 + ["wrong"] * 50), predicted)
    by_row = compare(corpus_of(gold), predicted)
    assert by_document.accuracy_interval == (0.0, 1.0)
    assert by_row.accuracy_interval[1] - by_row.accuracy_interval[0] < 0.25


def test_intervals_follow_from_the_seed() -> None:
    gold, predicted = corpus_of(["甲", "乙"] * 30), predictions(["甲", "甲"] * 30)
    assert compare(gold, predicted, seed=1).accuracy_interval == compare(gold, predicted, seed=1).accuracy_interval


def test_calibration_error_of_a_hand_worked_example() -> None:
    # Bins of width 1/15: 0.9 and 0.91 share one (mean claim 0.905, accuracy 0.5); 0.3 is alone and right.
    probability, correct = np.array([0.9, 0.91, 0.3]), np.array([True, False, True])
    assert expected_calibration_error(probability, correct) == pytest.approx((2 * 0.405 + 0.7) / 3)
    assert expected_calibration_error(np.array([np.nan]), np.array([False])) == 0.0


def test_bins_hold_every_row_that_made_a_promise() -> None:
    probability, correct = np.array([0.05, 1.0, 0.5, np.nan, 0.52]), np.array([False, True, True, True, False])
    bins = bin_by_probability(probability, correct, n_bins=2)
    assert bins.rows.tolist() == [1, 3]
    assert bins.claimed.tolist() == pytest.approx([0.05, 2.02])
    assert bins.correct.tolist() == [0, 2]


def test_coverage_and_precision_are_those_of_every_threshold() -> None:
    random = np.random.default_rng(3)
    probability = random.choice([0.2, 0.5, 0.7, 0.9, np.nan], 200)
    correct = random.random(200) < np.nan_to_num(probability)
    curve = coverage_of(probability, correct)
    assert curve.probability.tolist() == [0.9, 0.7, 0.5, 0.2]
    for threshold, coverage, precision in zip(*curve, strict=True):
        told = probability >= threshold
        assert coverage == pytest.approx(told.mean())
        assert precision == pytest.approx(correct[told].mean())
    assert [len(part) for part in coverage_of(np.array([np.nan]), np.array([False]))] == [0, 0, 0]


def test_the_report_is_plain_data(small_model: TopicModel, small_corpus: Corpus) -> None:
    report = evaluate(small_model, small_corpus).as_dict()
    assert report["rows"] == len(small_corpus)
    assert set(report["topics"]) == set(small_corpus.topics)
    assert {"accuracy", "macro_f1", "rows", "topics"} <= set(report)


def test_boundary_errors_are_those_counted_by_hand() -> None:
    gold = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    groups = np.array([0] * 8 + [1] * 2)
    assert boundary_errors(gold, gold, groups) == {"boundary_error": 0.0, "window_difference": 0.0}
    # Three gold segments of ten paragraphs: a window of two. Its ends, 0-2 to 5-7, straddle the boundary behind 3 in
    # two of six places; the other side has none there, one behind 0, and one behind 6.
    other = np.array([1, 0, 0, 0, 0, 0, 0, 1, 2, 2])
    straddled_by_gold, by_other = {2, 3}, {0, 5}
    expected = len(straddled_by_gold ^ by_other) / 6
    assert boundary_errors(gold, other, groups)["boundary_error"] == pytest.approx(expected)
    # Two boundaries in one window, where gold has one, are an error of the second kind only.
    twice = np.array([0, 0, 0, 2, 1, 1, 1, 1, 2, 2])
    found = boundary_errors(gold, twice, groups)
    assert found["window_difference"] > found["boundary_error"]  # type: ignore[operator]
    alone = np.arange(10)
    assert boundary_errors(gold, gold, alone) == {"boundary_error": None, "window_difference": None}
