"""A document at a glance: its paragraphs with their topics, why they have them, and what the whole is about.

Owns the plain data that ``duanti explain --json``, the pages and the server
give of a document. Refuses to know how a topic is found and how any of it looks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from duanti.explanation import Explanation
from duanti.model import Alternative, Prediction, TopicModel
from duanti.paragraphs import WITHOUT_TOPIC
from duanti.predict import Labelled
from duanti.summaries import Summary, summarize


@dataclass(frozen=True, eq=False)
class LabelledParagraph:
    """A paragraph, or a text that was not split, with its topic. ``start`` and ``end`` are those of an output row."""

    paragraph: int
    start: int
    end: int
    kind: str
    text: str
    prediction: Prediction
    explanation: Explanation | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics it is told to have, the most probable first; where it has none, those that score highest."""
        if self.prediction.topic is not None:
            return (self.prediction.topic, *(other.topic for other in self.prediction.alternatives))
        if self.explanation is None or not self.explanation.terms:
            return ()
        return tuple(self.explanation.topics[column] for column in np.argsort(-self.explanation.scores)[:3])

    def as_dict(self, n_terms: int | None = None) -> dict[str, Any]:
        """Return it as plain data, its explanation with the ``n_terms`` terms that say most, or all."""
        topic, probability, alternatives, known_terms, topics = self.prediction
        told = {
            "paragraph": self.paragraph,
            "start": self.start,
            "end": self.end,
            "kind": self.kind,
            "text": self.text,
            "topic": topic,
            "probability": probability,
            "alternatives": [other._asdict() for other in alternatives],
            "known_terms": known_terms,
        }
        if topics is not None:
            told["topics"] = list(topics)
        if self.explanation is not None:
            told["explanation"] = self.explanation.as_dict(self.topics, n_terms)
        return told


class Segment(NamedTuple):
    """A segment of ``summaries``, and where it stands in the document."""

    topic: str
    first: int
    last: int
    start: int
    end: int


@dataclass(frozen=True, eq=False)
class Overview:
    """A document and its paragraphs, in order."""

    document: str
    paragraphs: Sequence[LabelledParagraph]

    @cached_property
    def summary(self) -> Summary:
        """Its main topic, the share of each, and its segments."""
        return summarize(
            [part.prediction.topic for part in self.paragraphs],
            [part.end - part.start for part in self.paragraphs],
            [part.paragraph for part in self.paragraphs],
        )

    @property
    def segments(self) -> list[Segment]:
        """Where the document speaks of what."""
        place = {part.paragraph: part for part in self.paragraphs}
        return [
            Segment(topic, first, last, place[first].start, place[last].end)
            for first, last, topic in self.summary.segments
        ]

    def as_dict(self, n_terms: int | None = None) -> dict[str, Any]:
        """Return it as plain data, each explanation with the ``n_terms`` terms that say most, or all."""
        return {
            "document": self.document,
            "main_topic": self.summary.topic,
            "shares": self.summary.shares,
            "segments": [segment._asdict() for segment in self.segments],
            "paragraphs": [part.as_dict(n_terms) for part in self.paragraphs],
        }


def view_document(
    model: TopicModel, text: str, *, document: str = "", context: bool = True, top: int = 3, explain: bool = False
) -> Overview:
    """Split a document, predict its paragraphs, and explain those that may have a topic if told to."""
    parts = [
        LabelledParagraph(
            number,
            paragraph.start,
            paragraph.end,
            paragraph.kind,
            paragraph.text,
            prediction,
            model.explain(paragraph.text) if explain and prediction.known_terms else None,
        )
        for number, (paragraph, prediction) in enumerate(model.predict_document(text, top=top, context=context))
    ]
    return Overview(document, parts)


def view_labelled(model: TopicModel, labelled: Iterable[Labelled]) -> Iterator[Overview]:
    """Explain output rows, and yield them by document."""
    document, parts = "", list[LabelledParagraph]()
    for row, text in _rows(labelled):
        if parts and row["paragraph"] == 0:
            yield Overview(document, parts)
            parts = []
        document = row["document"]
        parts.append(_explained(model, row, text))
    if parts:
        yield Overview(document, parts)


def _rows(labelled: Iterable[Labelled]) -> Iterator[tuple[dict[str, Any], str]]:
    for part in labelled:
        for row, text in zip(part.batch.to_pylist(), part.texts.to_pylist(), strict=True):
            yield row, text or ""


def _explained(model: TopicModel, row: dict[str, Any], text: str) -> LabelledParagraph:
    speaks = row["kind"] not in WITHOUT_TOPIC
    explanation = model.explain(text) if speaks else None
    known_terms = len(explanation.terms) if explanation else 0
    others = tuple(Alternative(**other) for other in row["alternatives"])
    topics = tuple(row["topics"]) if model.is_multi_label else None
    prediction = Prediction(row["topic"], row["probability"], others, known_terms, topics)
    place = (row["paragraph"], row["start"], row["end"], row["kind"])
    return LabelledParagraph(*place, text, prediction, explanation if known_terms else None)
