"""Rows on disk: strict decoding, the table formats, labelled corpora, splits by document.

Owns the way from a file to rows of strings, with the place (file and line) of whatever is wrong with one, and
``Corpus``: texts, their topics and the documents they stand in. Refuses to know words, models and runs.

A row of a multi-label corpus has any number of topics: a list in JSON and Parquet, ``甲|乙`` in a cell of CSV, several
``__label__`` in fastText. In a ``Corpus`` they are one string whatever the format, names in order with ``|`` between.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import logging
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from duanti.errors import DataError

logger = logging.getLogger(__name__)

#: File name endings (before .gz or .zst) and the format they stand for.
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
    ".fasttext": "text",
}
_COMPRESSED = (".gz", ".zst")
_LABEL = "__label__"
#: Between the topics of a row that may have several.
SEPARATOR = "|"
# What to do about a row of several topics, where it may have one.
_SEVERAL = "set multi_label: true (duanti check: --multi-label)"
_UNDECODED = re.compile("[\udc80-\udcff]")  # what "surrogateescape" makes of bytes


class Row(NamedTuple):
    """One row of a table: where it stands, and its values by column (None where it has none)."""

    place: str
    values: dict[str, Any]


class Fault(NamedTuple):
    """What stands in the place of a row that cannot be used: where, and why."""

    place: str
    what: str

    def error(self) -> DataError:
        """The same, to be raised."""
        return DataError(f"{self.place}: {self.what}")


class _LabelledRow(NamedTuple):
    """One row of a corpus, its cells sound."""

    place: str
    text: str
    topic: str
    document: str | None


@dataclass(frozen=True)
class Corpus:
    """Labelled texts, in file order.

    Parameters
    ----------
    name
        the file or folder name without its endings
    texts, topics
        one string each per row
    documents
        the document each row stands in; None for a row that is a document of its own
    multi_label
        whether a row may have several topics or none: then its string is that of ``join_topics``
    """

    name: str
    texts: Sequence[str]
    topics: Sequence[str]
    documents: Sequence[str | None]
    multi_label: bool = False

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def topic_sets(self) -> Sequence[tuple[str, ...]]:
        """The topics of each row: just one, unless the corpus is multi-label."""
        if self.multi_label:
            return [tuple(topics.split(SEPARATOR)) if topics else () for topics in self.topics]
        return [(topic,) for topic in self.topics]

    @cached_property
    def topic_counts(self) -> dict[str, int]:
        """Rows per topic, topics sorted by code point."""
        counts = Counter(chain.from_iterable(self.topic_sets))
        return {topic: counts[topic] for topic in sorted(counts)}

    @cached_property
    def groups(self) -> list[int]:
        """Number of the document each row stands in, counted from 0 in order of appearance."""
        numbers: dict[str, int] = {}
        groups = []
        alone = 0
        for document in self.documents:
            if document is None:
                groups.append(len(numbers) + alone)
                alone += 1
            else:
                if document not in numbers:
                    numbers[document] = len(numbers) + alone
                groups.append(numbers[document])
        return groups

    @cached_property
    def units(self) -> list[list[int]]:
        """Rows that never stand on two sides of a split: a document, or identical texts that stand in none."""
        of_documents = zip(self.texts, self.documents, self.groups, strict=True)
        return _rows_by(text if document is None else group for text, document, group in of_documents)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, the same whatever the file format.

        Each document's rows count in their order; the order of the documents does not, because a folder of
        files has none.
        """
        documents: dict[int, Any] = {}
        for text, topic, document, group in zip(self.texts, self.topics, self.documents, self.groups, strict=True):
            if group not in documents:
                documents[group] = hashlib.sha256(_framed(document or ""))
            documents[group].update(_framed(topic) + _framed(text))
        return hashlib.sha256(b"".join(sorted(state.digest() for state in documents.values()))).hexdigest()

    def select(self, rows: Iterable[int]) -> Corpus:
        """Return the corpus of these rows, in the order given."""
        chosen = list(rows)
        return replace(
            self,
            texts=[self.texts[row] for row in chosen],
            topics=[self.topics[row] for row in chosen],
            documents=[self.documents[row] for row in chosen],
        )

    def split(self, share: float, seed: int) -> tuple[Corpus, Corpus]:
        """Hold out about ``share`` (0..1) of the rows of every topic, by whole documents and without copies.

        Returns the corpus that remains and the one held out.
        """
        side = self.assign((1 - share, share), seed)
        held_out = [row for row, part in enumerate(side) if part == 1]
        if not held_out or len(held_out) == len(self):
            raise DataError(
                f"{self.name}: holding out {share:g} of {len(self.units)} documents leaves one side empty. "
                "Give more documents, another share, or a file to test on."
            )
        return self.select(row for row, part in enumerate(side) if part == 0), self.select(held_out)

    def folds(self, n_folds: int, seed: int, *, copies_together: bool = True) -> list[int]:
        """Return each row's fold (0..n_folds-1): whole ``units``, topics spread as evenly as that allows."""
        return self.assign((1.0,) * n_folds, seed, copies_together=copies_together)

    def assign(self, capacities: Sequence[float], seed: int, *, copies_together: bool = True) -> list[int]:
        """Deal ``units`` to parts of these relative capacities, and return each row's part.

        Unless ``copies_together``, only documents stay whole: to tell how much it helps a model to know copies.

        Large ones are dealt first, equal ones in an order drawn from ``seed``; each goes to the part that has,
        measured by its capacity, the least of its topics.
        """
        order = self.units.copy() if copies_together else _rows_by(self.groups)
        Random(seed).shuffle(order)
        order.sort(key=len, reverse=True)
        held: list[dict[str, float]] = [dict.fromkeys(self.topic_counts, 0.0) for _ in capacities]
        filled = [0.0] * len(capacities)
        part_of_row = [0] * len(self)
        for rows in order:
            topics = [topic for row in rows for topic in self.topic_sets[row]]
            part = min(
                range(len(capacities)),
                key=lambda p: (
                    sum((held[p][t] + 1) / self.topic_counts[t] for t in topics) / capacities[p],
                    filled[p] / capacities[p],
                ),
            )
            filled[part] += len(rows)
            for topic in topics:
                held[part][topic] += 1
            for row in rows:
                part_of_row[row] = part
        return part_of_row


