"""The same jobs and the same rows on a Spark cluster.

Owns the only import of pyspark: an engine that does the parts of a job as tasks, rows for frames that Spark reads
itself, and how a bundle gets to the executors. Refuses to know how a part is done and what a job leaves on disk.

    driver     carry_out: lock, ledger, rejects, refusals         executor, a task for each part
               engine ── parts that are not finished ─────────>   do_part: reads, labels, writes to the shared folder
               ledger <── entries, as soon as a task has ended ──  entry, or what went wrong

Entries come home through an accumulator: Spark has no other way to hear of a task before the whole job has ended
(``toLocalIterator`` runs one task after the other). What is the user's to mend comes home the same way, because an
exception would be tried again and arrive as the traces of two languages.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import sys
import tarfile
import tempfile
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import chdir, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from duanti import __version__
from duanti.bundle import bundle_digest, read_bundle
from duanti.corpus import check_columns
from duanti.errors import DataError, DuantiError, UsageError
from duanti.jobs import Account, Entry, Job, Workshop, carry_out, do_part, unwritable
from duanti.model import TopicModel
from duanti.predict import ROW_COLUMNS, UNITS, PredictOptions, label_source, row_schema
from duanti.progress import Progress
from duanti.readers import Block, ReadOptions, Source, Work, sound_strings

try:
    from py4j.protocol import Py4JError
    from pyspark import AccumulatorParam, SparkConf, SparkContext, SparkFiles, TaskContext
    from pyspark.errors import PySparkException
    from pyspark.java_gateway import launch_gateway
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.functions import coalesce, col, lit
    from pyspark.sql.pandas.types import from_arrow_schema
    from pyspark.sql.types import StringType, StructField, StructType
except ImportError:
    raise UsageError("Spark is not installed here. Install duanti[spark].") from None

logger = logging.getLogger(__name__)

# The last is what becomes of every call when Java has died.
_SPARK_FAULTS = (Py4JError, PySparkException, ConnectionError)


def run_job_on_spark(bundle: str | Path, job: Job, progress: Progress, *, master: str | None = None) -> Account:
    """Do a job, or what an earlier run of it left to do, on Spark; the parts are those of ``jobs.run_job``.

    ``bundle`` is the folder of the job's model; only the driver needs to see it. Inputs and output are on a file system
    that the driver and all executors see under the same path. ``master`` None: what Spark's own configuration says,
    else all cores of this machine. An active session is used as it is.

    Raises
    ------
    UsageError
        when the output is no folder, an input can be read but once, or there is no Java
    DataError
        as ``jobs.run_job``, and when Spark gives up
    """
    if not job.is_folder:
        raise UsageError(f"{job.output}: Spark writes a folder of parts, one for each input. Give -o a folder.")
    stream = next((source.place for source in job.sources if source.is_stream), None)
    if stream is not None:
        raise UsageError(f"{stream}: can be read but once, and here. Give Spark files or folders.")
    if SparkSession.getActiveSession() is None:
        _refuse_missing_java()
    return carry_out(job, partial(_as_tasks, bundle, progress, master))


# Jobs: the driver


class _Done(NamedTuple):
    entry: Entry
    said: Sequence[str]  # warnings, which would be heard by nobody where the task ran


@dataclass(frozen=True)
class _Order:
    """What every task of a job needs to know."""

    job: Job
    workshop: Workshop
    folder: str  # that relative paths start from
    tries: int
    version: str = __version__


def _as_tasks(
    bundle: str | Path,
    progress: Progress,
    master: str | None,
    job: Job,
    workshop: Workshop,
    parts: Mapping[str, Source],
) -> Generator[Entry, None, None]:
    """The engine of a cluster: a task for each part."""
    if not parts:
        return  # Spark takes its time to start
    log = workshop.folder / "spark.log"
    try:
        with _session(master, log) as spark:
            context = spark.sparkContext
            if _ship(context, bundle) != job.bundle:
                raise DataError(f"{bundle}: was replaced since this job began. Run the command again.")
            order = _Order(replace(job, sources=()), workshop, str(Path.cwd()), _tries(context))
            with closing(_arrivals(spark, order, parts)) as arrivals:
                for entry, said in arrivals:
                    for words in said:
                        logger.warning("%s", words)
                    progress.advance(entry["account"]["rows"], entry["size"])
                    yield entry
    except _SPARK_FAULTS as error:
        reason = f"Spark gave up ({_reason(error)}).{_more_in(log)} The same command goes on where it stopped."
        raise DataError(f"{job.output}: {reason}") from None


def _arrivals(spark: Any, order: _Order, parts: Mapping[str, Source]) -> Generator[_Done, None, None]:
    """Run the tasks, and yield what each has done as soon as it has ended; raise the first fault."""
    context, arrived = spark.sparkContext, SimpleQueue[_Done | DuantiError | None]()
    mail = context.accumulator(arrived, _Mail())
    # The longest first, so that none of them is alone at the end.
    shared = context.broadcast(sorted(parts.items(), key=lambda part: part[1].n_bytes or 0, reverse=True))

    def do_parts(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                mail.add([_attempt(order, *shared.value[number])])
            yield batch

    tasks = spark.range(0, len(parts), numPartitions=len(parts)).mapInArrow(do_parts, "part bigint")
    with _running(context, tasks) as running:
        running.add_done_callback(lambda _: arrived.put(None))
        while (done := arrived.get()) is not None:
            if isinstance(done, DuantiError):
                raise done
            yield done
        running.result()


@contextmanager
def _running(context: Any, tasks: Any) -> Iterator[Future[Any]]:
    """Run a frame's tasks beside whatever is done in the block; what still runs at its end is cancelled."""
    tag = f"duanti-{uuid4().hex}"

    def collect() -> Any:
        context.addJobTag(tag)
        return tasks.collect()

    with ThreadPoolExecutor(1) as aside:
        running = aside.submit(collect)
        try:
            yield running
        finally:
            while not running.done():  # again, because one that is not yet submitted cannot be cancelled
                with suppress(*_SPARK_FAULTS):
                    context.cancelJobsWithTag(tag)
                wait([running], timeout=0.5)


