"""From input files to output rows.

Owns what a unit of prediction is, the order and shape of output rows, and the writers. Refuses to know what a
score is and where a model was trained.

    inputs ─ units (document, text) ─ paragraphs or the text as it stands ─ TopicModel ─ rows ─ writer
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq

from duanti.corpus import FORMATS, checked_string, decode, file_format, read_rows, read_text
from duanti.errors import DataError, UsageError
from duanti.model import Prediction, TopicModel
from duanti.paragraphs import WITHOUT_TOPIC, Paragraph, split_paragraphs

UNITS = ("text", "paragraph")
OUTPUT_FORMATS = ("table", "jsonl", "csv", "parquet")
STDIN = "-"

# Units handed to the model at once.
_CHUNK = 2048

OutputRow = dict[str, Any]


class Labelled(NamedTuple):
    """An output row, and the text it speaks of."""

    row: OutputRow
    text: str


class Unit(NamedTuple):
    """One text to predict, and the document it belongs to. None is a text that is not there."""

    document: str
    text: str | None


class Input(NamedTuple):
    """One input: its place, whether it is a table of texts rather than a document, and its units."""

    place: str
    is_table: bool
    units: Callable[[], Iterator[Unit]]


def find_inputs(
    names: Iterable[str],
    *,
    text_column: str = "text",
    document_column: str = "document",
    encoding: str | None = None,
) -> list[Input]:
    """Return the inputs behind names: files, folders (every file in them, sorted), and ``-`` for stdin.

    Raises
    ------
    DataError
        when one is missing, or a folder holds nothing that can be read
    """
    inputs = []
    for name in names:
        for path in [name] if name == STDIN else _files(Path(name)):
            inputs.append(_input(path, text_column, document_column, encoding))
    return inputs


def predict_inputs(
    model: TopicModel, inputs: Iterable[Input], *, unit: str | None = None, top: int = 3
) -> Iterator[Labelled]:
    """Yield the output rows of inputs in order, with their texts.

    ``unit`` None: paragraphs for documents, the text as it stands for tables.
    """
    for source in inputs:
        default = "text" if source.is_table else "paragraph"
        yield from predict_units(model, source.units(), unit=unit or default, top=top)


def predict_units(model: TopicModel, units: Iterable[Unit], *, unit: str, top: int = 3) -> Iterator[Labelled]:
    """Yield the output rows of units in order, with their texts: one each for ``unit="text"``, else one per paragraph.

    ``paragraph`` counts from 0 within a document, over rows that follow each other with the same document.
    """
    waiting = iter(units)
    document, paragraph = None, 0
    while chunk := list(islice(waiting, _CHUNK)):
        pieces = [(name, piece) for name, text in chunk for piece in _pieces(text, unit)]
        texts = [piece.text if piece.kind not in WITHOUT_TOPIC else None for _, piece in pieces]
        for (name, piece), prediction in zip(pieces, model.predict(texts, top=top), strict=True):
            paragraph = paragraph + 1 if name == document else 0
            document = name
            yield Labelled(_output_row(name, paragraph, piece, prediction), piece.text)


def write_rows(rows: Iterable[OutputRow], output: str | None, output_format: str) -> int:
    """Write rows to a file, which appears only when it is complete, or to stdout. Returns how many.

    ``table`` is not written here: it is for eyes, and the command line draws it.

    Raises
    ------
    DataError
        when the file cannot be written
    """
    write = cast("Callable[[Iterable[OutputRow], IO[bytes]], int]", _WRITERS[output_format])
    if output is None:
        return write(rows, sys.stdout.buffer)
    with _whole_file(Path(output)) as file:
        return write(rows, file)


def output_format(requested: str | None, output: str | None, *, is_terminal: bool) -> str:
    """Return the format to write: the one asked for, else the output's ending's, else the table for eyes or JSON lines.

    Raises
    ------
    UsageError
        when the output's ending stands for no format
    """
    if requested is not None:
        if requested == "table" and output is not None:
            raise UsageError("--format table is for the terminal. Choose jsonl, csv or parquet for a file.")
        return requested
    if output is None:
        return "table" if is_terminal else "jsonl"
    kind = FORMATS.get(Path(output).suffix.lower())
    if kind not in OUTPUT_FORMATS:
        raise UsageError(
            f"{output}: cannot tell the format from its ending. Use .jsonl, .csv or .parquet, or --format."
        )
    return str(kind)


def _files(path: Path) -> list[str]:
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path}: no such file or folder.")
        return [str(path)]
    files = [str(file) for file in sorted(path.rglob("*")) if file.is_file() and not _is_hidden(file, path)]
    if not files:
        raise DataError(f"{path}: an empty folder.")
    return files


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _input(name: str, text_column: str, document_column: str, encoding: str | None) -> Input:
    if name == STDIN:
        return Input(name, False, lambda: iter([Unit(STDIN, decode(sys.stdin.buffer.read(), "stdin", encoding))]))
    path = Path(name)
    if file_format(path) == "text":
        stem = path.name.removesuffix(".gz").removesuffix(".zst").rpartition(".")[0]
        return Input(name, False, lambda: iter([Unit(stem, read_text(path, encoding))]))
    return Input(name, True, lambda: _table_units(path, text_column, document_column, encoding))


def _table_units(path: Path, text_column: str, document_column: str, encoding: str | None) -> Iterator[Unit]:
    rows = read_rows(path, (text_column,), (document_column,), encoding)
    for number, (place, values) in enumerate(rows):
        document = checked_string(place, document_column, values.get(document_column)) or str(number)
        yield Unit(document, checked_string(place, text_column, values.get(text_column)))


def _pieces(text: str | None, unit: str) -> list[Paragraph]:
    """The paragraphs of a text, or the text as it stands: one row then, even for no text."""
    whole = text or ""
    if unit == "paragraph":
        return split_paragraphs(whole)
    return [Paragraph(whole, 0, len(whole), "body")]


def _output_row(document: str, paragraph: int, piece: Paragraph, prediction: Prediction) -> OutputRow:
    return {
        "document": document,
        "paragraph": paragraph,
        "start": piece.start,
        "end": piece.end,
        "kind": piece.kind,
        "topic": prediction.topic,
        "probability": prediction.probability,
        "alternatives": [{"topic": other.topic, "probability": other.probability} for other in prediction.alternatives],
    }


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _write_jsonl(rows: Iterable[OutputRow], file: IO[bytes]) -> int:
    count = 0
    for row in rows:
        file.write(_json(row).encode() + b"\n")
        count += 1
    return count


def _write_csv(rows: Iterable[OutputRow], file: IO[bytes]) -> int:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_SCHEMA.names)
    count = 0
    for row in rows:
        writer.writerow([_json(value) if isinstance(value, list) else value for value in row.values()])
        count += 1
    text.detach()
    return count


_SCHEMA = pa.schema(
    [
        ("document", pa.string()),
        ("paragraph", pa.int64()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("kind", pa.string()),
        ("topic", pa.string()),
        ("probability", pa.float64()),
        ("alternatives", pa.list_(pa.struct([("topic", pa.string()), ("probability", pa.float64())]))),
    ]
)


def _write_parquet(rows: Iterable[OutputRow], file: IO[bytes]) -> int:
    count = 0
    waiting = iter(rows)
    with pq.ParquetWriter(pa.PythonFile(file, mode="w"), _SCHEMA) as writer:
        while chunk := list(islice(waiting, _CHUNK)):
            writer.write_table(pa.Table.from_pylist(chunk, schema=_SCHEMA))
            count += len(chunk)
    return count


_WRITERS: Mapping[str, object] = {"jsonl": _write_jsonl, "csv": _write_csv, "parquet": _write_parquet}


@contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes its name when the block ends well, and leaves nothing behind when it does not."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.absolute().parent)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}).") from None
    beside = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}).") from None
    finally:
        beside.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
