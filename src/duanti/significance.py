"""Whether one model is better than another on the same rows, or only luckier.

Owns the paired tests: McNemar's for accuracy, the paired bootstrap over documents for macro-F1. Refuses to know models,
runs and where predictions come from; it gets columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from duanti.evaluation import accuracy_of, confusion_of, draw_documents, macro_f1_of

_FIGURES: dict[str, Callable[[NDArray[np.int64]], float]] = {"accuracy": accuracy_of, "macro_f1": macro_f1_of}


class Comparison(NamedTuple):
    """How much better the second is than the first (shares, -1..1), and how likely so large a difference is by luck."""

    difference: float
    p_value: float
    test: str


def compare_paired(
    metric: str,
    gold: NDArray[np.intp],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    groups: NDArray[np.intp],
    *,
    n_labels: int,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two models by ``metric``, "accuracy" or "macro_f1", on the columns they predicted for the same rows.

    ``n_labels`` as a predicted column means no topic. ``groups`` is the document of each row: McNemar's test takes rows
    to be independent, so where documents have several, accuracy too is compared by the bootstrap over documents.
    """
    if metric == "accuracy" and len(np.unique(groups)) == len(groups):
        difference = float(np.mean(second == gold) - np.mean(first == gold))
        return Comparison(difference, mcnemar(first == gold, second == gold), "McNemar, exact")
    return paired_bootstrap(metric, gold, first, second, groups, n_labels=n_labels, resamples=resamples, seed=seed)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the two-sided p-value that two models are right equally often, from which rows each has right.

    McNemar 1947, exact: of the rows that just one has right, those of the first are binomial with share 1/2.

    >>> mcnemar(np.array([True, True, True, True]), np.array([False, False, False, True]))
    0.25
    """
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(second & ~first))
    n = only_first + only_second
    # Whole numbers, as large as they come: nothing is rounded, and nothing underflows.
    tail, ways = 0, 1
    for k in range(min(only_first, only_second) + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, 2 * tail / (1 << n))


def paired_bootstrap(
    metric: str,
    gold: NDArray[np.intp],
    first: NDArray[np.intp],
    second: NDArray[np.intp],
    groups: NDArray[np.intp],
    *,
    n_labels: int,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare two models on the same documents, drawn with replacement.

    The p-value is twice the share of draws in which the difference is gone or turned round, one draw more counted
    than there were, so that it is never 0 (Davison and Hinkley 1997, 4.2). Koehn 2004, "Statistical Significance Tests
    for Machine Translation Evaluation".
    """
    figure = _FIGURES[metric]

    def difference(weights: NDArray[np.intp] | None = None) -> float:
        worse, better = (confusion_of(gold, columns, n_labels, weights) for columns in (first, second))
        return figure(better) - figure(worse)

    seen = difference()
    drawn = np.array([difference(weights) for weights in draw_documents(groups, resamples, seed)])
    against = min(int(np.sum(drawn <= 0)), int(np.sum(drawn >= 0)))
    return Comparison(seen, min(1.0, 2 * (against + 1) / (resamples + 1)), "paired bootstrap over documents")
