"""Whether a model still sees what it was trained on.

Owns the profile of texts as a model sees them (which topics, how sure, how much it does not know, which terms), the
distances between two profiles, and the verdict on each. Refuses to know files and how predictions are made.

A bundle carries the profile of its training texts, predicted out of fold; their terms are the bundle's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duanti.features import TermCounts, TermSpace, tally_known

Verdict = Literal["stable", "watch", "drifted"]

_BINS = 10  # of probabilities
_FREQUENT = 2000  # terms whose distribution is compared: enough to tell a domain, few enough to be counted well
_LEAST = 1e-4  # share that a cell of a distribution has at least, so that an empty one weighs no more than that

#: From where on a figure is to be watched, and from where on it has drifted. 0.1 and 0.25 are what the population
#: stability index is commonly held against; the others were set on corpora of one source, of a like and of another.
LIMITS: Mapping[str, tuple[float, float]] = {
    "topics": (0.1, 0.25),
    "confidence": (0.1, 0.25),
    "unknown_terms": (0.5, 1.0),
    "terms": (0.05, 0.15),
}


class Profile:
    """What a model makes of texts, counted batch by batch."""

    def __init__(self, topics: Sequence[str], spaces: Sequence[TermSpace]) -> None:
        self.topics = tuple(topics)
        self._spaces = tuple(spaces)
        self.rows = 0
        self.topic_rows = np.zeros(len(topics) + 1, np.int64)  # the last: without topic
        self.confidence_rows = np.zeros(_BINS, np.int64)
        self.probability_sum = 0.0
        self.unknown = self.occurrences = 0
        self.document_frequency = [np.zeros(len(space), np.int64) for space in spaces]

    def add_predictions(self, topics: NDArray[np.int64], probabilities: NDArray[np.float64]) -> None:
        """Count the topic of each text by number, -1 without one, and its probability."""
        has_topic = topics >= 0
        self.rows += len(topics)
        self.topic_rows += np.bincount(np.where(has_topic, topics, len(self.topics)), minlength=len(self.topics) + 1)
        claimed = probabilities[has_topic]
        bins = np.minimum((claimed * _BINS).astype(int), _BINS - 1)
        self.confidence_rows += np.bincount(bins, minlength=_BINS)
        self.probability_sum += float(claimed.sum())

    def add_terms(self, counts: Sequence[TermCounts]) -> None:
        """Count terms, one ``TermCounts`` for each space."""
        for part, space, frequency in zip(counts, self._spaces, self.document_frequency, strict=True):
            tally = tally_known(part, space)
            frequency += tally.document_frequency
            self.add_unknown(tally.unknown, tally.occurrences)

    def add_unknown(self, unknown: int, occurrences: int) -> None:
        """Count occurrences of terms, and those among them of terms the model does not know."""
        self.unknown += unknown
        self.occurrences += occurrences

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data, for a bundle or JSON: shares in 0..1."""
        with_topic = max(self.rows - int(self.topic_rows[-1]), 1)
        return {
            "rows": self.rows,
            "topics": dict(zip(self.topics, _shares(self.topic_rows).tolist(), strict=False)),
            "without_topic": float(_shares(self.topic_rows)[-1]),
            "confidence": _shares(self.confidence_rows).tolist(),
            "mean_probability": self.probability_sum / with_topic,
            "unknown_terms": self.unknown / max(self.occurrences, 1),
        }


class Drift(NamedTuple):
    """How far one figure is from the training's."""

    figure: str
    training: float | None  # where the figure is one number
    now: float | None
    distance: float
    verdict: Verdict