class _Mail(AccumulatorParam):  # type: ignore[misc]
    """What tasks add is a list; on the driver, what has arrived is put into a queue."""

    def zero(self, value: object) -> list[Any]:
        return []

    def addInPlace(self, value: Any, added: list[Any]) -> Any:  # noqa: N802 - the name is Spark's
        if isinstance(value, list):
            value.extend(added)
        else:
            for one in added:
                value.put(one)
        return value


@contextmanager
def _session(master: str | None, log: Path) -> Iterator[Any]:
    """The session of this process, else one for the block, whose words go to a file."""
    active = SparkSession.getActiveSession()
    if active is not None:
        yield active
        return
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    conf = SparkConf().setIfMissing("spark.app.name", "duanti").set("spark.ui.showConsoleProgress", "false")
    if master is not None:
        conf.setMaster(master)
    with log.open("wb") as words:
        try:
            context = SparkContext(conf=conf, gateway=launch_gateway(conf, {"stdout": words, "stderr": words}))
        except _SPARK_FAULTS as error:
            reason = _first_fault(log) or _reason(error)
            raise UsageError(f"Spark did not start ({reason}).{_more_in(log)}") from None
    try:
        context.setLogLevel("ERROR")
        _hush_mail(context, log)
        yield SparkSession(context)
    finally:
        with suppress(*_SPARK_FAULTS):
            context.stop()


def _hush_mail(context: Any, log: Path) -> None:
    """When Java dies, the server that accumulators come home to prints a trace of its own: let it go to the log."""

    def write_down(*_: object) -> None:
        with suppress(OSError), log.open("a", encoding="utf-8") as words:
            traceback.print_exc(file=words)

    server = getattr(context, "_accumulatorServer", None)
    if server is not None:
        server.handle_error = write_down


def _refuse_missing_java() -> None:
    """Spark's own scripts look in JAVA_HOME and nowhere else where it is set."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return  # spark-submit has started Java
    home = os.environ.get("JAVA_HOME")
    if shutil.which(f"{home}/bin/java" if home else "java") is None:
        where = f"JAVA_HOME, {home}, has none" if home else "there is none here"
        raise UsageError(f"Spark needs Java 17 or later, and {where}. Install it, or set JAVA_HOME.")


def _tries(context: Any) -> int:
    """How often Spark attempts a task; on one machine once."""
    if context.master == "local" or context.master.startswith("local["):
        return 1
    return int(context.getConf().get("spark.task.maxFailures", "4"))


def _more_in(log: Path) -> str:
    """Where Spark's words are, if they went to a file of ours."""
    return f" {log} tells more." if log.exists() and log.stat().st_size else ""


