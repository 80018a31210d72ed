"""Arrow batches into JSON lines, CSV or Parquet, without a Python object per row.

Owns how each kind of value is written. Refuses to know what the columns mean, and what happens to a file that is not
finished.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from duanti.arrow import as_numpy, numbers, string, strings

#: The formats that can be written, each with its file name ending.
OUTPUT_ENDINGS = {"jsonl": ".jsonl", "csv": ".csv", "tsv": ".tsv", "parquet": ".parquet"}

# Rows in a group of a Parquet file: readers skip and parallelise by group.
_GROUP_ROWS = 1 << 17
_NULL = string("null")


class Writer(Protocol):
    """Takes batches of one schema."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write the rows of a batch."""

    def close(self) -> None:
        """Write what is still to be written; the file stays open."""


@contextmanager
def writing(kind: str, file: IO[bytes], schema: pa.Schema) -> Iterator[Writer]:
    """A writer of this format into a file, closed at the end."""
    if kind == "parquet":
        writer: Writer = _ParquetWriter(file, schema)
    elif kind == "jsonl":
        writer = _JsonWriter(file)
    else:
        writer = _DelimitedWriter(file, schema, "\t" if kind == "tsv" else ",")
    yield writer
    writer.close()


def write_batches(kind: str, file: IO[bytes], schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write all batches."""
    with writing(kind, file, schema) as writer:
        for batch in batches:
            writer.write(batch)


class _JsonWriter:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, batch: pa.RecordBatch) -> None:
        parts: list[Any] = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            parts.append(("{" if not parts else ", ") + _json(name) + ": ")
            parts.append(as_json(column))
        self._file.write(_characters(_joined(*parts, "}\n")))

    def close(self) -> None:
        pass


class _DelimitedWriter:
    def __init__(self, file: IO[bytes], schema: pa.Schema, delimiter: str) -> None:
        self._schema = pa.schema([(field.name, _flat(field.type)) for field in schema])
        # The header is ours: pyarrow puts quotes around every name.
        header = io.StringIO()
        csv.writer(header, delimiter=delimiter, lineterminator="\n").writerow(schema.names)
        file.write(header.getvalue().encode())
        options = pacsv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style="needed")
        self._writer = pacsv.CSVWriter(file, self._schema, write_options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        columns = [
            column.cast(_flat(column.type)) if _is_flat(column.type) else as_json(column) for column in batch.columns
        ]
        columns = [column.cast(field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


class _ParquetWriter:
    def __init__(self, file: IO[bytes], schema: pa.Schema) -> None:
        self._schema = schema
        # Numbers hardly repeat, and names of documents do so in a row only: a dictionary of them takes time and room.
        repeating = [
            leaf for field in schema if field.name != "document" for leaf in _string_leaves(field.name, field.type)
        ]
        self._writer = pq.ParquetWriter(
            pa.PythonFile(file, mode="w"), schema, compression="zstd", use_dictionary=repeating or False
        )
        self._waiting: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        columns = [column.cast(field.type) for column, field in zip(batch.columns, self._schema, strict=True)]
        self._waiting.append(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        if sum(len(waiting) for waiting in self._waiting) >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting), row_group_size=2 * _GROUP_ROWS)
            self._waiting = []


def as_json(array: pa.Array) -> pa.LargeStringArray:
    """Return each value as JSON: what is JSON already as it stands, NaN as null, a date as a string."""
    kind = array.type
    if isinstance(kind, pa.JsonType):
        return pc.coalesce(array.storage, _NULL)
    if pa.types.is_dictionary(kind):
        array, kind = array.dictionary_decode(), kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        texts = array.cast(pa.large_string())
    elif pa.types.is_floating(kind):
        texts = pc.if_else(pc.is_finite(array), array, pa.nulls(1, kind)[0]).cast(pa.large_string())
    elif kind in (pa.string(), pa.large_string(), pa.string_view()):
        texts = _quoted(array.cast(pa.large_string()))
    elif pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        texts = _list(array, _objects(array.flatten()))
    elif pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        texts = _list(array, as_json(array.flatten()))
    else:
        texts = strings([_json(value) for value in array.to_pylist()])
    return pc.coalesce(texts.cast(pa.large_string()), _NULL)


def _objects(structs: pa.StructArray) -> pa.Array:
    """Each struct as a JSON object."""
    parts: list[Any] = []
    for field in structs.type:
        parts.append(("{" if not parts else ", ") + _json(field.name) + ": ")
        parts.append(as_json(pc.struct_field(structs, field.name)))
    return _joined(*parts, "}")


def _list(array: pa.ListArray, written: pa.Array) -> pa.Array:
    """Each list as JSON; ``written`` are the values of all, one after the other."""
    lengths = as_numpy(pc.coalesce(pc.list_value_length(array), numbers(np.zeros(1, np.int32))[0]))
    offsets = numbers(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, written.cast(pa.string()))
    joined = _joined("[", pc.binary_join(lists, string(", ").cast(pa.string())), "]")
    return pc.if_else(array.is_null(), pa.nulls(1, joined.type)[0], joined)


def _quoted(texts: pa.LargeStringArray) -> pa.Array:
    """Strings with quotes around them, and what JSON must have escaped."""
    data = np.frombuffer(_characters(texts), np.uint8)
    control = data < 32
    if control.any():
        return strings([None if text is None else _json(text) for text in texts.to_pylist()])
    for mark in ("\\", '"'):
        if (data == ord(mark)).any():
            texts = pc.replace_substring(texts, mark, "\\" + mark)
    return _joined('"', texts, '"')


def _joined(*parts: Any) -> pa.Array:
    """The parts of each row, one after the other; null if one is."""
    arrays = [string(part) if isinstance(part, str) else part.cast(pa.large_string()) for part in parts]
    return pc.binary_join_element_wise(*arrays, string(""))


def _characters(texts: pa.LargeStringArray) -> Any:
    """The bytes of all strings, one after the other."""
    _, offsets, data = texts.buffers()
    if data is None or len(texts) == 0:
        return b""
    bounds = np.frombuffer(offsets, np.int64)[[texts.offset, texts.offset + len(texts)]]
    return memoryview(data)[bounds[0] : bounds[1]]


def _string_leaves(name: str, kind: pa.DataType) -> Iterator[str]:
    """The columns of Parquet that hold strings of a column of Arrow."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _string_leaves(f"{name}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _string_leaves(f"{name}.{field.name}", field.type)
    elif pa.types.is_dictionary(kind) or kind in (pa.string(), pa.large_string(), pa.string_view()):
        yield name


def _is_flat(kind: pa.DataType) -> bool:
    """Whether CSV has a way to write it."""
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _flat(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _flat(kind.value_type)
    return kind if _is_flat(kind) and kind != pa.string_view() else pa.large_string()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
