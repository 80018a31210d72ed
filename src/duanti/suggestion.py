"""What to label next: texts that a model is unsure of, and no two alike.

Owns how unsure a model is of a text, and which texts are chosen together. Refuses to know files, pages, and what
becomes of the labels.

    output rows ─ margin ─ shortlist: the most uncertain, near duplicates once ─ spread: far apart ─ suggestions

The *margin* is the probability of the most probable topic less that of the next (Scheffer, Decomain and Wrobel 2001,
"Active Hidden Markov Models for Information Extraction"). Of the shortlist, texts are taken one by one: each time the
one whose uncertainty, ``1 - margin``, times distance to the nearest text taken is largest. That is the greedy
k-center algorithm (Gonzalez 1985; Sener and Savarese 2018, "Active Learning for Convolutional Neural Networks: A
Core-Set Approach"), weighted. There is no chance in it: the same texts give the same suggestions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from duanti.arrow import as_numpy, numbers
from duanti.duplicates import group_texts
from duanti.errors import DataError
from duanti.features import Rows
from duanti.model import Decision, TopicModel
from duanti.predict import Labelled

#: Topics that a suggestion ranks: one for each digit of a keyboard.
RANKED = 9

# Texts on the shortlist for each suggestion: more would bring in texts the model is sure of, fewer leave less choice.
_CHOICE = 10


class Suggestion(NamedTuple):
    """A text worth a label, and what the model makes of it. Sorts by margin, the most uncertain first."""

    margin: float
    position: int  # among all texts that were read
    text: str
    document: str | None  # None: a text by itself
    paragraph: int
    predicted: str
    probability: float
    alternatives: list[dict[str, Any]]  # {topic, probability}, most probable first

    def as_dict(self) -> dict[str, Any]:
        """The suggestion for a line of JSON. What the model says is no ``topic``, so that nobody trains on it."""
        return {
            "text": self.text,
            "document": self.document,
            "paragraph": self.paragraph,
            "position": self.position,
            "predicted": self.predicted,
            "probability": self.probability,
            "margin": self.margin,
            "alternatives": self.alternatives,
        }


def always_deciding(model: TopicModel) -> TopicModel:
    """Return the model without its promises: where it would rather tell no topic, a label helps most.

    Raises
    ------
    DataError
        when it is multi-label: such topics are no alternatives to each other, and none has a margin
    """
    if model.is_multi_label:
        raise DataError("the model is multi-label; what to label next is found where each text has one topic.")
    return replace(model, decision=Decision(), decision_in_context=Decision())


def suggest(
    model: TopicModel, labelled: Iterable[Labelled], n: int, known: Sequence[str] = (), n_jobs: int | None = None
) -> list[Suggestion]:
    """Choose up to ``n`` texts to label next, the most useful first.

    Parameters
    ----------
    labelled
        what the model (see ``always_deciding``) makes of the texts, with two topics or more for each; they may be any
        number, only some ``20 * n`` are kept at a time
    known
        texts that have their labels: neither they nor near duplicates of them are suggested

    Raises
    ------
    DataError
        when no text can be suggested
    """
    shortlist = Shortlist(_CHOICE * n, known, n_jobs)
    for part in labelled:
        shortlist.add(part)
    candidates = shortlist.candidates()
    if not candidates:
        raise DataError("the input holds no text with a known term that has no label yet: nothing to suggest.")
    vectors = model.weigh([candidate.text for candidate in candidates], n_jobs)
    uncertainty = 1 - np.array([candidate.margin for candidate in candidates])
    return [candidates[place] for place in spread(vectors, uncertainty, n)]


class Shortlist:
    """The ``size`` most uncertain of any number of texts, of near duplicates one; keeps twice as many at most.

    Texts without a topic, because they say nothing or nothing known, are passed over: a model is not unsure of them.
    """

    def __init__(self, size: int, known: Sequence[str] = (), n_jobs: int | None = None) -> None:
        self._size, self._known, self._n_jobs = size, known, n_jobs
        self._kept: list[Suggestion] = []
        self._bound = np.inf  # a text with this margin is none of the most uncertain any more
        self._n_read = 0

    def add(self, labelled: Labelled) -> None:
        """Take in the rows that come next."""
        for candidate in _candidates(labelled, self._n_read, self._bound):
            self._kept.append(candidate)
            if len(self._kept) == 2 * self._size:
                self._narrow()
        self._n_read += labelled.batch.num_rows

    def candidates(self) -> list[Suggestion]:
        """The shortlist of what was read until now, the most uncertain first."""
        self._narrow()
        return self._kept

    def _narrow(self) -> None:
        self._kept = sorted(self._kept)
        texts = [*self._known, *(candidate.text for candidate in self._kept)]
        near = group_texts(texts, n_jobs=self._n_jobs).near if texts else np.zeros(0, np.int64)
        # The first of a group: a known text, else the most uncertain.
        leads = near == np.arange(len(texts))
        self._kept = [each for each, leading in zip(self._kept, leads[len(self._known) :], strict=True) if leading]
        del self._kept[self._size :]
        if len(self._kept) == self._size:
            self._bound = self._kept[-1].margin


def _candidates(labelled: Labelled, n_before: int, bound: float) -> Iterator[Suggestion]:
    """The rows with a topic and a margin below ``bound``."""
    batch = labelled.batch
    rows = np.flatnonzero(as_numpy(batch.column("topic").is_valid()))
    probabilities = batch.column("probability").take(numbers(rows))
    others = batch.column("alternatives").take(numbers(rows))
    margins = as_numpy(pc.subtract(probabilities, pc.struct_field(pc.list_element(others, 0), "probability")))
    uncertain = np.flatnonzero(margins < bound)
    rows, margins = rows[uncertain], margins[uncertain]
    told = batch.take(numbers(rows)).to_pylist()
    texts = labelled.texts.take(numbers(rows)).to_pylist()
    for row, margin, text, found in zip(rows.tolist(), margins.tolist(), texts, told, strict=True):
        document = found["document"] if labelled.in_document[row] else None
        predicted = (found["topic"], found["probability"], found["alternatives"])
        yield Suggestion(margin, n_before + row, text, document, found["paragraph"], *predicted)


def spread(vectors: Rows, uncertainty: NDArray[np.float64], n: int) -> list[int]:
    """Choose up to ``n`` rows that are uncertain and far from one another, the first chosen first; of equals the first.

    ``vectors`` hold no negative values; what counts is their direction: distances squared are ``2 - 2 * cosine``.
    """
    n_rows = len(uncertainty)
    rows = np.repeat(np.arange(n_rows), np.diff(vectors.indptr))
    lengths = np.sqrt(np.bincount(rows, vectors.values**2, minlength=n_rows))
    values = vectors.values / lengths[rows]
    columns = np.unique(vectors.indices, return_inverse=True)[1]
    chosen: list[int] = []
    centre = np.zeros(columns.max(initial=-1) + 1)  # the vector chosen last, at full width
    nearest = np.full(n_rows, 2.0)  # squared distance to what is chosen: at first that of texts that share nothing
    while len(chosen) < min(n, n_rows):
        gain = uncertainty**2 * nearest
        gain[chosen] = -1.0
        best = int(np.argmax(gain))
        chosen.append(best)
        own = slice(vectors.indptr[best], vectors.indptr[best + 1])
        centre[columns[own]] = values[own]
        cosines = np.bincount(rows, values * centre[columns], minlength=n_rows)
        nearest = np.minimum(nearest, np.maximum(2 - 2 * cosines, 0))
        centre[columns[own]] = 0
    return chosen