def _first_fault(log: Path) -> str | None:
    """The line in which Java says why it ended."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in lines if "Exception" in line or "Error" in line), None)


def _reason(error: Exception) -> str:
    """The line of Spark's words that says most: of a trace from Python its last, of one from Java its first."""
    java = getattr(error, "java_exception", None)
    try:
        words = str(error if java is None else java.getMessage()).strip().splitlines()
    except _SPARK_FAULTS:
        words = ["Java has died"]
    if not words:
        return type(error).__name__
    return (words[-1] if "Traceback (most recent call last):" in map(str.strip, words) else words[0]).strip()


# Jobs: the executors


def _attempt(order: _Order, name: str, source: Source) -> _Done | DuantiError:
    """Do a part, in a task of its own; return what the user has to mend rather than raise it."""
    task = TaskContext.get()
    options = replace(order.job.options, n_jobs=order.job.options.n_jobs or task.cpus())
    try:
        if order.version != __version__:
            raise UsageError(f"an executor has duanti {__version__}, the driver {order.version}. Install one version.")
        model = _model(order.job.bundle)  # before the folder changes: Spark puts what it was sent into a task's own
        with _in_folder(order.folder), _listening() as said:
            return _Done(do_part(model, replace(order.job, options=options), order.workshop, name, source), said)
    except DuantiError as error:
        return error
    except OSError as error:
        if task.attemptNumber() + 1 < order.tries:
            raise  # another executor may have room, or a better connection
        return unwritable(order.job.output, error)


