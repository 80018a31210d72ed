"""What is said of a document as a whole: its main topic, the share of each, and its segments.

Owns how the topics of paragraphs become one row for their document. Refuses to know how they were found and where rows
go.

Shares are of the characters in paragraphs with a topic. A segment is a run of paragraphs of one topic; those without
any neither end one nor begin one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from duanti.arrow import numbers, strings

#: The kind of a row that speaks of a whole document.
DOCUMENT = "document"

_SHARES = pa.list_(pa.struct([("topic", pa.string()), ("share", pa.float64())]))
_SEGMENTS = pa.list_(pa.struct([("first", pa.int64()), ("last", pa.int64()), ("topic", pa.string())]))

#: The columns that rows get where documents are summed up; null in the rows of paragraphs.
SUMMARY_COLUMNS = (pa.field("shares", _SHARES), pa.field("segments", _SEGMENTS))


class Segment(NamedTuple):
    """Paragraphs ``first`` to ``last``, both in it, by their numbers."""

    first: int
    last: int
    topic: str


class Summary(NamedTuple):
    """A document as a whole. ``topic`` None: no paragraph has one."""

    topic: str | None
    shares: dict[str, float]  # 0..1, the largest first
    segments: tuple[Segment, ...]


def summarize(topics: Sequence[str | None], lengths: Sequence[int], numbers_of: Sequence[int]) -> Summary:
    """Sum up the paragraphs of a document: the topic, the length in characters and the number of each.

    >>> summarize(["甲", "甲", None, "甲", "乙"], [5, 5, 9, 5, 5], [0, 1, 2, 3, 4]).segments
    (Segment(first=0, last=3, topic='甲'), Segment(first=4, last=4, topic='乙'))
    """
    characters: dict[str, int] = {}
    said = [(topic, number) for topic, number in zip(topics, numbers_of, strict=True) if topic is not None]
    for topic, length in zip(topics, lengths, strict=True):
        if topic is not None:
            characters[topic] = characters.get(topic, 0) + max(length, 1)
    total = sum(characters.values())
    ordered = sorted(characters, key=lambda topic: -characters[topic])  # of equal shares the first to come up
    runs = [(topic, [number for _, number in run]) for topic, run in groupby(said, key=lambda pair: pair[0])]
    return Summary(
        ordered[0] if ordered else None,
        {topic: characters[topic] / total for topic in ordered},
        tuple(Segment(inside[0], inside[-1], topic) for topic, inside in runs),
    )


def with_summaries(
    batch: pa.RecordBatch, texts: pa.LargeStringArray, begins: NDArray[np.int64]
) -> tuple[pa.RecordBatch, pa.LargeStringArray]:
    """Put a row for each document behind those of its paragraphs; ``begins`` tells with which row each begins.

    Returns the rows, and what each speaks of: a document's own row of nothing more.
    """
    schema = _schema(batch)
    if not len(begins):
        return pa.RecordBatch.from_pylist([], schema), texts
    bounds = np.append(begins, batch.num_rows)
    summaries = pa.Table.from_pylist(list(_summary_rows(batch, bounds)), schema)
    rows = pa.Table.from_batches([batch])
    for field in SUMMARY_COLUMNS:
        rows = rows.append_column(field, pa.nulls(batch.num_rows, field.type))
    places = np.insert(np.arange(batch.num_rows), bounds[1:], batch.num_rows + np.arange(len(begins)))
    order = numbers(places)
    together = pa.concat_tables([rows.select(summaries.schema.names), summaries]).combine_chunks().take(order)
    spoken = pa.concat_arrays([texts, strings([""] * len(begins))]).take(order)
    return together.combine_chunks().to_batches()[0], spoken


def _schema(batch: pa.RecordBatch) -> pa.Schema:
    """Summary columns stand before those that are kept."""
    schema = batch.schema
    place = 1 + max(schema.get_field_index(name) for name in ("alternatives", "topics", "topic_set"))
    for field in reversed(SUMMARY_COLUMNS):
        schema = schema.insert(place, field)
    return schema


def _summary_rows(batch: pa.RecordBatch, bounds: NDArray[np.int64]) -> Iterator[dict[str, object]]:
    columns = {name: batch.column(name).to_pylist() for name in ("document", "paragraph", "start", "end", "topic")}
    lengths = [end - start for start, end in zip(columns["start"], columns["end"], strict=True)]
    for begin, end in pairwise(bounds.tolist()):
        summary = summarize(columns["topic"][begin:end], lengths[begin:end], columns["paragraph"][begin:end])
        yield {
            "document": columns["document"][begin],
            "start": columns["start"][begin],
            "end": columns["end"][end - 1],
            "kind": DOCUMENT,
            "topic": summary.topic,
            "alternatives": [],
            "shares": [{"topic": topic, "share": share} for topic, share in summary.shares.items()],
            "segments": [segment._asdict() for segment in summary.segments],
        }
