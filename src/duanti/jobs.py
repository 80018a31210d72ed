"""Batch jobs: inputs to a file or a folder of parts, exactly once, whatever happens in between.

Owns what is on disk while a job runs and after it died: parts that are whole or not there, the ledger of those that
are finished, the lock, the rejects, the progress and the account at the end. Refuses to know how a text becomes a row.

    OUTPUT                       a file, or a folder with one part for each input, under the input's name
    OUTPUT.rejects.jsonl         rows that could not be used: file, row, line, reason
    OUTPUT/.duanti/              for a file: .NAME.duanti/ beside it, gone when the file is there
      lock                       held while a job runs; the kernel lets go of it when the process dies
      ledger.jsonl               what the job is, and a line for each finished part, each on disk before the next begins
      parts/, rejects/, new/     finished parts of a single file; rejects by part; what is being written

A part is written in new/, flushed to disk, renamed to its place, and then entered. Whatever is not entered is
written again, to the same bytes.

An engine is what does the parts that are not finished, anywhere and in any order: ``do_part`` for each. Everything
else is here, whichever engine it is.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import IO, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from duanti import __version__
from duanti.errors import DataError, UsageError
from duanti.model import TopicModel
from duanti.predict import Labelled, PredictOptions, label_source
from duanti.progress import Progress
from duanti.readers import STDIN, ReadOptions, Reject, Source, one_by_one
from duanti.summaries import DOCUMENT, SUMMARY_COLUMNS
from duanti.writers import OUTPUT_ENDINGS, write_batches, writing


@dataclass(frozen=True)
class Job:
    """What is to be done. ``bundle`` is the digest of the model's bundle, ``columns`` its ``predict.row_schema``."""

    sources: Sequence[Source]
    output: Path
    is_folder: bool
    kind: str  # jsonl, csv, tsv or parquet
    bundle: str
    columns: pa.Schema
    reading: ReadOptions
    options: PredictOptions
    strict: bool = False
    restart: bool = False

    @property
    def rejects(self) -> Path:
        """Where rows that cannot be used are named."""
        return self.output.with_name(f"{self.output.name}.rejects.jsonl")


STAGES = ("reading", "scoring", "writing")


@dataclass
class Account:
    """What became of rows: ``rows`` read are ``labelled`` or ``rejected``."""

    rows: int = 0
    labelled: int = 0
    rejected: int = 0
    output_rows: int = 0
    without_topic: int = 0
    probability_sum: float = 0.0
    topics: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))  # over all threads

    def add(self, part: Labelled) -> None:
        """Count a block; rows that sum up documents are none of its paragraphs."""
        batch = part.batch
        if SUMMARY_COLUMNS[0].name in batch.schema.names:
            batch = batch.filter(pc.not_equal(batch.column("kind"), DOCUMENT))
        column = batch.column("topic")
        # Where a text may have several, each counts.
        told = batch.column("topics").flatten() if "topics" in batch.schema.names else column
        for entry in told.value_counts().to_pylist():
            if entry["values"] is not None:
                self._count(entry["values"], entry["counts"])
        self.rows += part.n_rows
        self.rejected += len(part.rejects)
        self.labelled += part.n_rows - len(part.rejects)
        self.output_rows += batch.num_rows
        self.without_topic += column.null_count
        self.probability_sum += pc.sum(batch.column("probability")).as_py() or 0.0
        self.seconds["reading"] += part.reading
        self.seconds["scoring"] += part.scoring

    def join(self, other: Mapping[str, Any]) -> None:
        """Count what an earlier account, as it is in a ledger, has."""
        for name in ("rows", "labelled", "rejected", "output_rows", "without_topic", "probability_sum"):
            setattr(self, name, getattr(self, name) + other[name])
        for topic, rows in other["topics"].items():
            self._count(topic, rows)
        for stage, seconds in other["seconds"].items():
            self.seconds[stage] += seconds

    def _count(self, topic: str, rows: int) -> None:
        self.topics[topic] = self.topics.get(topic, 0) + rows

    def as_report(self) -> dict[str, Any]:
        """The account for machines: counts, shares of topics, mean confidence."""
        with_topic = self.output_rows - self.without_topic
        return {
            "rows": {"read": self.rows, "labelled": self.labelled, "rejected": self.rejected},
            "output_rows": self.output_rows,
            "topics": {
                topic: {"rows": count, "share": count / self.output_rows}
                for topic, count in sorted(self.topics.items())
            },
            "without_topic": {
                "rows": self.without_topic,
                "share": self.without_topic / self.output_rows if self.output_rows else 0.0,
            },
            "mean_probability": self.probability_sum / with_topic if with_topic else None,
            "seconds": {stage: round(seconds, 3) for stage, seconds in sorted(self.seconds.items())},
        }