@contextmanager
def _listening() -> Iterator[list[str]]:
    """What duanti warns of in the block."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("duanti").addHandler(handler)
    try:
        yield said
    finally:
        logging.getLogger("duanti").removeHandler(handler)


@contextmanager
def _in_folder(folder: str) -> Iterator[None]:
    """Relative paths mean what they mean to the driver, where this machine has its folder."""
    if not Path(folder).is_dir():
        yield
        return
    with chdir(folder):
        yield


# Bundles


def _ship(context: Any, bundle: str | Path) -> str:
    """Have a bundle sent once to every executor that runs a task; return its digest, by which tasks find it."""
    read_bundle(bundle)
    digest = bundle_digest(bundle)
    context.addArchive(f"{_packed(str(bundle), digest)}#{_unpacked_name(digest)}")
    return digest


@lru_cache(maxsize=8)
def _packed(bundle: str, digest: str) -> Path:
    """A bundle as one file, there until this process ends: executors may ask for it at any time."""
    folder = Path(tempfile.mkdtemp(prefix="duanti-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    place = folder / f"{digest}.tar"
    with tarfile.open(place, "w") as archive:
        for path in sorted(Path(bundle).iterdir()):
            archive.add(path, arcname=path.name)
    return place


def _unpacked_name(digest: str) -> str:
    return f"duanti-{digest}"


@lru_cache(maxsize=2)
def _model(digest: str) -> TopicModel:
    """The model of a bundle that was sent here; loaded once in each process."""
    folder = Path(SparkFiles.get(_unpacked_name(digest))).absolute()
    model = TopicModel.load(folder)
    if bundle_digest(folder) != digest:
        raise DataError("the bundle was replaced while it was sent to the executors. Run the command again.")
    return model


# Frames


def predict_frame(
    frame: DataFrame,
    bundle: str | Path,
    *,
    text_column: str = "text",
    document_column: str = "document",
    order_column: str | None = None,
    keep: Sequence[str] = (),
    unit: str = "text",
    top: int = 3,
    context: bool = True,
) -> DataFrame:
    """Give every row of a Spark frame its topic: the columns of ``predict.row_schema``, then those of ``keep``.

    ``unit`` "text" gives one row for each, "paragraph" one for each of its paragraphs. No topic is null, and so is that
    of a text that is null or no UTF-8. ``document`` is the row's own, null where it has none: rows of a frame have no
    numbers; keep a column that tells them apart. ``paragraph`` counts from 0 over rows that follow each other in a
    partition with the same document. Rows keep their partition and their order, unless ``order_column`` is given: then
    all rows of a document are brought into one partition, in the order of that column.

    Raises
    ------
    UsageError
        when ``unit`` is unknown, or a kept column has the name of one of the output's
    DataError
        when the frame lacks a column, or the texts are no strings
    BundleError
        when the bundle is missing, damaged or of another format
    """
    _refuse_unfit_columns(frame, text_column, document_column, order_column, keep, unit)
    has_documents = document_column in frame.columns
    if order_column is not None:
        # Rows without a document go anywhere; by their text, because a null would send all of them to one place.
        place = coalesce(_column(document_column).cast("string"), _column(text_column))
        frame = frame.repartition(place).sortWithinPartitions(_column(document_column), _column(order_column))
    document = _column(document_column) if has_documents else lit(None)
    names = tuple(dict.fromkeys(keep))
    chosen = [_column(text_column), document.cast("string"), *map(_column, names)]
    digest, options = _ship(_context(frame.sparkSession), bundle), PredictOptions(unit, top, context=context)

    def label_rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from _label_partition(batches, digest, names, options)

    kept = [StructField(name, frame.schema[name].dataType) for name in names]
    numbered = frame.select(*(column.alias(f"column{number}") for number, column in enumerate(chosen)))
    columns = from_arrow_schema(row_schema(TopicModel.load(bundle)))
    return numbered.mapInArrow(label_rows, StructType([*columns, *kept]))


def _context(session: Any) -> Any:
    context = getattr(session, "sparkContext", None)
    if context is None:
        raise UsageError("a Spark Connect session has no way to send the bundle. Use a session with its own context.")
    return context


def _refuse_unfit_columns(
    frame: Any, text_column: str, document_column: str, order_column: str | None, keep: Sequence[str], unit: str
) -> None:
    if unit not in UNITS:
        raise UsageError(f"unit is {unit!r}; use one of {', '.join(UNITS)}.")
    taken = next((name for name in keep if name in ROW_COLUMNS), None)
    if taken is not None:
        raise UsageError(f"keep {taken!r}: the output has a column of that name. Rename the frame's.")
    ordering = () if order_column is None else (document_column, order_column)
    check_columns("the frame", frame.columns, [text_column, *ordering, *keep])
    kind = frame.schema[text_column].dataType
    if not isinstance(kind, StringType):
        raise DataError(f"the frame: column {text_column!r} holds {kind.simpleString()}, not strings.")


def _column(name: str) -> Any:
    """A column by its name as it stands, whatever is in it."""
    return col("`" + name.replace("`", "``") + "`")


@dataclass(frozen=True)
class _Partition(Source):
    """The rows of a partition as an input: texts, documents, and what is kept."""

    batches: Iterator[pa.RecordBatch]
    keep: tuple[str, ...]

    def blocks(self, options: ReadOptions) -> Iterator[Work]:
        """A block for each batch."""
        for batch in self.batches:
            yield Work(partial(self._block, batch), batch.nbytes)

    def _block(self, batch: pa.RecordBatch) -> Block:
        texts, documents, *kept = batch.columns
        documents = pc.if_else(pc.equal(documents, ""), None, documents)
        return Block(
            texts=sound_strings("text", texts, {}).cast(pa.large_string()),
            documents=documents.cast(pa.large_string()),
            # The row's own document once more: where there is none, the output's has a number.
            kept={"": documents, **dict(zip(self.keep, kept, strict=True))},
            rows=np.arange(batch.num_rows),
            rejects=[],
            n_rows=batch.num_rows,
            n_lines=0,
        )


def _label_partition(
    batches: Iterator[pa.RecordBatch], digest: str, keep: tuple[str, ...], options: PredictOptions
) -> Iterator[pa.RecordBatch]:
    """Label the rows of a partition, in a task of its own."""
    options = replace(options, n_jobs=TaskContext.get().cpus())
    partition, model = _Partition("the frame", "", "parquet", (), batches, keep), _model(digest)
    for part in label_source(model, partition, ReadOptions(), options):
        columns = dict(zip([*row_schema(model).names, "", *keep], part.batch.columns, strict=True))
        columns["document"] = columns.pop("")
        yield pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
