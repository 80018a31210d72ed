"""From blocks of inputs to output rows, as Arrow batches, in input order.

Owns what a unit of prediction is, the columns of an output row, and the threads that score blocks while others are
read and written. Refuses to know formats, what a score is, and where rows go.

    Source ─ Work ─ parse ─ label ─┐  in threads, several blocks at once
                                   └─ Numbering ─ Labelled  in input order: documents, paragraphs, rejects by number
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from duanti.arrow import as_numpy, numbers, string, strings
from duanti.drift import Profile
from duanti.errors import DataError
from duanti.model import Decisions, TopicModel
from duanti.paragraphs import WITHOUT_TOPIC, split_paragraphs
from duanti.readers import Block, ReadOptions, Reject, Source, Work
from duanti.segmentation import available_cores

UNITS = ("text", "paragraph")

_ALTERNATIVE = pa.struct([("topic", pa.string()), ("probability", pa.float64())])

#: The columns of an output row; kept columns follow.
SCHEMA = pa.schema(
    [
        ("document", pa.string()),
        ("paragraph", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("kind", pa.string()),
        ("topic", pa.string()),
        ("probability", pa.float64()),
        ("alternatives", pa.list_(_ALTERNATIVE)),
    ]
)


@dataclass(frozen=True)
class PredictOptions:
    """What a row of output is.

    ``unit`` "text": each text as it stands; "paragraph": each of its paragraphs; None: by what the input is.
    ``top`` topics are told per row. ``n_jobs`` None: all cores this process may use; the rows never depend on it.
    """

    unit: str | None = None
    top: int = 3
    n_jobs: int | None = None


class Labelled(NamedTuple):
    """The output rows of a block."""

    batch: pa.RecordBatch
    texts: Sequence[str] | pa.Array  # what each row speaks of
    rejects: Sequence[Reject]  # by their number in the input
    n_rows: int  # of the input, rejects too
    n_bytes: int
    reading: float  # seconds
    scoring: float


class Pieces(NamedTuple):
    """What is predicted of a block: texts as they stand, or their paragraphs."""

    rows: NDArray[np.int64]  # which of the block's texts each is of
    texts: Sequence[str] | pa.Array
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    kinds: pa.Array


def label_source(
    model: TopicModel,
    source: Source,
    reading: ReadOptions,
    options: PredictOptions,
) -> Iterator[Labelled]:
    """Yield the output rows of an input, block by block, in input order.

    Raises
    ------
    DataError
        when the input as a whole cannot be read
    """
    unit = options.unit or ("text" if source.is_table else "paragraph")
    numbering = Numbering(model.topics)
    n_jobs = options.n_jobs or available_cores()
    with ThreadPoolExecutor(n_jobs) as pool:
        under_way: deque[tuple[Work, Future[_Done]]] = deque()
        try:
            for work in source.blocks(reading):
                under_way.append((work, pool.submit(_parse_and_label, model, work, unit, options.top)))
                # One more than there are threads, so that none waits for what is read and written here.
                if len(under_way) > n_jobs + 1:
                    yield numbering.labelled(*_first(under_way))
            while under_way:
                yield numbering.labelled(*_first(under_way))
        finally:
            for _, waiting in under_way:
                waiting.cancel()


def profile_labelled(model: TopicModel, labelled: Iterable[Labelled], *, rows: int | None = None) -> Profile:
    """Count what a model makes of labelled texts, of the first ``rows`` or of all: what drift compares.

    Raises
    ------
    DataError
        when there is no text
    """
    import pyarrow.compute as pc

    profile, topics = Profile(model.topics, model.spaces), strings(model.topics).cast(pa.string())
    for part in labelled:
        numbered = pc.index_in(part.batch.column("topic"), value_set=topics).cast(pa.int64())
        chosen = as_numpy(pc.coalesce(numbered, numbers(np.full(1, -1))[0]))
        probabilities = as_numpy(pc.coalesce(part.batch.column("probability"), numbers(np.zeros(1))[0]))
        profile.add_predictions(chosen, probabilities)
        profile.add_terms(model.count_terms(part.texts))
        if rows is not None and profile.rows >= rows:
            break
    if not profile.rows:
        raise DataError("the input holds no text that can be used: nothing to compare.")
    return profile


class _Done(NamedTuple):
    block: Block
    pieces: Pieces
    decisions: Decisions
    reading: float
    scoring: float


def _parse_and_label(model: TopicModel, work: Work, unit: str, top: int) -> _Done:
    begin = time.perf_counter()
    block = work.parse()
    middle = time.perf_counter()
    pieces, decisions = label(model, block.texts, unit, top)
    return _Done(block, pieces, decisions, middle - begin, time.perf_counter() - middle)


def _first(under_way: deque[tuple[Work, Future[_Done]]]) -> tuple[int, _Done]:
    work, done = under_way.popleft()
    return work.n_bytes, done.result()


def label_texts(
    model: TopicModel, texts: Sequence[str | None], documents: Sequence[str], *, unit: str, top: int = 3
) -> pa.RecordBatch:
    """Return the output rows of texts, each with the document it stands in."""
    n = len(texts)
    block = Block(strings(texts), strings(documents), {}, np.arange(n), [], n, 0)
    batch, _ = Numbering(model.topics).number(block, *label(model, block.texts, unit, top))
    return batch


def label(model: TopicModel, texts: pa.Array, unit: str, top: int) -> tuple[Pieces, Decisions]:
    """Predict each text, or each of its paragraphs; null is a text without a topic."""
    pieces = _as_they_stand(texts) if unit == "text" else _paragraphs(texts)
    speaking = pieces.texts
    if unit == "paragraph":
        speaking = [
            "" if kind in WITHOUT_TOPIC else text
            for text, kind in zip(pieces.texts, pieces.kinds.to_pylist(), strict=True)
        ]
    return pieces, model.decide(speaking, top=top, n_jobs=1)


def _as_they_stand(texts: pa.Array) -> Pieces:
    lengths = _lengths(texts)
    kinds = pa.repeat(string("body"), len(texts))
    return Pieces(np.arange(len(texts)), texts, np.zeros(len(texts), np.int64), lengths, kinds)


def _lengths(texts: pa.Array) -> NDArray[np.int64]:
    """Characters of each text, none for null."""
    import pyarrow.compute as pc  # here, because a terminal starts faster without it

    lengths = pc.utf8_length(texts).cast(pa.int64())
    return as_numpy(pc.coalesce(lengths, numbers(np.zeros(1, np.int64))[0]))


def _paragraphs(texts: pa.Array) -> Pieces:
    split = [split_paragraphs(text or "") for text in texts.to_pylist()]
    pieces = [piece for paragraphs in split for piece in paragraphs]
    return Pieces(
        np.repeat(np.arange(len(split)), [len(paragraphs) for paragraphs in split]),
        [piece.text for piece in pieces],
        np.array([piece.start for piece in pieces], np.int64),
        np.array([piece.end for piece in pieces], np.int64),
        strings([piece.kind for piece in pieces]),
    )


@dataclass
class Numbering:
    """Gives the rows of one input, block after block, their documents and the numbers of their paragraphs.

    ``paragraph`` counts from 0 within a document, over rows that follow each other with the same document; a row
    that names none is a document of its own, called by its number.
    """

    topics: Sequence[str]
    n_rows: int = 0
    n_lines: int = 0
    _document: str | None = field(default=None)  # of the last row
    _paragraph: int = -1

    def labelled(self, n_bytes: int, done: _Done) -> Labelled:
        """What comes of the block that comes next."""
        batch, rejects = self.number(done.block, done.pieces, done.decisions)
        return Labelled(batch, done.pieces.texts, rejects, done.block.n_rows, n_bytes, done.reading, done.scoring)

    def number(self, block: Block, pieces: Pieces, decisions: Decisions) -> tuple[pa.RecordBatch, list[Reject]]:
        """Make the output rows of the block that comes next, and number those that cannot be used."""
        documents = self._documents(block, pieces.rows)
        paragraphs = self._paragraphs(documents, pieces.rows if block.are_documents else None)
        columns = [
            documents,
            numbers(paragraphs),
            numbers(pieces.starts),
            numbers(pieces.ends),
            pieces.kinds.cast(pa.string()),
            *_decided(self.topics, decisions),
        ]
        kept = {name: array.take(numbers(pieces.rows)) for name, array in block.kept.items()}
        batch = pa.RecordBatch.from_arrays([*columns, *kept.values()], [*SCHEMA.names, *kept])
        rejects = [
            reject._replace(
                row=self.n_rows + reject.row, line=None if reject.line is None else self.n_lines + reject.line + 1
            )
            for reject in block.rejects
        ]
        self.n_rows += block.n_rows
        self.n_lines += block.n_lines
        return batch, rejects

    def _documents(self, block: Block, rows: NDArray[np.int64]) -> pa.Array:
        import pyarrow.compute as pc

        numbered = numbers(self.n_rows + block.rows[rows]).cast(pa.string())
        if block.documents is None:
            return numbered
        named = block.documents.cast(pa.string()).take(numbers(rows))
        return pc.if_else(numbers(_lengths(named) > 0), named, numbered)

    def _paragraphs(self, documents: pa.Array, of_rows: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """Count from 0 where another document begins, or, where rows are documents, another row."""
        import pyarrow.compute as pc

        n = len(documents)
        if n == 0:
            return np.zeros(0, np.int64)
        places = np.arange(n)
        begins = np.ones(n, np.bool_)
        if of_rows is None:
            begins[1:] = as_numpy(pc.not_equal(documents.slice(1), documents.slice(0, n - 1)))
        else:
            begins[1:] = of_rows[1:] != of_rows[:-1]
        paragraphs = places - np.maximum.accumulate(np.where(begins, places, 0))
        if of_rows is None and documents[0].as_py() == self._document:
            first_run = int(np.argmax(begins[1:])) + 1 if begins[1:].any() else n
            paragraphs[:first_run] += self._paragraph + 1
        self._document, self._paragraph = documents[n - 1].as_py(), int(paragraphs[-1])
        return paragraphs


def _decided(topics: Sequence[str], decisions: Decisions) -> tuple[pa.Array, pa.Array, pa.Array]:
    """The columns topic, probability and alternatives."""
    known = decisions.known_terms > 0
    names = strings(topics).cast(pa.string())
    best = names.take(numbers(decisions.topics[:, 0], known))
    probability = numbers(decisions.probabilities[:, 0], known)
    others = names.take(numbers(decisions.topics[known, 1:].ravel()))
    values = pa.StructArray.from_arrays(
        [others, numbers(decisions.probabilities[known, 1:].ravel())], fields=list(_ALTERNATIVE)
    )
    offsets = np.concatenate([[0], np.cumsum(known * (decisions.topics.shape[1] - 1))]).astype(np.int32)
    return (
        best,
        probability,
        pa.ListArray.from_arrays(numbers(offsets), values, type=SCHEMA.field("alternatives").type),
    )