@dataclass(frozen=True)
class Workshop:
    """Where a job works. ``new`` is this run's own, so that what a dead run left running can put nothing in place."""

    folder: Path
    new: Path


#: A finished part, as it is entered in the ledger.
Entry = dict[str, Any]
Engine = Callable[[Job, Workshop, Mapping[str, Source]], Generator[Entry, None, None]]


def run_job(model: TopicModel, job: Job, progress: Progress) -> Account:
    """Do a job in this process, or what an earlier run of it left to do.

    Raises
    ------
    DataError
        when an input cannot be read or an output cannot be written, when another run writes the same output, when
        the job is not the one that was begun here, and, with ``strict``, at the first row that cannot be used
    """
    return carry_out(job, partial(_one_after_the_other, model, progress))


def carry_out(job: Job, engine: Engine) -> Account:
    """Do a job, or what an earlier run of it left to do, with an engine; raises what ``run_job`` does."""
    parts = _parts(job)
    _refuse_own_input(job)
    if not job.output.parent.is_dir():
        raise DataError(f"{job.output}: cannot be written: {job.output.parent} is no folder.")
    with _writable(job.output):
        if job.is_folder:
            job.output.mkdir(exist_ok=True)
        with _workshop(job) as workshop:
            ledger = _Ledger(workshop, job, parts)
            _refuse_foreign(job, parts, ledger)
            accounts = _finished(job, workshop, parts, ledger)
            waiting = {name: source for name, source in parts.items() if name not in accounts}
            with closing(engine(job, workshop, waiting)) as entries:
                for entry in entries:
                    ledger.enter(entry)
                    accounts[entry["part"]] = entry["account"]
            _finish(job, parts, workshop)
    account = Account()
    for name in parts:  # in this order, whatever was done first: sums of floats depend on it
        account.join(accounts[name])
    return account


def _finished(job: Job, workshop: Workshop, parts: Mapping[str, Source], ledger: _Ledger) -> dict[str, Entry]:
    """The accounts of the parts that an earlier run has finished."""
    found = {name: ledger.finished(name, source, _part_path(job, workshop, name)) for name, source in parts.items()}
    return {name: account for name, account in found.items() if account is not None}


def _one_after_the_other(
    model: TopicModel, progress: Progress, job: Job, workshop: Workshop, parts: Mapping[str, Source]
) -> Generator[Entry, None, None]:
    """The engine of one machine: what is done at once are the blocks of a part."""
    for name, source in parts.items():
        yield do_part(model, job, workshop, name, source, progress.advance)


def stream_job(
    model: TopicModel,
    sources: Sequence[Source],
    reading: ReadOptions,
    options: PredictOptions,
    account: Account,
    on_reject: Callable[[Source, Reject], None],
) -> Iterator[Labelled]:
    """Yield the rows of all inputs one after the other, counted; nothing is kept."""
    for source in sources:
        for part in label_source(model, source, reading, options):
            account.add(part)
            for reject in part.rejects:
                on_reject(source, reject)
            yield part


def strictly(source: Source, reject: Reject) -> None:
    """Stop at a row that cannot be used."""
    raise DataError(f"{describe(source, reject)}.")


def describe(source: Source, reject: Reject) -> str:
    """Say in words which row cannot be used, and why."""
    place = reject.file or source.place
    if reject.line is not None:
        place += f", line {reject.line}"
    elif reject.file is None:
        place += f", row {reject.row}"
    return f"{place}: {reject.reason}"


def output_schema(columns: pa.Schema, sources: Sequence[Source], reading: ReadOptions) -> pa.Schema:
    """Return the columns of the output, kept ones with the types they have in every input.

    Raises
    ------
    DataError
        when a kept column has different types
    """
    types: dict[str, pa.DataType] = {}
    for source in sources:
        for name, kind in source.column_types(reading).items():
            if types.setdefault(name, kind) != kind:
                raise DataError(f"{source.place}: column {name!r} holds {kind}, elsewhere {types[name]}.")
    schema = columns
    for name, kind in types.items():
        schema = schema.append(pa.field(name, pa.string() if kind == pa.large_string() else kind))
    return schema