@dataclass(frozen=True)
class Scan:
    """A labelled corpus read to its end: the rows that can be used, where each stands, and what is wrong elsewhere."""

    corpus: Corpus
    places: Sequence[str]
    faults: Sequence[Fault]


def read_corpus(
    path: str | Path,
    *,
    text: str = "text",
    topic: str = "topic",
    document: str = "document",
    encoding: str | None = None,
    multi_label: bool = False,
) -> Corpus:
    """Read a labelled corpus: JSON lines, CSV, TSV, Parquet, fastText lines, or a folder per topic.

    Files may be compressed (.gz, .zst). ``text``, ``topic`` and ``document`` name the columns; ``document`` may
    be absent. ``encoding`` is of the text formats; None means UTF-8, with or without BOM, or GB18030 when the
    bytes are that (which is then logged). ``multi_label``: a row may have several topics or none.

    Raises
    ------
    DataError
        naming file and line, when anything is missing, undecodable, empty or of the wrong type
    """
    return _scan(Path(path), (text, topic, document), encoding, multi_label, strict=True).corpus


def read_corpora(
    train: str | Path, test: str | Path | float | None, seed: int, **columns: Any
) -> tuple[Corpus, Corpus | None]:
    """Read the corpus to train on and the one to test on: another file, a share (0..1) held out, or none.

    ``columns`` are the keywords of ``read_corpus``; ``seed`` decides what is held out.

    Raises
    ------
    DataError
        as ``read_corpus`` and ``Corpus.split`` do
    """
    training = read_corpus(train, **columns)
    if isinstance(test, float):
        return training.split(test, seed)
    return training, read_corpus(test, **columns) if test else None


def scan_corpus(
    path: str | Path,
    *,
    text: str = "text",
    topic: str = "topic",
    document: str = "document",
    encoding: str | None = None,
    multi_label: bool = False,
) -> Scan:
    """Read a labelled corpus as ``read_corpus`` does, but list what is wrong with it instead of stopping there.

    A byte that cannot be decoded is the fault of its row alone.

    Raises
    ------
    DataError
        when the file is missing, of no known format, or has no row that can be used
    """
    return _scan(Path(path), (text, topic, document), encoding, multi_label, strict=False)


