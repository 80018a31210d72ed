"""What came of a run: how good the model is, and what the report of the run tells.

Owns what a new model is examined by, and which figures, rows and words of a run are worth telling a person. Whatever
the size of the test set and the number of topics, a report stays small: what is left out of it is said in it.
Refuses to know how any of it looks (see ``pages.report_page``), and where it is kept.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duanti import __version__
from duanti.audit import Leakage, count_findings, imbalance, leakage
from duanti.config import RunConfig
from duanti.corpus import Corpus
from duanti.evaluation import (
    MultiLabelReport,
    Report,
    bin_by_probability,
    confusion_of,
    coverage_of,
    evaluate,
    indicator_of,
)
from duanti.explanation import Explanation
from duanti.model import TopicModel
from duanti.multi_label import cases_of_sets
from duanti.pipeline import describe_corpus

_TOPICS = 1000  # with their figures and terms; of more, those of the most rows
_DRAWN = 40  # topics with a row and a column of the confusion matrix; of more, those of the most errors
_CELLS = 400  # of the matrix, with examples
_EXAMPLES = 6  # of each
_CONFUSIONS = 20  # pairs of topics
_ERRORS = 20  # explained
_TERMS = 12  # of each topic
_EXPLAINED_TERMS = 80  # of each error, those that say most
_CHARACTERS = 160  # of an example
_EXPLAINED_CHARACTERS = 800  # of an error; longer ones are cut and not explained
_POINTS = 200  # of the curve of coverage and precision
_PRECISIONS = (0.8, 0.9, 0.95, 0.98, 0.99)
_FIGURES = (
    "accuracy",
    "macro_f1",
    "expected_calibration_error",
    "boundary_error",
    "window_difference",
    "without_topic",
)
_FIGURES_OF_SETS = (
    *("micro_f1", "macro_f1", "sample_f1", "accuracy", "hamming_loss"),
    *("precision_at_1", "precision_at_3", "ndcg", "expected_calibration_error", "without_topic"),
)
_PACKAGES = ("numpy", "scipy", "scikit-learn", "numba", "pyarrow", "jieba")


@dataclass(frozen=True)
class Examination:
    """What became of a model on a test set.

    ``alone`` is what it is without context, where it has any; ``leakage`` what the test set shares with the training.
    """

    test: Corpus
    report: Report
    alone: Report | None
    leakage: Leakage

    def headline(self) -> dict[str, float]:
        """The figures by which runs are compared; those without context begin with ``alone.``."""
        alone = self.alone.headline() if self.alone else {}
        return {
            **self.report.headline(),
            **{f"alone.{name}": value for name, value in alone.items()},
            **self.leakage.as_metrics(),
        }


def examine(
    config: RunConfig,
    model: TopicModel,
    training: Corpus,
    test: Corpus,
    progress: Callable[[str], object] = lambda stage: None,
) -> Examination:
    """Evaluate a model as the recipe says, in context and alone where it knows context, and look for leakage."""

    def measure(*, context: bool) -> Report:
        return evaluate(model, test, context=context, **config.evaluation.model_dump(), seed=config.seed)

    progress(f"evaluating on {len(test):,} texts")
    report = measure(context=True)
    alone = measure(context=False) if model.context else None
    progress("looking for what the test set shares with the training set")
    return Examination(test, report, alone, leakage(training, test, n_jobs=config.n_jobs))


def describe_run(
    config: RunConfig,
    model: TopicModel,
    training: Corpus,
    found: Examination | None,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the report of a run as plain data, for JSON; without a test set, what there is to tell of the training.

    ``provenance``: facts that only the training program knows, such as its seconds, by name.
    """
    corpora = {"training": training, **({"test": found.test} if found else {})}
    return {
        "model": config.name,
        "topics": list(model.topics),
        "multi_label": model.is_multi_label,
        "terms": _terms(model, training),
        "data": {role: _describe_data(corpus, config.n_jobs) for role, corpus in corpora.items()},
        "leakage": asdict(found.leakage) if found else None,
        "settings": config.flat(),
        "versions": {
            "duanti": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in _PACKAGES},
        },
        "provenance": dict(provenance),
        "tested": _describe_examination(model, found, config.evaluation.confidence) if found else None,
    }


