"""Inputs of any size, block by block: files, folders and stdin, as Arrow columns and as rows that cannot be used.

Owns how inputs are found, cut into blocks of a few megabytes, decoded and parsed, and why a row is rejected: one bad
row never takes another with it. Refuses to know models and what is written.

    path ─ Source ─ blocks() ─ parse functions, one per block: cheap to make, to be called in any thread ─ Block

A block's numbers of rows and lines count from its own beginning, because only who reads in order knows the rest.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from duanti.arrow import large_strings, numbers, strings
from duanti.corpus import FORMATS, check_columns, decode, file_format, logger, looks_like_utf8, string_fault, type_name
from duanti.errors import DataError
from duanti.text_tables import (
    ABSENT,
    BAD_QUOTE,
    ESCAPED,
    INTEGER,
    NULL,
    OTHER,
    PLAIN,
    SOUND,
    TOO_LONG,
    UNCLOSED,
    Cells,
    Records,
    cell_strings,
    scan_delimited,
    scan_json,
)

STDIN = "-"

#: The type of kept columns that are JSON as it stood in the input.
JSON = pa.json_(pa.large_string())

# Enough to forget the calls, few enough for several blocks to be under way in little memory.
_BLOCK_BYTES = 1 << 22
_BLOCK_FILES = 256
_WIDEST_CHARACTER = 6  # bytes of one as JSON may write it
_DELIMITERS = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True)
class ReadOptions:
    """What is wanted of the rows of a table.

    ``keep`` are columns to hand through; ``raw_json`` hands those of JSON lines through as they are written.
    ``max_chars`` is the longest text, in characters. ``encoding`` None: UTF-8, or GB18030 when the bytes are that.
    """

    text_column: str = "text"
    document_column: str = "document"
    keep: tuple[str, ...] = ()
    encoding: str | None = None
    max_chars: int = 10_000_000
    raw_json: bool = False


class Reject(NamedTuple):
    """A row that cannot be used. ``line`` is of text formats, ``file`` where it is not the source's place."""

    row: int
    line: int | None
    reason: str
    file: str | None = None


class Block(NamedTuple):
    """The usable rows of a part of an input, and the others."""

    texts: pa.LargeStringArray  # null where a row has none
    documents: pa.LargeStringArray | None  # null where a row names none; None where no row does
    kept: Mapping[str, pa.Array]
    rows: NDArray[np.int64]  # number of each usable row
    rejects: Sequence[Reject]
    n_rows: int  # in all
    n_lines: int  # in all; 0 for formats without lines
    are_documents: bool = False  # whether each row is a document of its own, whatever it is called


class Work(NamedTuple):
    """A block to be parsed."""

    parse: Callable[[], Block]
    n_bytes: int  # that reading it took from the input


@dataclass(frozen=True)
class Source:
    """One input: a table, or a document, or many documents of a folder."""

    place: str
    name: str  # the file's, or its path in the folder that was given
    kind: str  # jsonl, csv, tsv, parquet or text
    paths: tuple[Path, ...]  # none for stdin

    @property
    def is_table(self) -> bool:
        """Whether its rows are texts, rather than its files documents."""
        return self.kind != "text"

    @property
    def is_stream(self) -> bool:
        """Whether it can be read but once: stdin, a pipe."""
        return not self.paths or any(path.exists() and not path.is_file() for path in self.paths)

    @property
    def n_bytes(self) -> int | None:
        """Size on disk, None when nobody knows."""
        try:
            return None if self.is_stream else sum(path.stat().st_size for path in self.paths)
        except OSError:
            return None

    def blocks(self, options: ReadOptions) -> Iterator[Work]:
        """Cut the input into blocks, in order.

        Raises
        ------
        DataError
            when the input as a whole cannot be read, or lacks a required column
        """
        if self.kind == "parquet":
            return _parquet_blocks(self.paths[0], options)
        if self.kind == "jsonl":
            return _json_blocks(self, options)
        if self.kind == "text":
            return _document_blocks(self, options)
        return _delimited_blocks(self, _DELIMITERS[self.kind], options)

    def column_types(self, options: ReadOptions) -> dict[str, pa.DataType]:
        """Return the types of the kept columns: those of Parquet; text formats have only strings."""
        if self.kind != "parquet":
            return dict.fromkeys(options.keep, pa.large_string())
        with _sound_parquet(self.paths[0]), pq.ParquetFile(self.paths[0]) as file:
            check_columns(self.place, file.schema_arrow.names, options.keep)
            return {name: file.schema_arrow.field(name).type for name in options.keep}


