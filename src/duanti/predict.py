"""From blocks of inputs to output rows, as Arrow batches, in input order.

Owns what a unit of prediction is, the columns of an output row, and the threads that work on blocks while others are
read and written. Refuses to know formats, how a topic is found, and where rows go.

    Source ─ Work ─ parse ─ score ─┐                                in threads, several blocks at once
                                   └─ number ─ whole documents ─┐   in input order: documents, paragraphs, rejects
                                                                └─ decide ─ Labelled   in threads again
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from duanti.arrow import as_numpy, numbers, string, strings
from duanti.drift import Profile
from duanti.errors import DataError
from duanti.model import Decisions, TopicModel
from duanti.paragraphs import WITHOUT_TOPIC
from duanti.readers import Block, ReadOptions, Reject, Source, Work
from duanti.segmentation import CodePoints, available_cores
from duanti.splitting import KINDS, split_texts
from duanti.summaries import SUMMARY_COLUMNS, with_summaries

_Result = TypeVar("_Result")

UNITS = ("text", "paragraph")

_ALTERNATIVE = pa.struct([("topic", pa.string()), ("probability", pa.float64())])

#: The columns of an output row.
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


#: Names that no kept column may have.
ROW_COLUMNS = (*SCHEMA.names, "topics", "topic_set", *(field.name for field in SUMMARY_COLUMNS))


def row_schema(model: TopicModel, *, summary: bool = False) -> pa.Schema:
    """Return the columns of an output row; kept columns follow.

    ``topics``, all that a text has, is there where it may have several; ``topic_set`` where the model gives sets; and
    with ``summary`` those of ``SUMMARY_COLUMNS``.
    """
    name = "topics" if model.is_multi_label else "topic_set" if model.gives_sets else None
    schema = SCHEMA.append(pa.field(name, pa.list_(pa.string()))) if name else SCHEMA
    return pa.schema([*schema, *SUMMARY_COLUMNS]) if summary else schema


@dataclass(frozen=True)
class PredictOptions:
    """What a row of output is.

    ``unit`` "text": each text as it stands; "paragraph": each of its paragraphs; None: by what the input is.
    ``top`` topics are told per row. ``context``: topics are decided in the context of the document, where the model
    knows how. ``summary``: each document gets a row of its own behind those of its paragraphs. ``n_jobs`` None: all
    cores this process may use; the rows never depend on it.
    """

    unit: str | None = None
    top: int = 3
    n_jobs: int | None = None
    context: bool = True
    summary: bool = False


class Labelled(NamedTuple):
    """Output rows, and what it took to make them."""

    batch: pa.RecordBatch
    texts: pa.LargeStringArray  # what each row speaks of
    rejects: Sequence[Reject]  # by their number in the input
    n_rows: int  # of the input, rejects too
    n_bytes: int
    reading: float  # seconds
    scoring: float
    in_document: NDArray[np.bool_]  # of each row but summaries: a paragraph of a document, or a text by itself


class Pieces(NamedTuple):
    """What is predicted of a block: texts as they stand, or their paragraphs."""

    rows: NDArray[np.int64]  # which of the block's texts each is of
    texts: pa.LargeStringArray
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    kinds: pa.Array


# Paragraphs of one document that are decided together: more than any has, and no more than memory bears.
_LONGEST_DOCUMENT = 1 << 18


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
    n_jobs = options.n_jobs or available_cores()
    with ThreadPoolExecutor(n_jobs) as pool:
        work = (partial(_parse_and_score, model, work, unit) for work in source.blocks(reading))
        parts: Iterator[_Part] = map(Numbering(is_split=unit == "paragraph").number, _in_order(pool, work, n_jobs + 1))
        if options.summary or (options.context and model.context is not None):
            parts = _whole_documents(parts)
        yield from _in_order(pool, (partial(_decide, model, part, options) for part in parts), n_jobs + 1)


def _in_order(
    pool: ThreadPoolExecutor, work: Iterable[Callable[[], _Result]], most_under_way: int
) -> Iterator[_Result]:
    """Do work in threads, and yield the results in order; little is begun before it is needed."""
    under_way: deque[Future[_Result]] = deque()
    try:
        for task in work:
            under_way.append(pool.submit(task))
            if len(under_way) > most_under_way:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for waiting in under_way:
            waiting.cancel()


def label_texts(
    model: TopicModel,
    texts: Sequence[str | None],
    documents: Sequence[str | None],
    options: PredictOptions,
) -> pa.RecordBatch:
    """Return the output rows of texts, each with the document it stands in; None: one of its own."""
    block = Block(strings(texts), strings(documents), {}, np.arange(len(texts)), [], len(texts), 0)
    unit = options.unit or "text"
    scored = _Scored(block, *_score(model, block.texts, unit), 0, 0.0, 0.0)
    return _decide(model, Numbering(is_split=unit == "paragraph").number(scored), options).batch


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


class _Scored(NamedTuple):
    """A block whose pieces have scores, but neither numbers nor topics yet."""

    block: Block
    pieces: Pieces
    scores: NDArray[np.float64]  # (n_pieces, n_topics)
    known_terms: NDArray[np.int64]
    n_bytes: int
    reading: float
    scoring: float


def _parse_and_score(model: TopicModel, work: Work, unit: str) -> _Scored:
    begin = time.perf_counter()
    block = work.parse()
    middle = time.perf_counter()
    pieces, scores, known_terms = _score(model, block.texts, unit)
    return _Scored(block, pieces, scores, known_terms, work.n_bytes, middle - begin, time.perf_counter() - middle)


def _score(
    model: TopicModel, texts: pa.LargeStringArray, unit: str
) -> tuple[Pieces, NDArray[np.float64], NDArray[np.int64]]:
    """Score each text, or each of its paragraphs; those of kinds without topic know no term."""
    if unit == "text":
        pieces = _as_they_stand(texts)
        return pieces, *model.score(pieces.texts, n_jobs=1)
    pieces, speaking = _paragraphs(texts)
    return pieces, *model.score(speaking, n_jobs=1)


def _as_they_stand(texts: pa.LargeStringArray) -> Pieces:
    kinds = pa.repeat(string("body"), len(texts))
    return Pieces(np.arange(len(texts)), texts, np.zeros(len(texts), np.int64), _lengths(texts), kinds)


def _lengths(texts: pa.Array) -> NDArray[np.int64]:
    """Characters of each text, none for null."""
    import pyarrow.compute as pc  # here, because a terminal starts faster without it

    lengths = pc.utf8_length(texts).cast(pa.int64())
    return as_numpy(pc.coalesce(lengths, numbers(np.zeros(1, np.int64))[0]))


def _paragraphs(texts: pa.LargeStringArray) -> tuple[Pieces, CodePoints]:
    """The paragraphs of texts, and what each says about the matter."""
    batch = CodePoints.of(texts)
    lines = split_texts(*batch)
    kinds = strings(KINDS).take(numbers(lines.kinds))
    firsts = batch.offsets[lines.texts]
    pieces = Pieces(
        lines.texts, batch.strings(lines.begins, lines.ends), lines.begins - firsts, lines.ends - firsts, kinds
    )
    silent = np.isin(lines.kinds, [KINDS.index(kind) for kind in WITHOUT_TOPIC])
    return pieces, batch.narrowed(lines.begins, np.where(silent, lines.begins, lines.ends))


class _Part(NamedTuple):
    """Rows that know where they stand in the input."""

    columns: tuple[pa.Array, ...]  # document, paragraph, start, end, kind, text, and what is kept
    kept: tuple[str, ...]  # names of the last
    paragraphs: NDArray[np.int64]  # as in columns
    in_document: NDArray[np.bool_]  # whether a row is a paragraph of a document, rather than a text by itself
    scores: NDArray[np.float64]
    known_terms: NDArray[np.int64]
    may_go_on: bool  # whether the next part may begin with paragraphs of the last document
    rejects: Sequence[Reject]
    n_rows: int
    n_bytes: int
    reading: float
    scoring: float

    def slice(self, begin: int, end: int) -> _Part:
        """Some of the rows; what else came with all of them goes with the first."""
        rows = np.s_[begin:end]
        part = self._replace(
            columns=tuple(column.slice(begin, end - begin) for column in self.columns),
            paragraphs=self.paragraphs[rows],
            in_document=self.in_document[rows],
            scores=self.scores[rows],
            known_terms=self.known_terms[rows],
        )
        return part if begin == 0 else part._replace(rejects=[], n_rows=0, n_bytes=0, reading=0.0, scoring=0.0)

    def joined(self, following: _Part) -> _Part:
        """These rows and those of the next part."""
        columns = zip(self.columns, following.columns, strict=True)
        return _Part(
            tuple(pa.concat_arrays(pair) for pair in columns),
            self.kept,
            np.concatenate([self.paragraphs, following.paragraphs]),
            np.concatenate([self.in_document, following.in_document]),
            np.concatenate([self.scores, following.scores]),
            np.concatenate([self.known_terms, following.known_terms]),
            following.may_go_on,
            [*self.rejects, *following.rejects],
            self.n_rows + following.n_rows,
            self.n_bytes + following.n_bytes,
            self.reading + following.reading,
            self.scoring + following.scoring,
        )


def _whole_documents(parts: Iterable[_Part]) -> Iterator[_Part]:
    """Move the beginning of a document to the part that has its end."""
    waiting: _Part | None = None
    for part in parts:
        together = part if waiting is None else waiting.joined(part)
        waiting = None
        if together.may_go_on and len(together.paragraphs):
            last = int(np.flatnonzero(_begins(together))[-1])
            waiting = together.slice(last, len(together.paragraphs)) if last else together
            together = together.slice(0, last)
            if not last:
                continue
        yield together
    if waiting is not None:
        yield waiting


def _begins(part: _Part) -> NDArray[np.bool_]:
    """Where documents begin, or pieces of one that is longer than any."""
    begins: NDArray[np.bool_] = part.paragraphs % _LONGEST_DOCUMENT == 0
    return begins


@dataclass
class Numbering:
    """Gives the rows of one input, block after block, their documents and the numbers of their paragraphs.

    ``paragraph`` counts from 0 within a document, over rows that follow each other with the same document; a row
    that names none is a document of its own, called by its number. ``is_split``: rows are paragraphs of texts.
    """

    is_split: bool = False
    n_rows: int = 0
    n_lines: int = 0
    _document: str | None = field(default=None)  # of the last row
    _paragraph: int = -1

    def number(self, scored: _Scored) -> _Part:
        """Number the rows of the block that comes next, and those that cannot be used."""
        block, pieces = scored.block, scored.pieces
        documents, named = self._documents(block, pieces.rows)
        paragraphs = self._paragraphs(documents, pieces.rows if block.are_documents else None)
        kept = {name: array.take(numbers(pieces.rows)) for name, array in block.kept.items()}
        columns = (
            documents,
            numbers(paragraphs),
            numbers(pieces.starts),
            numbers(pieces.ends),
            pieces.kinds.cast(pa.string()),
            pieces.texts,
            *kept.values(),
        )
        rejects = [
            reject._replace(
                row=self.n_rows + reject.row, line=None if reject.line is None else self.n_lines + reject.line + 1
            )
            for reject in block.rejects
        ]
        self.n_rows += block.n_rows
        self.n_lines += block.n_lines
        return _Part(
            columns=columns,
            kept=tuple(kept),
            paragraphs=paragraphs,
            in_document=named | self.is_split,
            scores=scored.scores,
            known_terms=scored.known_terms,
            may_go_on=block.documents is not None and not block.are_documents,
            rejects=rejects,
            n_rows=block.n_rows,
            n_bytes=scored.n_bytes,
            reading=scored.reading,
            scoring=scored.scoring,
        )

    def _documents(self, block: Block, rows: NDArray[np.int64]) -> tuple[pa.Array, NDArray[np.bool_]]:
        """The document of each row, and whether the row names it."""
        import pyarrow.compute as pc

        numbered = numbers(self.n_rows + block.rows[rows]).cast(pa.string())
        if block.documents is None:
            return numbered, np.zeros(len(rows), np.bool_)
        given = block.documents.cast(pa.string()).take(numbers(rows))
        named = _lengths(given) > 0
        return pc.if_else(numbers(named), given, numbered), named

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


def _decide(model: TopicModel, part: _Part, options: PredictOptions) -> Labelled:
    """Make the output rows of a part."""
    begin = time.perf_counter()
    documents = np.flatnonzero(_begins(part))
    decisions = model.decide_scores(
        part.scores,
        part.known_terms,
        top=options.top,
        documents=documents if options.context else None,
        in_document=part.in_document,
    )
    *place, texts = part.columns[:6]
    columns = [*place, *_decided(model.topics, decisions), *part.columns[6:]]
    batch = pa.RecordBatch.from_arrays(columns, [*row_schema(model).names, *part.kept])
    if options.summary:
        batch, texts = with_summaries(batch, texts, documents)
    seconds = part.scoring + time.perf_counter() - begin
    costs = (part.n_rows, part.n_bytes, part.reading, seconds)
    return Labelled(batch, texts, part.rejects, *costs, part.in_document)


def _decided(topics: Sequence[str], decisions: Decisions) -> Iterator[pa.Array]:
    """The columns topic, probability, alternatives, and topics or topic_set where there are such."""
    decided = decisions.topics[:, 0] >= 0
    names = strings(topics).cast(pa.string())
    yield names.take(numbers(decisions.topics[:, 0], decided))
    yield numbers(decisions.probabilities[:, 0], decided)
    are_others = decisions.topics[:, 1:] >= 0
    others = names.take(numbers(decisions.topics[:, 1:][are_others]))
    probabilities = numbers(decisions.probabilities[:, 1:][are_others])
    alternatives = pa.StructArray.from_arrays([others, probabilities], fields=list(_ALTERNATIVE))
    yield _lists(are_others.sum(axis=1), alternatives)
    if decisions.told is not None:
        are_told = np.arange(decisions.topics.shape[1]) < decisions.told[:, None]
        yield _lists(decisions.told, names.take(numbers(decisions.topics[are_told])))
    if decisions.sets is not None:
        yield _lists(decisions.sets.sum(axis=1), names.take(numbers(np.nonzero(decisions.sets)[1])))


def _lists(lengths: NDArray[np.int64], values: pa.Array) -> pa.ListArray:
    """Lists of these lengths, of values one after the other."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(numbers(offsets), values, type=pa.list_(values.type))