def _terms(model: TopicModel, training: Corpus) -> dict[str, list[str]]:
    """The terms of the largest weight for each topic, of many topics those that most of the training is about."""
    # Twice as many, because a term may be both a word and characters.
    terms = {topic: [*dict.fromkeys(best)][:_TERMS] for topic, best in model.top_terms(2 * _TERMS).items()}
    told = sorted(model.topics, key=lambda topic: -training.topic_counts[topic])[:_TOPICS]
    return {topic: terms[topic] for topic in model.topics if topic in set(told)}


def _describe_data(corpus: Corpus, n_jobs: int | None) -> dict[str, Any]:
    described = describe_corpus(corpus)
    n_topics = len(described.pop("topics"))
    findings = count_findings(corpus, n_jobs=n_jobs)
    return {**described, "topics": n_topics, "imbalance": imbalance(corpus), "findings": findings}


def _describe_examination(model: TopicModel, found: Examination, confidence: float) -> dict[str, Any]:
    report = found.report
    rows = _RowsOfSets(found.test, report) if isinstance(report, MultiLabelReport) else _Rows(found.test, report)
    figures = {"together": report, "alone": found.alone} if found.alone else {"only": report}
    wrong = rows.wrong()
    return {
        "rows": report.rows,
        "documents": report.documents,
        "confidence": confidence,
        "figures": {view: _figures(each) for view, each in figures.items()},
        "per_topic": _per_topic(model, report, found.alone),
        "n_topics": len(report.topics),
        "confusion": _confusion(report, rows),
        "confusions": _confusions(report),
        "reliability": _reliability(rows.claims),
        "coverage": None if model.is_multi_label else _coverage(rows.claims),
        "errors": [_explain_error(model, rows, row) for row in wrong[:_ERRORS]],
        "n_errors": len(wrong),
    }


def _figures(report: Report) -> dict[str, Any]:
    """The figures worth telling, in order, with their intervals where they have any."""
    names = _FIGURES_OF_SETS if isinstance(report, MultiLabelReport) else _FIGURES
    told = [each for name in names for each in (name, f"{name}_interval")]
    return {name: getattr(report, name) for name in told if hasattr(report, name)}


class _Cases(NamedTuple):
    """What a confusion matrix counts, one by one: where a text has one topic, a case is a row.

    Topics are places in the report's labels, behind the last for none.
    """

    row: NDArray[np.intp]
    gold: NDArray[np.intp]
    told: NDArray[np.intp]
    certainty: NDArray[np.float64]  # the higher, the surer the model was; NaN where that is not known


class _Claims(NamedTuple):
    """What has a probability, and whether it was right."""

    probability: NDArray[np.float64]  # NaN where none was told
    correct: NDArray[np.bool_]


class _Rows:
    """A test set row by row."""

    def __init__(self, test: Corpus, report: Report) -> None:
        place = {topic: number for number, topic in enumerate(report.labels)}
        self.test, self.predictions = test, report.predictions
        gold = np.array([place[topic] for topic in test.topics])
        told = np.array([len(place) if p.topic is None else place[p.topic] for p in report.predictions])
        probability = np.array([np.nan if p.probability is None else p.probability for p in report.predictions])
        self.cases = _Cases(np.arange(len(test)), gold, told, probability)
        self.claims = _Claims(probability, gold == told)

    def wrong(self) -> list[int]:
        """The rows that were told wrongly, most probable topics first, those without a topic last."""
        rows = np.flatnonzero(~self.claims.correct)
        return [int(row) for row in rows[np.argsort(-self.claims.probability[rows], kind="stable")]]

    def describe(self, row: int, n_characters: int) -> dict[str, Any]:
        """A row and what it was told."""
        told = self.predictions[row]
        return {
            "text": self.text(row, n_characters),
            "gold": self.test.topics[row],
            "told": told.topic,
            "probability": told.probability,
        }

    def text(self, row: int, n_characters: int) -> str:
        """The text of a row, cut where it is longer."""
        text = self.test.texts[row]
        return text if len(text) <= n_characters else f"{text[:n_characters]}…"

    def contested(self, row: int, explanation: Explanation) -> list[str]:
        """The topics of a wrong row to explain: that which it was told, its own, and the one it would have by itself.

        Where none was told, there is nothing to explain.
        """
        told = self.predictions[row].topic
        if told is None:
            return []
        return [*dict.fromkeys([told, self.test.topics[row], _highest(explanation)])]