def find_sources(names: Iterable[str], input_format: str | None = None) -> list[Source]:
    """Return the inputs behind names: files, folders (every file in them, sorted), and ``-`` for stdin.

    Documents that follow each other in one folder are one source.

    Raises
    ------
    DataError
        when one is missing, or a folder holds nothing that can be read
    """
    sources: list[Source] = []
    for name in names:
        if name == STDIN:
            if input_format == "parquet":
                raise DataError("stdin cannot be Parquet, whose end must be read first. Name a file.")
            sources.append(Source(STDIN, STDIN, input_format or "text", ()))
            continue
        folder = Path(name)
        documents = []
        for path in _files(folder):
            kind = input_format or file_format(path)
            if kind == "text":
                documents.append(path)
            else:
                sources.append(Source(str(path), _name(path, folder), kind, (path,)))
        if documents:
            sources.append(Source(name, folder.name, "text", tuple(documents)))
    return sources


def one_by_one(source: Source) -> list[Source]:
    """Return a source for each document of a folder; any other as it is."""
    if source.is_table or not source.paths:
        return [source]
    root = Path(source.place)
    return [Source(str(path), _name(path, root), source.kind, (path,)) for path in source.paths]


def _name(path: Path, given: Path) -> str:
    return path.name if path == given else str(path.relative_to(given))


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise DataError(f"{path}: no such file or folder.")
        return [path]
    files = [file for file in sorted(path.rglob("*")) if file.is_file() and not _is_hidden(file, path)]
    if not files:
        raise DataError(f"{path}: an empty folder.")
    return files


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


# Bytes


class _Bytes:
    """The bytes of a file or of stdin, decompressed, in chunks; knows how far it has read."""

    def __init__(self, path: Path | None) -> None:
        self.place = "stdin" if path is None else str(path)
        self._path = path
        self._raw: IO[bytes] | None = None
        self._told = 0

    def chunks(self) -> Iterator[bytes]:
        with _sound_stream(self.place):
            self._raw = sys.stdin.buffer if self._path is None else self._path.open("rb")
            try:
                file = self._decompressed(self._raw)
                while chunk := file.read(_BLOCK_BYTES):
                    yield bytes(chunk)
            finally:
                if self._path is not None:
                    self._raw.close()

    def n_bytes(self) -> int:
        """How many bytes were taken from the file since this was last asked."""
        if self._raw is None or self._path is None or self._raw.closed or not self._raw.seekable():
            return 0
        told, self._told = self._told, self._raw.tell()
        return self._told - told

    def _decompressed(self, raw: IO[bytes]) -> Any:
        ending = "" if self._path is None else self._path.suffix.lower()
        if ending == ".gz":
            return gzip.GzipFile(fileobj=raw)
        if ending == ".zst":
            return pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
        return raw


@contextmanager
def _sound_stream(place: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{place}: no such file.") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{place}: damaged or cut short ({error}).") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{place}: cannot be read ({getattr(error, 'strerror', None) or error}).") from None


def _utf8(chunks: Iterable[bytes], place: str, encoding: str | None) -> Iterator[bytes]:
    """The same text in UTF-8. What cannot be decoded becomes bytes that are no UTF-8 either: its row is rejected."""
    decoder: codecs.IncrementalDecoder | None = None
    at_start = True
    for chunk in chunks:
        if encoding is None and not chunk.isascii():
            encoding = _guess(chunk)
            if encoding != "utf-8":
                logger.warning("%s: not UTF-8, read as GB18030. Declare the encoding if that is wrong.", place)
        if decoder is None and encoding is not None and codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
            decoder = codecs.getincrementaldecoder(encoding)(errors="surrogateescape")
        text = chunk if decoder is None else decoder.decode(chunk).encode("utf-8", "surrogatepass")
        yield text.removeprefix(codecs.BOM_UTF8) if at_start else text
        at_start = False
    if decoder is not None:
        yield decoder.decode(b"", final=True).encode("utf-8", "surrogatepass")