@dataclass(frozen=True)
class DriftReport:
    """All figures of some texts against the training's."""

    figures: tuple[Drift, ...]
    topics: dict[str, tuple[float, float]]  # share in training, and now
    rows: int

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        verdicts: tuple[Verdict, ...] = ("stable", "watch", "drifted")
        return max((drift.verdict for drift in self.figures), key=verdicts.index)

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain data, for JSON."""
        return {
            "rows": self.rows,
            "verdict": self.verdict,
            "figures": {drift.figure: drift._asdict() for drift in self.figures},
            "topics": {topic: {"training": before, "now": now} for topic, (before, now) in self.topics.items()},
        }


def compare_profiles(reference: Mapping[str, Any], profile: Profile, spaces: Sequence[TermSpace]) -> DriftReport:
    """Hold the profile of some texts against the one a bundle carries.

    Topics and confidence by the population stability index, ``sum((q - p) ln(q / p))``; the share of unknown terms by
    how much it has grown, as a share of itself; terms by the Jensen-Shannon divergence (base 2, 0..1) of the
    distributions of the 2,000 most frequent of each space. From each distance, what chance alone would bring with so
    few texts is taken away.
    """
    now = profile.as_dict()
    n_before, n_now = reference["rows"], profile.rows
    topics_before = [*reference["topics"].values(), reference["without_topic"]]
    topics_now = [*(now["topics"].get(topic, 0.0) for topic in reference["topics"]), now["without_topic"]]
    grown = now["unknown_terms"] / max(reference["unknown_terms"], 0.01) - 1
    return DriftReport(
        figures=(
            _judged("topics", stability_index(topics_before, topics_now, n_before, n_now)),
            _judged(
                "confidence",
                stability_index(reference["confidence"], now["confidence"], n_before, n_now),
                reference["mean_probability"],
                now["mean_probability"],
            ),
            _judged("unknown_terms", max(grown, 0.0), reference["unknown_terms"], now["unknown_terms"]),
            _judged("terms", _distance_of_terms(profile, spaces)),
        ),
        topics={topic: (share, now["topics"].get(topic, 0.0)) for topic, share in reference["topics"].items()},
        rows=profile.rows,
    )


def stability_index(before: Sequence[float], now: Sequence[float], n_before: int, n_now: int) -> float:
    """Return the population stability index of two distributions, less what chance brings: (k - 1)(1/n + 1/m)."""
    p, q = (np.maximum(np.asarray(shares), _LEAST) for shares in (before, now))
    index = float(np.sum((q - p) * np.log(q / p)))
    return max(index - (np.count_nonzero(p + q > 2 * _LEAST) - 1) * (1 / n_before + 1 / max(n_now, 1)), 0.0)


def divergence(before: NDArray[np.int64], now: NDArray[np.int64]) -> float:
    """Return the Jensen-Shannon divergence (base 2) of two distributions given as counts.

    Less what chance brings: (k - 1)(1/n + 1/m) / (8 ln 2).
    Lin 1991, "Divergence Measures Based on the Shannon Entropy".
    """
    if not now.sum() or not before.sum():
        return float(bool(before.sum()) != bool(now.sum()))
    p, q = before / before.sum(), now / now.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.nansum(shares * np.log2(shares / middle)) for shares in (p, q)]
    chance = (np.count_nonzero(middle) - 1) * (1 / before.sum() + 1 / now.sum()) / (8 * np.log(2))
    return max(float(sum(parts) / 2 - chance), 0.0)


def _distance_of_terms(profile: Profile, spaces: Sequence[TermSpace]) -> float:
    distances = []
    for space, frequency in zip(spaces, profile.document_frequency, strict=True):
        frequent = np.argsort(-space.document_frequency, kind="stable")[:_FREQUENT]
        distances.append(divergence(space.document_frequency[frequent], frequency[frequent]))
    return max(distances)


def _judged(figure: str, distance: float, training: float | None = None, now: float | None = None) -> Drift:
    watch, drifted = LIMITS[figure]
    verdict: Verdict = "drifted" if distance >= drifted else "watch" if distance >= watch else "stable"
    return Drift(figure, training, now, distance, verdict)


def _shares(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    return rows / max(int(rows.sum()), 1)