class _RowsOfSets(_Rows):
    """A test set row by row, where each may have several topics or none."""

    def __init__(self, test: Corpus, report: MultiLabelReport) -> None:
        self.test, self.predictions, self.labels = test, report.predictions, report.labels
        self.gold = indicator_of(test.topic_sets, report.labels)
        self.told = indicator_of([each.topics or () for each in report.predictions], report.labels)
        self.probabilities = report.probabilities
        row, gold, told = cases_of_sets(self.gold, self.told)
        instead = told < len(self.labels)
        probability = self.probabilities[row, np.where(instead, told, gold)]
        self.cases = _Cases(row, gold, told, np.where(instead, probability, -probability))
        self.claims = _Claims(self.probabilities.ravel(), self.gold.ravel())

    def wrong(self) -> list[int]:
        """The rows with a topic missed or wrongly told, the most certain of it first."""
        rows, topics = np.nonzero(self.gold != self.told)
        by_certainty = np.argsort(-self._certainty(rows, topics), kind="stable")
        return [*dict.fromkeys(rows[by_certainty].tolist())]

    def describe(self, row: int, n_characters: int) -> dict[str, Any]:
        """A row and its topics, right or told, with the probability of each."""
        return {
            "text": self.text(row, n_characters),
            "topics": [
                {
                    "topic": self.labels[topic],
                    "probability": float(self.probabilities[row, topic]),
                    "gold": bool(self.gold[row, topic]),
                    "told": bool(self.told[row, topic]),
                }
                for topic in self._topics(row)
            ],
        }

    def contested(self, row: int, explanation: Explanation) -> list[str]:
        """The topics of a wrong row to explain: those told wrongly or missed, and those told rightly."""
        return [self.labels[topic] for topic in self._topics(row)]

    def _topics(self, row: int) -> NDArray[np.intp]:
        """The topics that a row has or was told: what was wrong first, of that the most certain."""
        topics = np.flatnonzero(self.gold[row] | self.told[row])
        return topics[np.argsort(-self._certainty(row, topics), kind="stable")]

    def _certainty(self, row: int | NDArray[np.intp], topic: NDArray[np.intp]) -> NDArray[np.float64]:
        """How sure the model was of topics that it missed or told wrongly; 0 of those it told rightly."""
        gold = self.gold[row, topic]
        return np.where(gold == self.told[row, topic], 0.0, np.abs(self.probabilities[row, topic] - gold))


def _per_topic(model: TopicModel, report: Report, alone: Report | None) -> list[dict[str, Any]]:
    """The figures of each topic, of many topics those of the most rows."""
    told = sorted(report.topics, key=lambda topic: -report.topics[topic].rows)[:_TOPICS]
    rows = [{"topic": topic, **asdict(report.topics[topic])} for topic in report.labels if topic in set(told)]
    if alone:
        for row in rows:
            row["f1_alone"] = alone.topics[row["topic"]].f1 if row["topic"] in alone.topics else 0.0
    if model.thresholds is not None:
        thresholds = dict(zip(model.topics, model.thresholds.tolist(), strict=True))
        for row in rows:
            row["threshold"] = thresholds.get(row["topic"])
    return rows


def _confusion(report: Report, rows: _Rows) -> dict[str, Any]:
    """The confusion matrix, topics of few errors taken together (the label None), and examples of its cells.

    Its last column is for no topic. A cell with examples is named ``ROW,COLUMN``.
    """
    drawn = _drawn(report)
    labels: list[str | None] = [report.labels[place] for place in drawn]
    folded = len(report.labels) - len(drawn)
    column_of = np.full(len(report.labels) + 1, len(drawn))
    column_of[drawn] = np.arange(len(drawn))
    if folded:
        labels.append(None)
    column_of[-1] = len(labels)
    gold, told = column_of[rows.cases.gold], column_of[rows.cases.told]
    return {
        "labels": labels,
        "folded": folded,
        "counts": confusion_of(gold, told, len(labels)).tolist(),
        "examples": _examples(rows, gold * (len(labels) + 1) + told, len(labels) + 1),
        "kept": _EXAMPLES,
    }