def join_topics(topics: Iterable[str]) -> str:
    """Return the topics of a row as one string: each once, in order, ``|`` between; empty for none.

    >>> join_topics(["财经", "体育", "财经"])
    '体育|财经'
    """
    return SEPARATOR.join(sorted(set(topics)))


def _scan(path: Path, columns: tuple[str, str, str], encoding: str | None, multi_label: bool, *, strict: bool) -> Scan:
    if path.is_dir() or file_format(path) == "text":
        columns = ("text", "topic", "document")
    rows: list[_LabelledRow] = []
    faults: list[Fault] = []
    for entry in _entries(path, columns, encoding, multi_label, strict=strict):
        row = _labelled(entry, columns, multi_label)
        if isinstance(row, _LabelledRow):
            rows.append(row)
        elif strict:
            raise row.error()
        else:
            faults.append(row)
    if not rows:
        nothing = Fault(str(path), "holds no rows. Each row needs a text and a topic.")
        raise (faults or [nothing])[0].error()
    places, texts, topics, documents = map(list, zip(*rows, strict=True))
    return Scan(Corpus(_stem(path), texts, topics, documents, multi_label), places, faults)


def _entries(
    path: Path, columns: tuple[str, str, str], encoding: str | None, multi_label: bool, *, strict: bool
) -> Iterator[Row | Fault]:
    """What a file or folder holds, row by row, with only the columns asked for where the format can tell them apart.

    Raises
    ------
    DataError
        when the file is missing, cannot be parsed as a whole, lacks a required column, or, if ``strict``, cannot be
        decoded
    """
    kind = "folder" if path.is_dir() else file_format(path)
    required = columns[:2]
    if kind == "folder":
        yield from _folder_rows(path, encoding, strict=strict)
    elif kind == "parquet":
        yield from _parquet_rows(path, required, columns[2:])
    elif kind == "jsonl":
        yield from _json_rows(str(path), read_text(path, encoding, strict=strict), required)
    elif kind in ("csv", "tsv"):
        delimiter = "," if kind == "csv" else "\t"
        yield from _delimited_rows(str(path), read_text(path, encoding, strict=strict), delimiter, required)
    else:
        yield from _fasttext_rows(str(path), read_text(path, encoding, strict=strict), multi_label)


def _labelled(entry: Row | Fault, columns: tuple[str, str, str], multi_label: bool) -> _LabelledRow | Fault:
    """The row with its cells as strings, or the fault of the first that cannot be one, or is empty."""
    if isinstance(entry, Fault):
        return entry
    text, topic, document = (entry.values.get(column) for column in columns)
    if isinstance(topic, list) and not multi_label:
        return Fault(entry.place, f"{columns[1]!r} is a list, not a string. For several topics per row, {_SEVERAL}.")
    topics = _listed(topic) if multi_label else [topic]
    cells = [(columns[0], text, True), *((columns[1], each, True) for each in topics), (columns[2], document, False)]
    for column, value, required in cells:
        fault = _cell_fault(column, value, required=required)
        if fault is not None:
            return Fault(entry.place, fault)
    if multi_label and any(SEPARATOR in str(each) for each in topics):
        return Fault(entry.place, f"{columns[1]!r} has {SEPARATOR!r} in a name, where it stands between names.")
    told = join_topics(map(str, topics)) if multi_label else str(topic)
    return _LabelledRow(entry.place, str(text), told, None if document in (None, "") else str(document))


def _listed(topics: Any) -> list[Any]:
    """The topics of a row that may have several: a list as it stands, a string cut at each ``|``, none of nothing."""
    if isinstance(topics, str):
        return [name.strip() for name in topics.split(SEPARATOR)] if topics.strip() else []
    return topics if isinstance(topics, list) else [] if topics is None else [topics]


def _cell_fault(column: str, value: Any, *, required: bool) -> str | None:
    """Why a cell cannot be a string, or is empty where it must not be; None when it is sound."""
    fault = string_fault(column, value)
    if fault is not None:
        undecoded = isinstance(value, str) and _UNDECODED.search(value)
        return f"{column!r} holds bytes that are no text." if undecoded else f"{fault}."
    if required and not ("" if value is None else str(value)).strip():
        return f"{column!r} is empty. Give it a value or remove the row."
    return None


