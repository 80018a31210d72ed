"""Figures of texts that may have several topics or none.

Owns what is counted of sets of topics, and of the order that probabilities put topics in. Refuses to know texts, models
and how topics are decided. Plain numpy, held against scikit-learn in the tests. ``gold`` and ``told`` (n_rows,
n_topics) say which topics a row has and which it is told to have; all figures are in 0..1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class SetFigures(NamedTuple):
    """How well sets of topics are told."""

    accuracy: float  # share of rows with exactly their topics (subset accuracy)
    macro_f1: float  # mean F1 of the topics that occur, in gold or in what is told
    micro_f1: float  # F1 of all pairs of row and topic
    sample_f1: float  # mean F1 of the rows; 1 where there is nothing to tell and nothing is told
    hamming_loss: float  # share of pairs that are told wrong


class RankFigures(NamedTuple):
    """How well topics are ordered, of the rows that have any; all 0 where none has."""

    precision_at_1: float  # share of the most probable topics that are right
    precision_at_3: float  # of the first three, or of all where there are fewer
    ndcg: float  # normalised discounted cumulative gain (Järvelin and Kekäläinen 2002), every right topic a gain of 1


def set_figures(
    gold: NDArray[np.bool_], told: NDArray[np.bool_], draws: Iterable[NDArray[np.int64]]
) -> Iterator[SetFigures]:
    """Yield the figures for each draw, which says how often each row counts."""
    cells = [np.nonzero(each) for each in (gold & told, gold, told)]
    wrong, sizes = (gold != told).sum(axis=1), gold.sum(axis=1) + told.sum(axis=1)
    f1_of_rows = _f1((gold & told).sum(axis=1), sizes, of_nothing=1.0)
    for draw in draws:
        hits, support, claimed = (np.bincount(topics, draw[rows], gold.shape[1]) for rows, topics in cells)
        occurs = support + claimed > 0
        n_rows = draw.sum()
        yield SetFigures(
            accuracy=float(draw @ (wrong == 0) / n_rows),
            macro_f1=float(_f1(hits, support + claimed).sum() / max(np.count_nonzero(occurs), 1)),
            micro_f1=float(_f1(hits.sum(), (support + claimed).sum())),
            sample_f1=float(draw @ f1_of_rows / n_rows),
            hamming_loss=float(draw @ wrong / n_rows / gold.shape[1]),
        )


def _f1(hits: Any, sizes: Any, *, of_nothing: float = 0.0) -> Any:
    """Twice the hits over what there is and what is told, added up."""
    return np.where(sizes > 0, 2 * hits / np.maximum(sizes, 1), of_nothing)


def rank_figures(gold: NDArray[np.bool_], probabilities: NDArray[np.float64]) -> RankFigures:
    """Return the figures of the topics of each row by ``probabilities`` (n_rows, n_topics), of equal ones the first."""
    rows = gold.any(axis=1)
    if not rows.any():
        return RankFigures(0.0, 0.0, 0.0)
    order = np.argsort(-probabilities[rows], axis=1, kind="stable")
    right = np.take_along_axis(gold[rows], order, axis=1)
    gains = 1 / np.log2(np.arange(2, right.shape[1] + 2))
    best = np.cumsum(gains)[right.sum(axis=1) - 1]
    return RankFigures(float(right[:, 0].mean()), float(right[:, :3].mean()), float((right @ gains / best).mean()))


def confusion_of_sets(gold: NDArray[np.bool_], told: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count what is told in place of what: (n_topics, n_topics + 1), gold by told.

    Hits are on the diagonal. A topic that was not told counts against each topic that was wrongly told of the row, and
    in the last column where there is none.
    """
    _, of, instead = cases_of_sets(gold, told)
    n_topics, n_columns = gold.shape[1], gold.shape[1] + 1
    return np.bincount(of * n_columns + instead, minlength=n_topics * n_columns).reshape(n_topics, n_columns)


def cases_of_sets(
    gold: NDArray[np.bool_], told: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Return what ``confusion_of_sets`` counts, one by one: row, gold topic, and the one told, n_topics for none."""
    wrong = told & ~gold
    instead = np.hstack([wrong, ~wrong.any(axis=1, keepdims=True)])
    row, missed = np.nonzero(gold & ~told)
    case, wrongly = np.nonzero(instead[row])
    right_row, right = np.nonzero(gold & told)
    return (
        np.concatenate([right_row, row[case]]),
        np.concatenate([right, missed[case]]),
        np.concatenate([right, wrongly]),
    )