def _drawn(report: Report) -> list[int]:
    """The places of the labels that get a row and a column of their own, in order."""
    wrong = report.confusion.copy()
    np.fill_diagonal(wrong, 0)
    errors = wrong.sum(axis=1) + wrong[:, :-1].sum(axis=0)
    # Two put together are no gain over one more that is drawn.
    n_drawn = len(report.labels) if len(report.labels) <= _DRAWN + 1 else _DRAWN
    return sorted(int(place) for place in np.argsort(-errors, kind="stable")[:n_drawn])


def _examples(rows: _Rows, cells: NDArray[np.intp], n_columns: int) -> dict[str, list[dict[str, Any]]]:
    """The most certain rows of each cell, of many cells those of the most errors; ``cells``: that of each case."""
    cases = rows.cases
    by_certainty = np.argsort(-cases.certainty, kind="stable")
    order = by_certainty[np.argsort(cells[by_certainty], kind="stable")]
    starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
    parts = np.split(order, starts)[1:]
    parts.sort(key=lambda part: (bool((cases.gold[part] == cases.told[part]).all()), -len(part)))
    return {
        "{},{}".format(*divmod(int(cells[part[0]]), n_columns)): [
            rows.describe(int(row), _CHARACTERS) for row in cases.row[part[:_EXAMPLES]]
        ]
        for part in parts[:_CELLS]
    }


def _confusions(report: Report) -> list[dict[str, Any]]:
    """The pairs of topics that are confused most often."""
    wrong = report.confusion.copy()
    np.fill_diagonal(wrong, 0)
    found = np.argwhere(wrong)
    counts = wrong[tuple(found.T)]
    names: Sequence[str | None] = (*report.labels, None)
    return [
        {"gold": names[gold], "told": names[told], "rows": int(wrong[gold, told])}
        for gold, told in found[np.argsort(-counts, kind="stable")][:_CONFUSIONS].tolist()
    ]


def _reliability(claims: _Claims) -> list[dict[str, Any]]:
    """How often what is claimed is right, bin by bin; a bin without rows is left out."""
    bins = bin_by_probability(*claims)
    return [
        {"rows": n, "claimed": claimed / n, "correct": correct / n}
        for n, claimed, correct in zip(*(part.tolist() for part in bins), strict=True)
        if n
    ]


def _coverage(claims: _Claims) -> dict[str, Any]:
    """A curve of few points, and what must be given up to be right as often as is asked for."""
    curve = coverage_of(*claims)
    points = np.stack(curve, axis=1)
    kept = np.unique(np.linspace(0, len(points) - 1, min(len(points), _POINTS)).round().astype(int))
    reached = ((asked, np.flatnonzero(curve.precision >= asked)) for asked in _PRECISIONS)
    return {
        "points": [dict(zip(curve._fields, point, strict=True)) for point in points[kept].tolist()],
        "asked": [
            {"asked": asked, **dict(zip(curve._fields, points[places[-1]].tolist(), strict=True))}
            for asked, places in reached
            if len(places)
        ],
    }


def _explain_error(model: TopicModel, rows: _Rows, row: int) -> dict[str, Any]:
    """A row that was told wrongly, and why: what speaks for each topic it might have been told."""
    told, text = rows.describe(row, _EXPLAINED_CHARACTERS), rows.test.texts[row]
    if len(text) > _EXPLAINED_CHARACTERS:
        return {**told, "explanation": None}
    explanation = model.explain(text)
    known = [topic for topic in rows.contested(row, explanation) if topic in model.topics]
    return {**told, "explanation": explanation.as_dict(known, _EXPLAINED_TERMS) if known else None}


def _highest(explanation: Explanation) -> str:
    return explanation.topics[int(explanation.scores.argmax())]