def check_encoding(encoding: str | None) -> None:
    """Refuse an encoding that Python does not know.

    Raises
    ------
    DataError
        naming it
    """
    try:
        if encoding is not None:
            codecs.getincrementaldecoder(encoding)
            "".encode(encoding)
    except LookupError:
        raise DataError(f"unknown encoding {encoding!r}. Use utf-8 or gb18030.") from None


def _guess(chunk: bytes) -> str:
    """Tell UTF-8 from GB18030 by the first bytes that are not ASCII."""
    for name in ("utf-8", "gb18030"):
        with suppress(UnicodeDecodeError):
            codecs.getincrementaldecoder(name)().decode(chunk)
            return name
        if looks_like_utf8(chunk):
            break
    return "utf-8"


def _is_utf8(data: bytes) -> bool:
    try:
        large_strings(np.array([0, len(data)], np.int64), data, np.ones(1, np.bool_)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _undecodable(data: bytes, begins: Iterable[int], ends: Iterable[int]) -> dict[int, str]:
    """Why rows are no UTF-8, by their number."""
    faults = {}
    if not _is_utf8(data):
        for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            try:
                data[begin:end].decode()
            except UnicodeDecodeError as error:
                faults[row] = f"byte {data[begin + error.start]:#04x} cannot be decoded"
    return faults


# Columns


def _block(
    texts: pa.Array,
    documents: pa.Array | None,
    kept: Mapping[str, pa.Array],
    lines: NDArray[np.int64] | None,
    faults: dict[int, str],
    n_lines: int,
    options: ReadOptions,
) -> Block:
    """Set apart the rows that cannot be used."""
    named = {options.text_column: texts} | ({} if documents is None else {options.document_column: documents})
    for column, array in named.items():
        _find_faults(column, array, faults, options.max_chars)
    rows = np.arange(len(texts))
    if faults:
        rows = np.delete(rows, list(faults))
        chosen = numbers(rows)
        texts, documents = texts.take(chosen), None if documents is None else documents.take(chosen)
        kept = {name: array.take(chosen) for name, array in kept.items()}
    n_rows = len(rows) + len(faults)
    rejects = [Reject(row, None if lines is None else int(lines[row]), faults[row]) for row in sorted(faults)]
    return Block(texts, documents, kept, rows, rejects, n_rows, n_lines)


def _find_faults(column: str, array: pa.LargeStringArray, faults: dict[int, str], max_chars: int) -> None:
    """Add the rows whose cell holds a NUL or is too long."""
    _, offset_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    nuls = offsets[0] + np.flatnonzero(data[offsets[0] : offsets[-1]] == 0)
    for row in np.unique(np.searchsorted(offsets, nuls, side="right") - 1).tolist():
        faults.setdefault(row, f"{column!r} holds a NUL character")
    for row in np.flatnonzero(np.diff(offsets) > max_chars).tolist():
        if len(array[row].as_py()) > max_chars:
            faults.setdefault(row, _too_long(f"{column!r} has", max_chars))


def _too_long(what: str, max_chars: int) -> str:
    return f"{what} more than {max_chars:,} characters (--max-chars)"


def _too_many_bytes(what: str, longest: int) -> str:
    return f"a {what} of more than {longest:,} bytes (--max-chars)"


def _nothing(n_lines: int) -> Block:
    """A block without rows."""
    return Block(strings([]), None, {}, np.zeros(0, np.int64), [], 0, n_lines)


def _rejected(n_lines: int, reason: str) -> Block:
    """A block of one row that cannot be used."""
    return _nothing(n_lines)._replace(rejects=[Reject(0, 0, reason)], n_rows=1)


# JSON lines


def _json_blocks(source: Source, options: ReadOptions) -> Iterator[Work]:
    stream = _Bytes(source.paths[0] if source.paths else None)
    longest = _WIDEST_CHARACTER * options.max_chars
    pending: list[bytes] = []
    skipping = False
    for chunk in _utf8(stream.chunks(), stream.place, options.encoding):
        cut = chunk.rfind(b"\n") + 1
        if skipping:
            if not cut:
                continue
            chunk, skipping = chunk[chunk.index(b"\n") + 1 :], False
            cut = chunk.rfind(b"\n") + 1
        pending.append(chunk[:cut] if cut else chunk)
        if cut:
            yield Work(partial(_parse_json, b"".join(pending), options), stream.n_bytes())
            pending = [chunk[cut:]]
        elif sum(map(len, pending)) > longest:
            # Of a line like this nothing is kept, not even while its end is looked for.
            yield Work(partial(_rejected, 1, _too_many_bytes("line", longest)), stream.n_bytes())
            pending, skipping = [], True
    if any(pending):
        yield Work(partial(_parse_json, b"".join(pending), options), stream.n_bytes())


def _parse_json(block: bytes, options: ReadOptions) -> Block:
    names = list(dict.fromkeys((options.text_column, options.document_column, *options.keep)))
    found = scan_json(block, names)
    faults = _undecodable(block, found.begins.tolist(), found.ends.tolist())
    longest = _WIDEST_CHARACTER * options.max_chars
    for row in np.flatnonzero(found.ends - found.begins > longest).tolist():
        faults[row] = _too_many_bytes("line", longest)
    kinds = found.cells.kinds
    usual = found.plain & np.isin(kinds[:, 0], (NULL, PLAIN, ESCAPED, INTEGER)) & (kinds[:, 1] != OTHER)
    judged: dict[int, dict[str, Any]] = {}
    for row in np.flatnonzero(~usual).tolist():
        if row not in faults:
            answer = _judge(block[found.begins[row] : found.ends[row]].decode(), options)
            if isinstance(answer, str):
                faults[row] = answer
            else:
                judged[row] = answer
    block, cells = _with_values(block, found.cells, names, judged, options)
    columns = {name: cell_strings(block, cells, number) for number, name in enumerate(names[:2])}
    kept = {name: cell_strings(block, cells, names.index(name), raw=options.raw_json) for name in options.keep}
    if options.raw_json:
        kept = {name: pa.ExtensionArray.from_storage(JSON, array) for name, array in kept.items()}
    documents = columns.get(options.document_column) if (kinds[:, names.index(options.document_column)]).any() else None
    return _block(columns[options.text_column], documents, kept, found.numbers, faults, block.count(b"\n"), options)


def _judge(line: str, options: ReadOptions) -> dict[str, Any] | str:
    """Read a line that is out of the ordinary: its object, or why it cannot be used."""
    try:
        values = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # also a number of more digits than Python reads
        return f"not valid JSON ({error})"
    if not isinstance(values, dict):
        return f'{type_name(values)}, not an object. A row looks like {{"{options.text_column}": "..."}}'
    try:
        check_columns("", list(values), (options.text_column,))
    except DataError as error:
        return str(error).removeprefix(": ").removesuffix(".")
    for column in (options.text_column, options.document_column):
        fault = string_fault(column, values.get(column))
        if fault is not None:
            return fault
    return values


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _with_values(
    block: bytes, cells: Cells, names: Sequence[str], judged: Mapping[int, dict[str, Any]], options: ReadOptions
) -> tuple[bytes, Cells]:
    """Put the values of judged rows behind the block, where the cells can point at them."""
    if not judged:
        return block, cells
    behind = io.BytesIO()
    for row, values in judged.items():
        for column, name in enumerate(names):
            value = values.get(name)
            is_text = column < 2 or (isinstance(value, str) and not options.raw_json)
            written = _utf8_of(str(value) if is_text else _json(value))
            begin = len(block) + behind.tell()
            behind.write(written)
            cells.begins[row, column], cells.ends[row, column] = begin, begin + len(written)
            kind = ABSENT if name not in values else NULL if value is None else INTEGER if is_text else OTHER
            cells.kinds[row, column] = kind
    return block + behind.getvalue(), cells


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if string_fault("", text) is None else json.dumps(value)


def _utf8_of(text: str) -> bytes:
    """Half characters, which kept columns may hold, as the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


# CSV


def _delimited_blocks(source: Source, delimiter: str, options: ReadOptions) -> Iterator[Work]:
    stream = _Bytes(source.paths[0] if source.paths else None)
    longest = _WIDEST_CHARACTER * options.max_chars
    header: _Header | None = None
    pending, skipping = b"", False
    chunks = _utf8(stream.chunks(), stream.place, options.encoding)
    for chunk, at_end in chain(((chunk, False) for chunk in chunks), [(b"", True)]):
        if skipping:
            cut = chunk.find(b"\n") + 1
            chunk, skipping = chunk[cut:], not cut
        pending += chunk if not skipping else b""
        if header is None:
            header = _read_header(pending, delimiter, longest, stream.place, options, at_end=at_end)
            if header is None:
                continue
            pending = pending[header.n_bytes :]
            yield Work(partial(_nothing, header.n_lines), stream.n_bytes())
        records = scan_delimited(pending, delimiter, header.columns, longest, at_end=at_end)
        if records.consumed:
            block, pending = pending[: records.consumed], pending[records.consumed :]
            yield Work(partial(_parse_records, block, records, header, options), stream.n_bytes())
        elif len(pending) > 2 * longest:
            # Of a row like this nothing is kept, not even while its end is looked for.
            yield Work(partial(_rejected, 1, _too_many_bytes("row", 2 * longest)), stream.n_bytes())
            pending, skipping = b"", True


class _Header(NamedTuple):
    """The first record of a table."""

    names: list[str]
    columns: list[int]  # numbers of the text's, the document's and the kept columns; -1: not there
    n_bytes: int
    n_lines: int


def _read_header(
    data: bytes, delimiter: str, longest: int, place: str, options: ReadOptions, *, at_end: bool
) -> _Header | None:
    """Read the names of the columns, None when there is more to come."""
    found = scan_delimited(data, delimiter, [], longest, at_end=at_end)
    if not len(found.begins):
        if at_end or len(data) > 2 * longest:
            raise DataError(f"{place}: holds no header. The first line names the columns.")
        return None
    begin, end = int(found.begins[0]), int(found.ends[0])
    here = f"{place}, line {found.lines[0] + 1}"
    if found.faults[0] != SOUND:
        raise DataError(f"{here}: {_FAULTS[int(found.faults[0])]}. This line names the columns.")
    try:
        names = next(csv.reader(io.StringIO(data[begin:end].decode(), newline=""), delimiter=delimiter, strict=True))
    except UnicodeDecodeError as error:
        raise DataError(f"{here}: byte {data[begin + error.start]:#04x} cannot be decoded.") from None
    if len(set(names)) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise DataError(f"{here}: the column {twice!r} stands there twice. Rename one of them.")
    check_columns(here, names, (options.text_column, *options.keep))
    number = {name: column for column, name in enumerate(names)}
    columns = [number.get(name, -1) for name in (options.text_column, options.document_column, *options.keep)]
    n_lines = scan_delimited(data[:end], delimiter, [], longest, at_end=True).n_lines
    return _Header(names, columns, end, n_lines)


_FAULTS = {
    BAD_QUOTE: "not valid CSV (after a quote that ends a cell stands neither a delimiter nor a line end)",
    UNCLOSED: "not valid CSV (a quote is never closed)",
    TOO_LONG: "a cell is too long (--max-chars)",
}


def _parse_records(block: bytes, found: Records, header: _Header, options: ReadOptions) -> Block:
    faults = _undecodable(block, found.begins.tolist(), found.ends.tolist())
    for row in np.flatnonzero(found.faults != SOUND).tolist():
        faults[row] = _FAULTS[int(found.faults[row])]
    for row in np.flatnonzero(found.widths != len(header.names)).tolist():
        what = f"{found.widths[row]:,} cells where the header has {len(header.names):,}. Is a quote missing?"
        faults.setdefault(row, what)
    texts, documents, *kept = (cell_strings(block, found.cells, column) for column in range(len(header.columns)))
    return _block(
        texts,
        documents if header.columns[1] >= 0 else None,
        dict(zip(options.keep, kept, strict=True)),
        found.lines,
        faults,
        found.n_lines,
        options,
    )


# Parquet


@contextmanager
def _sound_parquet(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a sound Parquet file ({str(error).splitlines()[0]}).") from None


def _parquet_blocks(path: Path, options: ReadOptions) -> Iterator[Work]:
    # Pages as they are needed: reading ahead takes all of the file into memory.
    with _sound_parquet(path), pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        schema = file.schema_arrow
        check_columns(str(path), schema.names, (options.text_column, *options.keep))
        names = [options.text_column, *([options.document_column] if options.document_column in schema.names else [])]
        for name in names:
            _check_is_text(path, schema.field(name))
        wanted = list(dict.fromkeys((*names, *options.keep)))
        rows_at_once = _rows_at_once(file, wanted)
        n_bytes, n_rows = path.stat().st_size, max(file.metadata.num_rows, 1)
        for batch in file.iter_batches(batch_size=rows_at_once, columns=wanted, use_threads=False):
            yield Work(partial(_parse_batch, batch, options), n_bytes * batch.num_rows // n_rows)


def _check_is_text(path: Path, field: pa.Field) -> None:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if kind not in (pa.string(), pa.large_string(), pa.string_view(), pa.null()) and not pa.types.is_integer(kind):
        raise DataError(f"{path}: column {field.name!r} holds {field.type}, not strings.")


def _rows_at_once(file: pq.ParquetFile, names: Sequence[str]) -> int:
    """How many rows take about as much memory as a block of text."""
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    n_bytes = sum(
        group.column(column).total_uncompressed_size
        for group in groups
        for column in range(group.num_columns)
        if group.column(column).path_in_schema.partition(".")[0] in names
    )
    return int(min(max(_BLOCK_BYTES * file.metadata.num_rows // max(n_bytes, 1), 64), 1 << 16))


def _parse_batch(batch: pa.RecordBatch, options: ReadOptions) -> Block:
    faults: dict[int, str] = {}
    columns = {name: sound_strings(name, batch.column(name), faults) for name in batch.schema.names}
    texts = _as_strings(columns[options.text_column])
    documents = columns.get(options.document_column)
    kept = {name: columns[name] for name in options.keep}
    return _block(texts, None if documents is None else _as_strings(documents), kept, None, faults, 0, options)


def sound_strings(name: str, array: pa.Array, faults: dict[int, str]) -> pa.Array:
    """The array, with null where a string is no UTF-8; Parquet's reader lets that through."""
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        cells = []
        for row, cell in enumerate(array.cast(pa.large_binary()).to_pylist()):
            try:
                cells.append(None if cell is None else cell.decode())
            except UnicodeDecodeError as error:
                faults.setdefault(row, f"{name!r} holds byte {cell[error.start]:#04x}, which cannot be decoded")
                cells.append(None)
        return strings(cells)
    return array


def _as_strings(array: pa.Array) -> pa.LargeStringArray:
    return array.cast(pa.large_string())


# Documents


def _document_blocks(source: Source, options: ReadOptions) -> Iterator[Work]:
    """Every file a document: one row each."""
    if not source.paths:
        data = b"".join(_limited(_Bytes(None).chunks(), _WIDEST_CHARACTER * options.max_chars))
        yield Work(partial(_parse_documents, [(STDIN, "stdin", lambda: data)], options), len(data))
    group: list[Path] = []
    n_bytes = 0
    for path in source.paths:
        size = path.stat().st_size if path.exists() else 0
        if group and (n_bytes + size > _BLOCK_BYTES or len(group) == _BLOCK_FILES):
            yield Work(partial(_parse_files, group, options), n_bytes)
            group, n_bytes = [], 0
        group.append(path)
        n_bytes += size
    if group:
        yield Work(partial(_parse_files, group, options), n_bytes)


def _parse_files(paths: Sequence[Path], options: ReadOptions) -> Block:
    longest = _WIDEST_CHARACTER * options.max_chars
    return _parse_documents(
        [
            (_stem(path), str(path), lambda path=path: b"".join(_limited(_Bytes(path).chunks(), longest)))  # type: ignore[misc]
            for path in paths
        ],
        options,
    )


def _parse_documents(files: Sequence[tuple[str, str, Callable[[], bytes]]], options: ReadOptions) -> Block:
    names, texts, faults = [], [], {}
    for row, (name, place, read) in enumerate(files):
        text = None
        try:
            text = decode(read(), place, options.encoding)
        except DataError as error:
            faults[row] = str(error).removeprefix(place).lstrip(":, ").removesuffix(".")
        names.append(name)
        texts.append(text)
    block = _block(strings(texts), strings(names), {}, None, faults, 0, options)
    rejects = [reject._replace(file=files[reject.row][1]) for reject in block.rejects]
    return block._replace(rejects=rejects, are_documents=True)


def _limited(chunks: Iterable[bytes], longest: int) -> Iterator[bytes]:
    """The chunks, until it is plain that the text is too long whatever follows."""
    n_bytes = 0
    for chunk in chunks:
        yield chunk
        n_bytes += len(chunk)
        if n_bytes > longest:
            return


def _stem(path: Path) -> str:
    name = path.name
    for ending in (".gz", ".zst"):
        name = name.removesuffix(ending)
    return Path(name).stem if Path(name).suffix.lower() in FORMATS else name