def write_report(path: str, account: Account) -> None:
    """Write the account as JSON.

    Raises
    ------
    DataError
        when the file cannot be written
    """
    with _writable(Path(path)):
        Path(path).write_text(json.dumps(account.as_report(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


# Parts


def _parts(job: Job) -> dict[str, Source]:
    """What is written under which name, in order."""
    if not job.is_folder:
        return {f"{number:06}{OUTPUT_ENDINGS[job.kind]}": source for number, source in enumerate(job.sources)}
    parts: dict[str, Source] = {}
    for given in job.sources:
        for source in one_by_one(given):
            if source.place == STDIN:
                raise UsageError("stdin has no name to write a part under. Give -o a file.")
            name = _without_endings(source.name) + OUTPUT_ENDINGS[job.kind]
            if name in parts:
                raise UsageError(f"{source.place} and {parts[name].place} would both become {name} in {job.output}.")
            parts[name] = source
    return parts


def _without_endings(name: str) -> str:
    path = Path(name)
    if path.suffix.lower() in (".gz", ".zst"):
        path = path.with_suffix("")
    return str(path.with_suffix(""))


def _part_path(job: Job, workshop: Workshop, name: str) -> Path:
    return job.output / name if job.is_folder else workshop.folder / "parts" / name


def _rejects_path(workshop: Workshop, name: str) -> Path:
    return workshop.folder / "rejects" / f"{name}.jsonl"


def do_part(
    model: TopicModel,
    job: Job,
    workshop: Workshop,
    name: str,
    source: Source,
    advance: Callable[[int, int], None] = lambda rows, n_bytes: None,
) -> Entry:
    """Write a part and its rejects, durably, and return what the ledger is to say of it.

    Everything given can be pickled, and a part may be done twice at once: both attempts write the same bytes.

    Raises
    ------
    DataError
        when the input cannot be read or changes meanwhile, and, with ``strict``, at a row that cannot be used
    OSError
        when the part cannot be written
    """
    account = Account()
    place = _part_path(job, workshop, name)
    schema = output_schema(job.columns, [source] if job.is_folder else job.sources, job.reading)
    before = _facts(source)
    with (
        _digesting(source) as digest,
        _durable(place, workshop.new) as file,
        _durable(_rejects_path(workshop, name), workshop.new) as rejects,
    ):
        with writing(job.kind, file, schema) as writer:
            for part in label_source(model, source, job.reading, job.options):
                begin = time.perf_counter()
                if part.rejects and job.strict:
                    strictly(source, part.rejects[0])
                account.add(part)
                writer.write(part.batch)
                rejects.writelines(_reject_line(source, reject) for reject in part.rejects)
                advance(part.n_rows, part.n_bytes)
                account.seconds["writing"] += time.perf_counter() - begin
        if _facts(source) != before:
            raise DataError(f"{source.place}: changed while it was read. Run the command again.")
        entry = {"part": name, "input": source.place, **before, "sha256": digest.result(), "account": asdict(account)}
    return {**entry, "bytes": place.stat().st_size}


def _reject_line(source: Source, reject: Reject) -> bytes:
    entry = {"file": reject.file or source.place, "row": reject.row, "line": reject.line, "reason": reject.reason}
    return json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _finish(job: Job, parts: Mapping[str, Source], workshop: Workshop) -> None:
    """Join what must be joined; a single file takes its name here."""
    rejects = [_rejects_path(workshop, name) for name in parts]
    if any(path.stat().st_size for path in rejects):
        with _durable(job.rejects, workshop.new) as file:
            _append_all(file, rejects)
    else:
        job.rejects.unlink(missing_ok=True)
    if job.is_folder:
        return
    paths = [_part_path(job, workshop, name) for name in parts]
    if len(paths) == 1:
        paths[0].replace(job.output)
    else:
        with _durable(job.output, workshop.new) as file:
            _join(job, paths, file)
    _flush_folder(job.output.parent)


def _join(job: Job, paths: Sequence[Path], file: IO[bytes]) -> None:
    schema = output_schema(job.columns, job.sources, job.reading)
    if job.kind == "parquet":
        batches = (batch for path in paths for batch in pq.ParquetFile(path).iter_batches(use_threads=False))
        write_batches(job.kind, file, schema, batches)
        return
    header = pa.BufferOutputStream()
    write_batches(job.kind, header, schema, [])
    _append_all(file, paths, skip=header.getvalue().size)


def _append_all(file: IO[bytes], paths: Sequence[Path], skip: int = 0) -> None:
    """Copy files one after the other, without the first bytes of all but the first."""
    for number, path in enumerate(paths):
        with path.open("rb") as part:
            part.seek(skip if number else 0)
            shutil.copyfileobj(part, file, 1 << 20)


# On disk


class _Ledger:
    """What the job is, and which parts are finished; entries are on disk before the next part begins."""

    def __init__(self, workshop: Workshop, job: Job, parts: Mapping[str, Source]) -> None:
        self._path = path = workshop.folder / "ledger.jsonl"
        self._entries: dict[str, dict[str, Any]] = {}
        self.is_new = job.restart or not path.exists()
        head = {"duanti": __version__, "job": _description(job)}
        if self.is_new:
            self._forget(job)
            with _durable(path, workshop.new) as file:
                file.write(_line(head))
            return
        lines = path.read_bytes().splitlines(keepends=True)
        begun = _read_entry(lines[0]) if lines else None
        if begun is None:
            raise DataError(f"{path}: damaged. Give --restart to begin again.")
        _refuse_change(job, begun, head)
        for line in lines[1:]:
            entry = _read_entry(line)
            if entry is None:
                break  # the power went while this line was written; its part is done again
            self._entries[entry["part"]] = entry
        gone = next((entry for name, entry in self._entries.items() if name not in parts), None)
        if gone is not None:
            raise DataError(f"{gone['input']}: was an input when this job was begun. Give it, or --restart.")
        sound = b"".join([_line(head), *map(_line, self._entries.values())])
        if sound != b"".join(lines):
            with _durable(path, workshop.new) as file:
                file.write(sound)

    def _forget(self, job: Job) -> None:
        """Begin again: remove the parts that the last job finished, and nothing else."""
        if not self._path.exists():
            return
        for line in self._path.read_bytes().splitlines(keepends=True)[1:]:
            entry = _read_entry(line)
            if entry is not None and job.is_folder:
                place = job.output / entry["part"]
                if place.resolve().is_relative_to(job.output.resolve()):
                    place.unlink(missing_ok=True)
        self._path.unlink()

    def finished(self, name: str, source: Source, place: Path) -> dict[str, Any] | None:
        """The account of a part, if it is finished, and its input is what it was.

        Raises
        ------
        DataError
            when the input has changed
        """
        entry = self._entries.get(name)
        if entry is None or source.is_stream or not place.exists() or place.stat().st_size != entry["bytes"]:
            return None
        facts = _facts(source)
        if any(entry[key] != value for key, value in facts.items()) and entry["sha256"] != _digest(source):
            raise DataError(f"{source.place}: has changed since its part was written. Give --restart to begin again.")
        account: dict[str, Any] = entry["account"]
        return account

    def enter(self, entry: dict[str, Any]) -> None:
        """Write down that a part is finished."""
        with self._path.open("ab") as file:
            file.write(_line(entry))
            file.flush()
            os.fsync(file.fileno())


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, ensure_ascii=True).encode() + b"\n"


def _read_entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _description(job: Job) -> dict[str, Any]:
    """What decides the bytes of the output: not the number of threads."""
    return {
        "bundle": job.bundle,
        "format": job.kind,
        "unit": job.options.unit,
        "top": job.options.top,
        "context": job.options.context,
        "summary": job.options.summary,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in asdict(job.reading).items()},
    }


def _refuse_change(job: Job, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if begun.get("duanti") != now["duanti"]:
        raise DataError(f"{job.output}: begun with duanti {begun.get('duanti')}. Use that, or give --restart.")
    before = begun.get("job", {})
    changed = [name for name, value in now["job"].items() if before.get(name) != value]
    if changed:
        names = ", ".join(name.replace("_", " ") for name in changed)
        raise DataError(f"{job.output}: begun with another {names}. Give the same command, or --restart.")


def _refuse_own_input(job: Job) -> None:
    output = job.output.resolve()
    for source in job.sources:
        for path in source.paths:
            if path.resolve() == output or output in path.resolve().parents:
                raise UsageError(f"{path} is an input, and {job.output} the output. Choose another output.")


def _refuse_foreign(job: Job, parts: Mapping[str, Source], ledger: _Ledger) -> None:
    """A folder of parts holds the job's and nothing else of that ending: whoever reads it reads all."""
    if not job.is_folder:
        return
    for path in sorted(job.output.rglob(f"*{OUTPUT_ENDINGS[job.kind]}")):
        name = path.relative_to(job.output)
        if not name.parts[0].startswith(".") and (ledger.is_new or str(name) not in parts):
            raise DataError(f"{path}: is there, and not of this job. Choose an empty folder, or move it away.")


def _facts(source: Source) -> dict[str, Any]:
    """What tells at a glance that an input is still the same; nothing can of a stream."""
    if source.is_stream:
        return {}
    try:
        stats = [path.stat() for path in source.paths]
    except OSError as error:
        raise DataError(f"{source.place}: cannot be read ({error.strerror}).") from None
    return {"size": sum(s.st_size for s in stats), "modified": max(s.st_mtime_ns for s in stats)}


@contextmanager
def _digesting(source: Source) -> Iterator[Future[str]]:
    """The digest of an input, worked out beside whatever is done in the block; given up when that fails."""
    stop = Event()
    with ThreadPoolExecutor(1) as aside:
        try:
            yield aside.submit(_digest, source, stop)
        finally:
            stop.set()


def _digest(source: Source, stop: Event | None = None) -> str:
    """SHA-256 of the bytes of an input; of a stream, which must not be read twice, of none."""
    state = hashlib.sha256()
    try:
        for path in () if source.is_stream else source.paths:
            with path.open("rb") as file:
                while not (stop and stop.is_set()) and (chunk := file.read(1 << 20)):
                    state.update(chunk)
    except OSError as error:
        raise DataError(f"{source.place}: cannot be read ({error.strerror}).") from None
    return state.hexdigest()


@contextmanager
def _workshop(job: Job) -> Iterator[Workshop]:
    """The folder a job works in, locked; what a dead run left half-written is removed first."""
    name = ".duanti" if job.is_folder else f".{job.output.name}.duanti"
    folder = job.output / name if job.is_folder else job.output.with_name(name)
    with _locked(folder, job.output):
        shutil.rmtree(folder / "new", ignore_errors=True)
        workshop = Workshop(folder, folder / "new" / uuid4().hex)
        for inner in (folder / "parts", folder / "rejects", workshop.new):
            inner.mkdir(parents=True, exist_ok=True)
        try:
            yield workshop
        except BaseException:
            if not job.is_folder and not any((folder / "parts").iterdir()):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            shutil.rmtree(folder / "new", ignore_errors=True)
        if job.is_folder:
            shutil.rmtree(folder / "parts", ignore_errors=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    """Hold the lock of a workshop; made if need be."""
    while True:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise DataError(f"{output}: another run is writing it. Wait for it, or stop it.") from None
        with suppress(FileNotFoundError):
            if os.fstat(descriptor).st_ino == (folder / "lock").stat().st_ino:
                break
        os.close(descriptor)  # whoever held it took the folder away
    # A forked child would hold the lock for as long as it lives.
    held = [descriptor]
    os.register_at_fork(after_in_child=lambda: os.close(held.pop()) if held else None)
    try:
        yield
    finally:
        os.close(held.pop())


@contextmanager
def _durable(place: Path, folder: Path) -> Iterator[IO[bytes]]:
    """A file that takes its place, on disk, when the block ends well, and leaves nothing behind when it does not.

    Until then it is in ``folder``, under a name of its own, because the same part may be written twice at once.
    """
    new = folder / uuid4().hex
    try:
        with new.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        place.parent.mkdir(parents=True, exist_ok=True)
        new.replace(place)
        _flush_folder(place.parent)
    finally:
        new.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _writable(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unwritable(output, error) from None


def unwritable(output: Path, error: OSError) -> DataError:
    """What to tell whoever gave this output."""
    return DataError(f"{output}: cannot be written ({error.strerror or error}).")
