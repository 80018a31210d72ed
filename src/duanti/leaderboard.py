"""Which of an experiment's runs is best, and whether one is better than the champion.

Owns the table of predictions that a run keeps, the order of the runs, and the decision to promote one. Refuses to know
how a store keeps things and how the result is printed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from duanti.corpus import Corpus
from duanti.errors import TrackingError
from duanti.evaluation import Report, compare
from duanti.model import Prediction
from duanti.significance import Comparison, compare_paired
from duanti.tracking import RecordedRun, Store

PREDICTIONS = "predictions.parquet"
METRICS = ("macro_f1", "accuracy")


@dataclass(frozen=True)
class Entry:
    """A run, the figures of its predictions, and how it compares with the champion, by metric."""

    run: RecordedRun
    report: Report
    rows: pa.Table
    champion: bool = False
    against_champion: dict[str, Comparison] | None = None


@dataclass(frozen=True)
class Leaderboard:
    """Runs tested on the same corpus, best first; ``apart``: those that are not, and why."""

    model: str | None
    champion: str | None  # its version
    entries: tuple[Entry, ...]
    apart: tuple[tuple[RecordedRun, str], ...]
    metric: str
    level: float

    @property
    def challengers(self) -> tuple[Entry, ...]:
        """Registered runs that are compared with the champion, best first."""
        return tuple(entry for entry in self.entries if entry.against_champion and self.model in entry.run.versions)


@dataclass(frozen=True)
class Verdict:
    """Whether the best challenger is better than the champion, in words and as tags of its version."""

    better: bool
    version: str | None
    said: str
    reason: dict[str, str]


def predictions_table(corpus: Corpus, predictions: Sequence[Prediction]) -> pa.Table:
    """What a run keeps of its test, row by row: enough to compare it with any other of the same corpus.

    ``text`` is a digest of the row's text, so that rows find their like in a file of another order. Of a multi-label
    corpus ``gold`` and ``predicted`` are lists.
    """
    if corpus.multi_label:
        gold = pa.array(corpus.topic_sets, pa.list_(pa.string()))
        predicted = pa.array([p.topics for p in predictions], pa.list_(pa.string()))
    else:
        gold, predicted = (pa.array(told, pa.string()) for told in (corpus.topics, [p.topic for p in predictions]))
    return pa.table(
        {
            "row": pa.array(range(len(corpus)), pa.int64()),
            "gold": gold,
            "predicted": predicted,
            "probability": pa.array([p.probability for p in predictions], pa.float64()),
            "document": pa.array(corpus.groups, pa.int64()),
            "text": pa.array([hashlib.sha256(text.encode()).hexdigest()[:16] for text in corpus.texts], pa.string()),
        }
    )


def rank(
    store: Store, experiment: str, *, model: str | None = None, metric: str = "macro_f1", level: float = 0.95
) -> Leaderboard:
    """Read an experiment's finished runs and compare each with the model's champion, on the champion's test corpus.

    ``model``: the registered model; the one that the runs are versions of, if there is one only. ``level`` (0..1) is of
    the intervals and of the decision.

    Raises
    ------
    TrackingError
        when there is no such experiment, or its runs are of several models
    """
    runs = store.finished_runs(experiment)
    name = model or _only_model(experiment, runs)
    champion = store.champion(name) if name else None
    if champion and champion.run_id not in {run.id for run in runs}:
        runs = [*runs, store.run(champion.run_id)]
    reference = next((run for run in runs if champion and run.id == champion.run_id), None)
    digest = (reference and reference.test_digest) or next((run.test_digest for run in runs if run.test_digest), None)
    entries, apart = [], []
    for run in runs:
        rows = store.table(run.id, PREDICTIONS) if run.test_digest and run.test_digest == digest else None
        if rows is None:
            apart.append((run, _why_apart(run, digest)))
        elif pa.types.is_list(rows["gold"].type):
            apart.append((run, "multi-label: look at its figures in MLflow; runs are compared that tell one topic"))
        else:
            entries.append(Entry(run, _report(rows, level), _aligned(rows), run is reference))
    measure = next((entry for entry in entries if entry.champion), None)
    if measure is not None:
        entries = [entry if entry.champion else _compared(entry, measure) for entry in entries]
    entries.sort(key=lambda entry: -getattr(entry.report, metric))
    return Leaderboard(name, champion and champion.version, tuple(entries), tuple(apart), metric, level)


def decide(board: Leaderboard) -> Verdict:
    """Say whether the best challenger is better than the champion, at the board's level.

    It is the best of several, and the best of several is lucky too: its p-value counts as often as there are
    challengers (Bonferroni).
    """
    if board.champion is None:
        return Verdict(False, None, "no registered model has a champion to compare with", {})
    if not any(entry.champion for entry in board.entries):
        return Verdict(False, None, "the champion has kept no predictions; train it again with a test corpus", {})
    if not board.challengers:
        return Verdict(False, None, "there is no challenger that was tested on the champion's test corpus", {})
    best, number = board.challengers[0], len(board.challengers)
    assert best.against_champion is not None
    assert board.model is not None
    found = best.against_champion[board.metric]
    p_value = min(1.0, found.p_value * number)
    better = found.difference > 0 and p_value <= 1 - board.level
    version = best.run.versions[board.model]
    shown = board.metric.replace("macro_f1", "macro-F1")
    said = (
        f"version {version} {'is better than' if better else 'is not shown to be better than'} version "
        f"{board.champion}: {shown} {found.difference:+.4f}, p = {p_value:.4g} ({found.test}, "
        f"best of {number}), level {board.level:g}"
    )
    reason = {
        "over_version": board.champion,
        "metric": board.metric,
        "difference": f"{found.difference:.6f}",
        "value": f"{getattr(best.report, board.metric):.6f}",
        "p_value": f"{p_value:.6g}",
        "test": found.test,
        "level": f"{board.level:g}",
        "challengers": str(number),
        "rows": str(best.report.rows),
        "test_corpus": best.run.test_digest or "",
    }
    return Verdict(better, version, said, reason)


def _only_model(experiment: str, runs: Sequence[RecordedRun]) -> str | None:
    names = sorted({name for run in runs for name in run.versions})
    if len(names) > 1:
        raise TrackingError(f"{experiment}: runs of several models, {', '.join(names)}. Name one with --model.")
    return names[0] if names else None


def _why_apart(run: RecordedRun, digest: str | None) -> str:
    if run.test_digest is None:
        return "not tested"
    return "tested on another corpus" if run.test_digest != digest else "kept no predictions"


def _report(rows: pa.Table, level: float) -> Report:
    """The figures of what a run predicted."""
    columns: dict[str, list[Any]] = rows.to_pydict()
    corpus = Corpus("test", columns["text"], columns["gold"], [str(group) for group in columns["document"]])
    pairs = zip(columns["predicted"], columns["probability"], strict=True)
    return compare(corpus, [Prediction(topic, p, (), 0) for topic, p in pairs], confidence=level)


def _aligned(rows: pa.Table) -> pa.Table:
    """The rows in an order that does not depend on the file's."""
    return rows.sort_by([("text", "ascending"), ("gold", "ascending"), ("row", "ascending")])


def _compared(entry: Entry, champion: Entry) -> Entry:
    topics = sorted({*champion.rows["gold"].to_pylist(), *_told(champion.rows), *_told(entry.rows)})
    number = {topic: n for n, topic in enumerate(topics)}

    def columns(rows: pa.Table, name: str) -> NDArray[np.intp]:
        return np.array([number.get(topic, len(number)) for topic in rows[name].to_pylist()], dtype=np.intp)

    gold, first = columns(champion.rows, "gold"), columns(champion.rows, "predicted")
    second, groups = columns(entry.rows, "predicted"), champion.rows["document"].to_numpy()
    found = {m: compare_paired(m, gold, first, second, groups, n_labels=len(number)) for m in METRICS}
    return replace(entry, against_champion=found)


def _told(rows: pa.Table) -> set[str]:
    return {topic for topic in rows["predicted"].to_pylist() if topic is not None}
