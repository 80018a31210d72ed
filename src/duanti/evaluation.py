"""How good a model is on labelled texts, and how sure one can be of that.

Owns the figures: accuracy, macro-F1, per topic, confusion, calibration error, intervals by resampling documents.
Refuses to know files, pictures and tracking stores. Plain numpy over one confusion matrix, held against
scikit-learn in the tests, so that evaluating a bundle needs nothing that predicting does not.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duanti.corpus import Corpus
from duanti.errors import DataError
from duanti.model import NO_TOPIC, Prediction, TopicModel
from duanti.multi_label import confusion_of_sets, rank_figures, set_figures

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TopicFigures:
    """One topic: shares in 0..1, ``rows`` that have it."""

    precision: float
    recall: float
    f1: float
    rows: int


@dataclass(frozen=True)
class Report:
    """Figures of one model on one corpus, shares in 0..1.

    No topic, and a gold topic the model does not know, count as wrong. Macro-F1 averages over the topics in gold
    or predictions. Intervals are percentiles over resampled documents.
    """

    rows: int
    documents: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    macro_f1_interval: tuple[float, float]
    expected_calibration_error: float
    boundary_error: float | None  # Pk of the documents' segments, None where no document has two paragraphs
    window_difference: float | None  # WindowDiff of the same
    without_topic: int
    topics: dict[str, TopicFigures]
    labels: tuple[str, ...]
    confusion: NDArray[np.int64]  # gold x predicted, by labels; a last column for no topic
    predictions: Sequence[Prediction] = field(repr=False)  # row by row, what the figures are of

    def headline(self) -> dict[str, float]:
        """The figures that a bundle carries, and by which runs are compared."""
        names = ("rows", "accuracy", "macro_f1", "expected_calibration_error", "boundary_error", "window_difference")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def as_metrics(self) -> dict[str, float]:
        """The figures for a tracking store: overall with their intervals, and F1 by number of topic."""
        low, high = self.accuracy_interval
        macro_low, macro_high = self.macro_f1_interval
        bounds = {"accuracy_low": low, "accuracy_high": high, "macro_f1_low": macro_low, "macro_f1_high": macro_high}
        per_topic = {f"f1.{number:03d}": figures.f1 for number, figures in enumerate(self.topics.values())}
        return {**self.headline(), **bounds, **per_topic}

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data, for JSON."""
        return {
            "rows": self.rows,
            "documents": self.documents,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "macro_f1": self.macro_f1,
            "macro_f1_interval": list(self.macro_f1_interval),
            "expected_calibration_error": self.expected_calibration_error,
            "boundary_error": self.boundary_error,
            "window_difference": self.window_difference,
            "without_topic": self.without_topic,
            "topics": {topic: vars(figures) for topic, figures in self.topics.items()},
            "confusion": {"labels": list(self.labels), "rows": self.confusion.tolist()},
        }