def file_format(path: Path) -> str:
    """Return the format a file's name stands for: jsonl, csv, tsv, parquet or text.

    Raises
    ------
    DataError
        for an ending that stands for none
    """
    kind = _known_format(path)
    if kind is None:
        raise DataError(f"{path}: cannot tell its format. Known endings: {', '.join(FORMATS)} (also .gz, .zst).")
    return kind


def _known_format(path: Path) -> str | None:
    endings = [ending.lower() for ending in path.suffixes[-2:]]
    if endings and endings[-1] in _COMPRESSED:
        endings.pop()
    return FORMATS.get(endings[-1]) if endings else None


def read_text(path: Path, encoding: str | None = None, *, strict: bool = True) -> str:
    """Return the decoded content of a file, line ends as they are.

    Without ``strict``, bytes that cannot be decoded become lone surrogates, and NUL characters stay.
    """
    data = _read_bytes(path)
    try:
        return decode(data, str(path), encoding)
    except DataError as fault:
        if strict:
            raise
        name = encoding or ("utf-8" if looks_like_utf8(data) else "gb18030")
        try:
            return data.decode(name, "surrogateescape").removeprefix("\ufeff")
        except (LookupError, ValueError):  # no encoding of that name, or one that cannot skip a byte
            raise fault from None


def decode(data: bytes, place: str, encoding: str | None = None) -> str:
    """Decode strictly: by the encoding given, else UTF-8, else GB18030 when the bytes are plainly that.

    Raises
    ------
    DataError
        naming the line of the first byte that cannot be decoded, or of a NUL character
    """
    for name in (encoding,) if encoding else ("utf-8-sig", "gb18030"):
        try:
            text = data.decode(name)
        except (LookupError, ValueError) as error:
            if isinstance(error, UnicodeDecodeError):
                fault = error
                if name == "utf-8-sig" and looks_like_utf8(data):
                    break
                continue
            raise DataError(f"{place}: unknown encoding {name!r}. Use utf-8 or gb18030.") from None
        if name == "gb18030" and not encoding:
            logger.warning("%s: not UTF-8, read as GB18030. Declare the encoding if that is wrong.", place)
        if "\0" in text:
            line = text.count("\n", 0, text.index("\0")) + 1
            raise DataError(f"{place}, line {line}: a NUL character. Is this a text file, in UTF-8 or GB18030?")
        return text.removeprefix("\ufeff")
    line = data.count(b"\n", 0, fault.start) + 1
    raise DataError(
        f"{place}, line {line}: byte {data[fault.start]:#04x} is not valid {encoding or 'UTF-8'}. "
        "Mend the file, or declare its encoding."
    )


def string_fault(column: str, value: Any) -> str | None:
    """Return why a cell cannot be a string, None when it can."""
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return None
    if not isinstance(value, str):
        return f"{column!r} is {type_name(value)}, not a string"
    if "\0" in value:
        return f"{column!r} holds a NUL character"
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return f"{column!r} holds a lone surrogate, which is no character"
    return None