@dataclass(frozen=True)
class MultiLabelReport(Report):
    """Figures where a text may have several topics or none.

    ``accuracy`` is of rows with exactly their topics, ``confusion`` that of ``confusion_of_sets``, and the calibration
    error is over all pairs of row and topic. The others are those of ``SetFigures`` and ``RankFigures``.
    """

    micro_f1: float
    micro_f1_interval: tuple[float, float]
    sample_f1: float
    sample_f1_interval: tuple[float, float]
    hamming_loss: float
    precision_at_1: float
    precision_at_3: float
    ndcg: float
    probabilities: NDArray[np.float64] = field(repr=False)  # (n_rows, n_labels), 0 of a topic the model does not know

    def headline(self) -> dict[str, float]:
        """The figures that a bundle carries, and by which runs are compared."""
        return {**super().headline(), **{name: getattr(self, name) for name in _OF_SETS}}

    def as_metrics(self) -> dict[str, float]:
        """The figures for a tracking store, as of every report, with those of sets and their intervals."""
        bounds = {f"{name}_{end}": value for name in ("micro_f1", "sample_f1") for end, value in self._bounds(name)}
        return {**super().as_metrics(), **bounds}

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data, for JSON."""
        intervals = {f"{name}_interval": list(getattr(self, f"{name}_interval")) for name in ("micro_f1", "sample_f1")}
        return {**super().as_dict(), **{name: getattr(self, name) for name in _OF_SETS}, **intervals}

    def _bounds(self, name: str) -> Iterator[tuple[str, float]]:
        return zip(("low", "high"), getattr(self, f"{name}_interval"), strict=True)


_OF_SETS = ("micro_f1", "sample_f1", "hamming_loss", "precision_at_1", "precision_at_3", "ndcg")


def evaluate(
    model: TopicModel,
    corpus: Corpus,
    *,
    context: bool = True,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Report:
    """Predict every row of a labelled corpus, as body text of one unit, and compare.

    ``context``: rows of one document, in file order, are decided together where the model knows how.
    ``resamples`` documents-with-replacement draws give the intervals at ``confidence``. Topics of the corpus
    that the model does not know are logged. Of a multi-label model the report is a ``MultiLabelReport``.

    Raises
    ------
    DataError
        when one of model and corpus is multi-label and the other is not
    """
    if model.is_multi_label != corpus.multi_label:
        kinds = {True: "may have several topics", False: "has one topic"}
        raise DataError(
            f"{corpus.name}: a text {kinds[corpus.multi_label]}, and for the model it {kinds[model.is_multi_label]}. "
            f"Read the corpus with multi_label={model.is_multi_label}."
        )
    unknown = sorted(set(corpus.topic_counts) - set(model.topics))
    if unknown:
        logger.warning(
            "%s: topics the model does not know, counted as wrong: %s",
            corpus.name,
            ", ".join(map(str, unknown)),
        )
    predictions = predict_corpus(model, corpus, context=context)
    drawing: dict[str, Any] = {"resamples": resamples, "confidence": confidence, "seed": seed}
    if model.is_multi_label:
        return compare_sets(corpus, predictions, model.topics, model.probabilities(corpus.texts), **drawing)
    return compare(corpus, predictions, **drawing)


def predict_corpus(model: TopicModel, corpus: Corpus, *, context: bool = True) -> list[Prediction]:
    """Predict every row; those of one document together, in file order, wherever they stand."""
    groups = np.asarray(corpus.groups)
    order = np.argsort(groups, kind="stable")
    bounds = np.append(np.flatnonzero(np.diff(groups[order], prepend=-1)), len(order)).tolist()
    documents = [[corpus.texts[row] for row in order[a:b].tolist()] for a, b in pairwise(bounds)]
    predicted = model.predict_documents(documents, top=1, context=context)
    predictions = [NO_TOPIC] * len(corpus)
    for row, prediction in zip(order.tolist(), chain.from_iterable(predicted), strict=True):
        predictions[row] = prediction
    return predictions


def compare(
    corpus: Corpus,
    predictions: list[Prediction],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Report:
    """Hold predictions against the topics of a corpus, row by row."""
    predicted_topics = {p.topic for p in predictions if p.topic is not None}
    labels = tuple(sorted(set(corpus.topics) | predicted_topics))
    column = {topic: number for number, topic in enumerate(labels)}
    gold = np.array([column[topic] for topic in corpus.topics])
    predicted = np.array([len(labels) if p.topic is None else column[p.topic] for p in predictions])
    confusion = confusion_of(gold, predicted, len(labels))
    drawn = _resampled(gold, predicted, np.asarray(corpus.groups), len(labels), resamples, seed)
    outer = (50 * (1 - confidence), 50 * (1 + confidence))
    probability = np.array([np.nan if p.probability is None else p.probability for p in predictions])
    return Report(
        rows=len(gold),
        documents=len(set(corpus.groups)),
        accuracy=float(np.mean(gold == predicted)),
        accuracy_interval=_interval([accuracy_of(matrix) for matrix in drawn], outer),
        macro_f1=macro_f1_of(confusion),
        macro_f1_interval=_interval([macro_f1_of(matrix) for matrix in drawn], outer),
        expected_calibration_error=expected_calibration_error(probability, gold == predicted),
        **boundary_errors(gold, predicted, np.asarray(corpus.groups)),
        without_topic=int(confusion[:, -1].sum()),
        topics=_topic_figures(labels, np.diag(confusion), confusion.sum(axis=1), confusion[:, :-1].sum(axis=0)),
        labels=labels,
        confusion=confusion,
        predictions=predictions,
    )


def compare_sets(
    corpus: Corpus,
    predictions: list[Prediction],
    topics: Sequence[str],
    probabilities: NDArray[np.float64],
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> MultiLabelReport:
    """Hold the topics of predictions against those of a multi-label corpus, row by row.

    ``probabilities`` (n_rows, n_topics) are those of ``topics``; any other topic of the corpus has none.
    """
    labels = tuple(sorted({*topics, *corpus.topic_counts}))
    column = {topic: number for number, topic in enumerate(labels)}
    gold = indicator_of(corpus.topic_sets, labels)
    told = indicator_of([prediction.topics or () for prediction in predictions], labels)
    likely = np.zeros(gold.shape)
    likely[:, [column[topic] for topic in topics]] = probabilities
    groups = np.asarray(corpus.groups)
    (figures,) = set_figures(gold, told, [np.ones(len(gold), np.int64)])
    drawn = list(set_figures(gold, told, draw_documents(groups, resamples, seed)))
    outer = (50 * (1 - confidence), 50 * (1 + confidence))
    hits, support, claimed = (cells.sum(axis=0) for cells in (gold & told, gold, told))
    intervals: dict[str, Any] = {
        f"{name}_interval": _interval([getattr(each, name) for each in drawn], outer)
        for name in ("accuracy", "macro_f1", "micro_f1", "sample_f1")
    }
    return MultiLabelReport(
        rows=len(gold),
        documents=len(set(corpus.groups)),
        **figures._asdict(),
        **rank_figures(gold, likely)._asdict(),
        **intervals,
        expected_calibration_error=expected_calibration_error(likely.ravel(), gold.ravel()),
        boundary_error=None,
        window_difference=None,
        without_topic=int((~told.any(axis=1)).sum()),
        topics=_topic_figures(labels, hits, support, claimed),
        labels=labels,
        confusion=confusion_of_sets(gold, told),
        predictions=predictions,
        probabilities=likely,
    )


def indicator_of(sets: Sequence[Sequence[str]], labels: Sequence[str]) -> NDArray[np.bool_]:
    """Return which topics each row has, by labels: (n_rows, n_labels)."""
    column = {topic: number for number, topic in enumerate(labels)}
    indicator = np.zeros((len(sets), len(column)), np.bool_)
    for row, topics in enumerate(sets):
        indicator[row, [column[topic] for topic in topics]] = True
    return indicator


class Bins(NamedTuple):
    """Rows by the probability that was claimed for them, in bins of equal width from 0 to 1: (n_bins,) each."""

    rows: NDArray[np.int64]
    claimed: NDArray[np.float64]  # the probabilities, added up
    correct: NDArray[np.int64]  # how many were right


def bin_by_probability(probability: NDArray[np.float64], correct: NDArray[np.bool_], n_bins: int = 15) -> Bins:
    """Sort rows into bins by their probability. Rows without one (NaN) make no promise and are left out."""
    made = ~np.isnan(probability)
    p, hit = probability[made], correct[made]
    bins = np.minimum((p * n_bins).astype(int), n_bins - 1)
    return Bins(
        np.bincount(bins, minlength=n_bins),
        np.bincount(bins, weights=p, minlength=n_bins).astype(np.float64),
        np.bincount(bins[hit], minlength=n_bins),
    )


def expected_calibration_error(probability: NDArray[np.float64], correct: NDArray[np.bool_], n_bins: int = 15) -> float:
    """Return the mean gap between probability and accuracy over equal-width bins, weighed by their rows.

    Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning". 0 where no row has one.
    """
    bins = bin_by_probability(probability, correct, n_bins)
    return float(np.abs(bins.claimed - bins.correct).sum() / max(bins.rows.sum(), 1))


class Coverage(NamedTuple):
    """What is told and how much of it is right, if only topics from some probability on are told; most certain first.

    ``coverage``: the share of all rows that are told, ``precision``: of those the share that is right, both 0..1.
    """

    probability: NDArray[np.float64]
    coverage: NDArray[np.float64]
    precision: NDArray[np.float64]


def coverage_of(probability: NDArray[np.float64], correct: NDArray[np.bool_]) -> Coverage:
    """Return coverage and precision at each probability that some row has; rows without one (NaN) are never told."""
    order = np.argsort(-probability, kind="stable")[: np.count_nonzero(~np.isnan(probability))]
    p = probability[order]
    last = np.flatnonzero(np.diff(p, append=-1.0))  # rows of one probability are told together
    return Coverage(p[last], (last + 1) / max(len(probability), 1), np.cumsum(correct[order])[last] / (last + 1))


def boundary_errors(
    gold: NDArray[np.intp], predicted: NDArray[np.intp], groups: NDArray[np.intp]
) -> dict[str, float | None]:
    """Return how badly the segments of documents, runs of paragraphs of one topic, are found: 0 is best, 1 worst.

    A window as long as half a gold segment slides over each document. ``boundary_error``: how often its ends are in one
    segment for one side and not for the other (Pk; Beeferman et al. 1999). ``window_difference``: how often the numbers
    of boundaries in it differ (WindowDiff; Pevzner and Hearst 2002).
    """
    order = np.argsort(groups, kind="stable")
    same_document = np.diff(groups[order]) == 0
    counts = [np.concatenate([[0], np.cumsum(np.diff(side[order]) != 0)]) for side in (gold, predicted)]
    n_segments = int((~same_document).sum() + 1 + (np.diff(gold[order])[same_document] != 0).sum())
    window = max(round(len(gold) / n_segments / 2), 1)
    ends = np.flatnonzero(groups[order][window:] == groups[order][:-window]) if len(gold) > window else np.empty(0, int)
    if not len(ends):
        return {"boundary_error": None, "window_difference": None}
    of_gold, of_predicted = (count[ends + window] - count[ends] for count in counts)
    return {
        "boundary_error": float(np.mean((of_gold == 0) != (of_predicted == 0))),
        "window_difference": float(np.mean(of_gold != of_predicted)),
    }


def confusion_of(
    gold: NDArray[np.intp],
    predicted: NDArray[np.intp],
    n_labels: int,
    weights: NDArray[np.intp] | None = None,
) -> NDArray[np.int64]:
    """Count rows by gold and predicted column, each ``weights`` times: (n_labels, n_labels + 1).

    ``n_labels`` as predicted column means no topic.
    """
    cells = np.bincount(gold * (n_labels + 1) + predicted, weights=weights, minlength=n_labels * (n_labels + 1))
    return cells.reshape(n_labels, n_labels + 1).astype(np.int64)


def _topic_figures(
    labels: Sequence[str], hits: NDArray[np.int64], support: NDArray[np.int64], claimed: NDArray[np.int64]
) -> dict[str, TopicFigures]:
    """Precision, recall, F1 (0 where undefined) and rows of each topic, from what was right, there, and predicted."""
    precision, recall, f1 = hits / np.maximum(claimed, 1), hits / np.maximum(support, 1), _f1(hits, support + claimed)
    columns = (part.tolist() for part in (precision, recall, f1, support))
    return {topic: TopicFigures(*figures) for topic, *figures in zip(labels, *columns, strict=True)}


def _f1(hits: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of topics, 0 where undefined; ``sizes`` are the rows that have them and those predicted to, added up."""
    return np.asarray(2 * hits / np.maximum(sizes, 1))


def accuracy_of(confusion: NDArray[np.int64]) -> float:
    """Share of rows on the diagonal."""
    return float(np.trace(confusion) / confusion.sum())


def macro_f1_of(confusion: NDArray[np.int64]) -> float:
    """Mean F1 of the topics that occur, in gold or in predictions."""
    sizes = confusion.sum(axis=1) + confusion[:, :-1].sum(axis=0)
    return float(_f1(np.diag(confusion), sizes)[sizes > 0].mean())


def draw_documents(groups: NDArray[np.intp], resamples: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Yield how often each row is drawn when documents are, with replacement.

    Paragraphs of one document are not independent. ``groups``: the document of each row.
    """
    random = np.random.default_rng(seed)
    _, document = np.unique(groups, return_inverse=True)
    n_documents = int(document.max()) + 1
    for _ in range(resamples):
        yield np.bincount(random.integers(n_documents, size=n_documents), minlength=n_documents)[document]


def _resampled(
    gold: NDArray[np.intp],
    predicted: NDArray[np.intp],
    groups: NDArray[np.intp],
    n_labels: int,
    resamples: int,
    seed: int,
) -> list[NDArray[np.int64]]:
    """Confusion matrices of documents drawn with replacement."""
    matrices = []
    for weights in draw_documents(groups, resamples, seed):
        matrices.append(confusion_of(gold, predicted, n_labels, weights))
    return matrices


def _interval(figures: list[float], outer: tuple[float, float]) -> tuple[float, float]:
    low, high = np.percentile(figures, outer)
    return float(low), float(high)