def _rows_by(keys: Iterable[int | str]) -> list[list[int]]:
    """The rows of each key, in order of appearance."""
    rows: dict[int | str, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return list(rows.values())


def _framed(value: str) -> bytes:
    data = value.encode()
    return len(data).to_bytes(8, "little") + data


def _stem(path: Path) -> str:
    name = path.resolve().name
    for ending in (*_COMPRESSED, *FORMATS):
        name = name.removesuffix(ending)
    return name


def type_name(value: Any) -> str:
    """Return what to call the type of a JSON value."""
    names = {bool: "true or false", float: "a number with a fraction", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            return gzip.decompress(data)
        if path.suffix.lower() == ".zst":
            return bytes(pa.CompressedInputStream(pa.BufferReader(data), "zstd").read())
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or cut short ({error}).") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from None
    return data


def looks_like_utf8(data: bytes) -> bool:
    """Whether most non-ASCII bytes are three-byte UTF-8 Han, so that a fault is a fault and not GB18030."""
    han = sum(map(len, re.findall(rb"[\xe3-\xe9][\x80-\xbf][\x80-\xbf]", data)))
    return han * 2 > len(data) - len(data.translate(None, bytes(range(128, 256))))


def check_columns(place: str, present: Sequence[str], required: Sequence[str]) -> None:
    """Refuse a table, or a row, that lacks a column.

    Raises
    ------
    DataError
        naming what is missing and what there is
    """
    missing = missing_column(present, required)
    if missing is not None:
        raise Fault(place, missing).error()


def missing_column(present: Sequence[str], required: Sequence[str]) -> str | None:
    """Return which column is missing, and what there is; None when all are there."""
    for column in required:
        if column not in present:
            near = get_close_matches(column, present[:1000], 1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            names = ", ".join(map(repr, present[:20])) or "none"
            more = f" and {len(present) - 20:,} more" if len(present) > 20 else ""
            return f"no column {column!r}; it has {names}{more}.{hint}"
    return None


def _json_rows(place: str, text: str, required: Sequence[str]) -> Iterator[Row | Fault]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        here = f"{place}, line {number}"
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
            yield Fault(here, f"not valid JSON ({error}).")
            continue
        if not isinstance(values, dict):
            yield Fault(here, f'{type_name(values)}, not an object. A row looks like {{"text": "..."}}.')
            continue
        missing = missing_column(list(values), required)
        yield Row(here, values) if missing is None else Fault(here, missing)


def _delimited_rows(place: str, text: str, delimiter: str, required: Sequence[str]) -> Iterator[Row | Fault]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for cells in reader:
            here = f"{place}, line {start}"
            start = reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = cells
                if len(set(header)) < len(header):
                    twice = next(name for name in header if header.count(name) > 1)
                    raise DataError(f"{here}: the column {twice!r} stands there twice. Rename one of them.")
                check_columns(here, header, required)
            elif len(cells) != len(header):
                yield Fault(here, f"{len(cells)} cells where the header has {len(header)}. Is a quote missing?")
            else:
                yield Row(here, dict(zip(header, cells, strict=True)))
    except csv.Error as error:
        yield Fault(f"{place}, line {start}", f"not valid CSV ({error}).")


def _fasttext_rows(place: str, text: str, multi_label: bool) -> Iterator[Row | Fault]:
    for number, line in enumerate(text.split("\n"), 1):
        rest = line.removesuffix("\r")
        if not rest.strip():
            continue
        here, topics = f"{place}, line {number}", []
        while rest.startswith(_LABEL):
            label, _, rest = rest.partition(" ")
            topics.append(label.removeprefix(_LABEL))
        if multi_label:
            yield Row(here, {"text": rest, "topic": topics})
        elif not topics:
            yield Fault(here, f"does not begin with {_LABEL}TOPIC and a space (fastText's format).")
        elif len(topics) > 1:
            yield Fault(here, f"more than one topic. Keep one {_LABEL} per line, or {_SEVERAL}.")
        else:
            yield Row(here, {"text": rest, "topic": topics[0]})


def _parquet_rows(path: Path, required: Sequence[str], optional: Sequence[str]) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            check_columns(str(path), names, required)
            row = 0
            for batch in file.iter_batches(columns=[name for name in (*required, *optional) if name in names]):
                batch.validate(full=True)
                for values in batch.to_pylist():
                    yield Row(f"{path}, row {row}", values)
                    row += 1
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a sound Parquet file ({str(error).splitlines()[0]}).") from None


def _folder_rows(folder: Path, encoding: str | None, *, strict: bool) -> Iterator[Row | Fault]:
    """A folder per topic, a .txt file per text; the line end that closes a file is not part of its text."""
    topics = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    for topic in topics:
        if not topic.is_dir():
            yield Fault(str(topic), "a file between the topic folders. Move it away, or name one file as the corpus.")
            continue
        for file in sorted(entry for entry in topic.iterdir() if not entry.name.startswith(".")):
            if not file.is_file() or _known_format(file) != "text":
                yield Fault(str(file), "not a .txt file. In a folder per topic, each text is one .txt file.")
                continue
            try:
                text = read_text(file, encoding, strict=strict)
            except DataError as error:
                if strict:
                    raise
                yield Fault(str(file), str(error).removeprefix(f"{file}: "))
                continue
            yield Row(str(file), {"text": text.removesuffix("\n").removesuffix("\r"), "topic": topic.name})
