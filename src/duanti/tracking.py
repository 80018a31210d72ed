"""Runs and registered models in MLflow.

Owns the only import of mlflow. A recipe that does not track, or a machine without mlflow, gets ``Untracked``,
which takes the same calls. Refuses to know how a model is trained; the bundle itself is the logged model.
"""

from __future__ import annotations

import fcntl
import importlib.util
import io
import json
import logging
import os
import shutil
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from duanti.bundle import read_bundle
from duanti.errors import TrackingError
from duanti.scaffold import PACKED

if TYPE_CHECKING:  # turning a URI into a folder needs neither
    from duanti.config import RunConfig
    from duanti.corpus import Corpus

# Said before the first import: nothing is sent anywhere, and progress bars of copies stay off the terminal.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

logger = logging.getLogger(__name__)

#: Marks the run of a search, with the name of what it goes on with.
SEARCH_TAG = "duanti.search"
_PARENT_TAG = "mlflow.parentRunId"
_SQLITE = "sqlite:///"
#: What the logged model needs to serve, besides mlflow itself: duanti travels with it as code.
_REQUIREMENTS = ("mlflow", "numba", "numpy", "pandas", "pyarrow")
_DIGEST_LENGTH = 36  # the width of MLflow's column


class Run(Protocol):
    """What a training program tells about its run."""

    @property
    def id(self) -> str | None:
        """The run's identifier; None when nothing is recorded."""

    def log_inputs(self, **corpora: Corpus) -> None:
        """Record the corpora, by the role they play."""

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Record figures."""

    def log_text(self, text: str, file: str) -> None:
        """Keep a text as an artefact under this file name."""

    def log_table(self, table: pa.Table, file: str) -> None:
        """Keep a table as an artefact under this file name, as Parquet."""

    def log_child(
        self,
        name: str,
        settings: Mapping[str, Any],
        metrics: Mapping[str, float],
        seconds: float,
        tags: Mapping[str, str],
    ) -> None:
        """Record a run below this one, that took so long and is over."""

    def register_bundle(self, folder: Path, name: str) -> str:
        """Log a bundle as the run's model and register it; returns what it has become."""


class Untracked:
    """A run nobody records."""

    id = None

    def log_inputs(self, **corpora: Corpus) -> None: ...

    def log_metrics(self, metrics: Mapping[str, float]) -> None: ...

    def log_text(self, text: str, file: str) -> None: ...

    def log_table(self, table: pa.Table, file: str) -> None: ...

    def log_child(
        self,
        name: str,
        settings: Mapping[str, Any],
        metrics: Mapping[str, float],
        seconds: float,
        tags: Mapping[str, str],
    ) -> None: ...

    def register_bundle(self, folder: Path, name: str) -> str:
        return "not recorded"


def resolve_model_uri(uri: str) -> Path:
    """Return the folder of the bundle behind ``models:/NAME@ALIAS``, ``models:/NAME/VERSION`` or ``runs:/ID/model``.

    Raises
    ------
    TrackingError
        when mlflow is not installed, or the store has no such model
    """
    mlflow = _import_mlflow()
    if mlflow is None:
        raise TrackingError(f"{uri}: needs mlflow. Install duanti[train], or name the bundle's folder.")
    store = _in_full(os.environ.get("MLFLOW_TRACKING_URI", f"{_SQLITE}mlflow.db"))
    mlflow.set_tracking_uri(store)
    mlflow.set_registry_uri(store)  # mlflow remembers that of a store this process has used before
    _refuse_missing_store(mlflow.get_tracking_uri(), uri)
    try:
        folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
        flavors = mlflow.models.Model.load(str(folder)).flavors
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise TrackingError(f"{uri}: not in {mlflow.get_tracking_uri()} ({_first_line(error)}).") from None
    data = flavors.get("python_function", {}).get("data")
    if flavors.get("python_function", {}).get("loader_module") != "duanti.serving" or data is None:
        raise TrackingError(f"{uri}: not a duanti model. Name one that train/fit.py has registered.")
    return folder / str(data)


@contextmanager
def track(config: RunConfig, recipe: Path, *, continued: str | None = None) -> Iterator[Run]:
    """Record a run from here to the end of the block: finished, or failed when the block raises.

    The run has every setting as a parameter, the recipe as an artefact and the git commit as a tag. ``continued`` names
    work that may have been interrupted: the run that began it goes on.

    Raises
    ------
    TrackingError
        when the store cannot be used
    """
    mlflow = _import_mlflow() if config.tracking.enabled else None
    if mlflow is None:
        if config.tracking.enabled:
            logger.warning("mlflow is not installed: this run is not recorded. Install duanti[train].")
        yield Untracked()
        return
    store = _Store(mlflow, config.tracking.uri)
    run = _start(store, config, recipe, continued)
    try:
        yield run
    except BaseException:
        with store.writing():
            store.client.set_terminated(run.id, "FAILED")
        raise
    with store.writing():
        store.client.set_terminated(run.id, "FINISHED")


@dataclass(frozen=True)
class RecordedRun:
    """A finished run as a store has it; ``versions``: of the registered models it became, by their names."""

    id: str
    name: str
    metrics: Mapping[str, float]
    test_digest: str | None
    versions: Mapping[str, str]


class Version(NamedTuple):
    """A version of a registered model, and the run it comes from."""

    version: str
    run_id: str


class Store(Protocol):
    """What comparing runs asks of a store."""

    def finished_runs(self, experiment: str) -> list[RecordedRun]:
        """Return the finished training runs of an experiment, newest first; searches and their trials are none."""

    def run(self, run_id: str) -> RecordedRun:
        """Return one run."""

    def table(self, run_id: str, file: str) -> pa.Table | None:
        """Return a table that a run keeps; None where it does not."""

    def champion(self, model: str) -> Version | None:
        """Return the version of a registered model that has the alias ``champion``."""

    def promote(self, model: str, version: str, reason: Mapping[str, str]) -> None:
        """Give a version the alias ``champion``, with the reason, the time and the user as its tags."""


def open_store(uri: str) -> Store:
    """Return a tracking store that exists.

    Raises
    ------
    TrackingError
        when mlflow is not installed, or there is no store
    """
    mlflow = _import_mlflow()
    if mlflow is None:
        raise TrackingError(f"{uri}: needs mlflow. Install duanti[train].")
    database = _database(uri)
    if database is not None and not database.exists():
        raise TrackingError(f"{uri}: no tracking store there. Name one with --uri.")
    return _Store(mlflow, uri)


class _Store:
    """A tracking store and the lock that keeps parallel first use, and SQLite's writers, apart."""

    def __init__(self, mlflow: Any, uri: str) -> None:
        self.mlflow, self.uri = mlflow, uri
        address = _in_full(uri)
        mlflow.set_tracking_uri(address)
        mlflow.set_registry_uri(address)
        with self.writing():
            self.client = mlflow.MlflowClient(address)
            self.client.search_experiments(max_results=1)  # creates and migrates the tables

    def create_experiment(self, name: str) -> str:
        """Create an experiment; with SQLite its artefacts stand beside the database, wherever the run started."""
        database = _database(self.uri)
        folder = str(database.parent / "mlruns" / quote(name, safe="")) if database else None
        return str(self.client.create_experiment(name, artifact_location=folder))

    def finished_runs(self, experiment: str) -> list[RecordedRun]:
        with self.writing():
            found = self.client.get_experiment_by_name(experiment)
            if found is None:
                known = ", ".join(each.name for each in self.client.search_experiments())
                raise TrackingError(f"{self.uri}: no experiment {experiment!r}. It has {known}.")
            runs: list[Any] = []
            page = None
            while page is None or page:
                part = self.client.search_runs(
                    [found.experiment_id], "attributes.status = 'FINISHED'", page_token=page or None
                )
                runs, page = runs + list(part), part.token or ""
            training = (run for run in runs if not {SEARCH_TAG, _PARENT_TAG} & run.data.tags.keys())
            return [self._recorded(run) for run in training]

    def run(self, run_id: str) -> RecordedRun:
        with self.writing():
            return self._recorded(self.client.get_run(run_id))

    def _recorded(self, run: Any) -> RecordedRun:
        versions = self.client.search_model_versions(f"run_id='{run.info.run_id}'")
        return RecordedRun(
            id=run.info.run_id,
            name=run.info.run_name,
            metrics=run.data.metrics,
            test_digest=run.data.tags.get("corpus.test.sha256"),
            versions={version.name: str(version.version) for version in versions},
        )

    def table(self, run_id: str, file: str) -> pa.Table | None:
        with TemporaryDirectory() as folder, self.writing(), _silence():
            if file not in {artifact.path for artifact in self.client.list_artifacts(run_id)}:
                return None
            return pq.read_table(self.client.download_artifacts(run_id, file, folder), memory_map=False)

    def champion(self, model: str) -> Version | None:
        with self.writing():
            if "champion" not in self.client.get_registered_model(model).aliases:
                return None
            version = self.client.get_model_version_by_alias(model, "champion")
            return Version(str(version.version), version.run_id)

    def promote(self, model: str, version: str, reason: Mapping[str, str]) -> None:
        facts = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "by": _user() or "unknown"}
        with self.writing():
            # The reason first: a champion without one would be worse than a reason too many.
            for key, value in {**reason, **facts}.items():
                self.client.set_model_version_tag(model, version, f"duanti.promoted.{key}", value)
            self.client.set_registered_model_alias(model, "champion", version)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store's lock; what mlflow raises inside becomes a TrackingError."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with _lock(self.uri):
                yield
        except (self.mlflow.exceptions.MlflowException, SQLAlchemyError, OSError) as error:
            raise TrackingError(f"{self.uri}: the tracking store cannot be used ({_first_line(error)}).") from None


class _TrackedRun:
    """One run in a store."""

    def __init__(self, store: _Store, run_id: str) -> None:
        self.store, self.id = store, run_id

    def log_inputs(self, **corpora: Corpus) -> None:
        from mlflow.data.code_dataset_source import CodeDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput, InputTag

        inputs = []
        for role, corpus in corpora.items():
            source = CodeDatasetSource({"corpus": corpus.name, "sha256": corpus.digest})
            dataset = MetaDataset(source, name=corpus.name, digest=corpus.digest[:_DIGEST_LENGTH])
            inputs.append(DatasetInput(dataset._to_mlflow_entity(), [InputTag("mlflow.data.context", role)]))
        with self.store.writing():
            self.store.client.log_inputs(self.id, inputs)
            for role, corpus in corpora.items():
                self.store.client.set_tag(self.id, f"corpus.{role}.sha256", corpus.digest)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        with self.store.writing():
            entries = [Metric(key, value, now, 0) for key, value in metrics.items()]
            for start in range(0, len(entries), 1000):  # the most a store takes at once
                self.store.client.log_batch(self.id, metrics=entries[start : start + 1000])

    def log_text(self, text: str, file: str) -> None:
        with self.store.writing():
            self.store.client.log_text(self.id, text, file)

    def log_table(self, table: pa.Table, file: str) -> None:
        with TemporaryDirectory() as folder, self.store.writing():
            pq.write_table(table, Path(folder) / file, compression="zstd")
            self.store.client.log_artifact(self.id, str(Path(folder) / file))

    def log_child(
        self,
        name: str,
        settings: Mapping[str, Any],
        metrics: Mapping[str, float],
        seconds: float,
        tags: Mapping[str, str],
    ) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now, client = get_current_time_millis(), self.store.client
        begin = now - round(1000 * seconds)
        with self.store.writing():
            experiment = client.get_run(self.id).info.experiment_id
            run = client.create_run(experiment, begin, {**tags, _PARENT_TAG: self.id}, run_name=name)
            client.log_batch(
                run.info.run_id,
                metrics=[Metric(key, value, now, 0) for key, value in {**metrics, "seconds": seconds}.items()],
                params=_as_params(settings),
            )
            client.set_terminated(run.info.run_id, "FINISHED", now)

    def register_bundle(self, folder: Path, name: str) -> str:
        mlflow, client = self.store.mlflow, self.store.client
        with self.store.writing(), _own_code() as code, _silence(), mlflow.start_run(run_id=self.id):
            logged = mlflow.pyfunc.log_model(
                name="model",
                loader_module="duanti.serving",
                data_path=str(folder),
                code_paths=[str(code)],
                pip_requirements=[f"{package}=={version(package)}" for package in _REQUIREMENTS],
                signature=_signature(multi_label="thresholds" in read_bundle(folder).arrays),
            )
            registered = mlflow.register_model(logged.model_uri, name)
            client.set_registered_model_alias(name, "challenger", registered.version)
            if "champion" not in client.get_registered_model(name).aliases:
                client.set_registered_model_alias(name, "champion", registered.version)
                return f"{name} version {registered.version}, champion"
        return f"{name} version {registered.version}, challenger"


@contextmanager
def _own_code() -> Iterator[Path]:
    """What a logged model carries of duanti: all but what a wheel has for new projects."""
    with TemporaryDirectory() as folder:
        code = Path(folder) / "duanti"
        shutil.copytree(Path(__file__).parent, code, ignore=shutil.ignore_patterns(PACKED, "__pycache__"))
        yield code


@contextmanager
def _silence() -> Iterator[None]:
    """Keep mlflow's advice and announcements off the terminal; its errors still come as exceptions."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _import_mlflow() -> Any | None:
    if importlib.util.find_spec("mlflow") is None:
        return None
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    import mlflow
    import mlflow.pyfunc

    # Importing mlflow sets its loggers' levels again.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    return mlflow


def _start(store: _Store, config: RunConfig, recipe: Path, continued: str | None) -> _TrackedRun:
    from mlflow.entities import RunTag

    name = config.tracking.experiment or config.name
    tags = {
        "mlflow.source.name": str(recipe),
        "mlflow.source.git.commit": git_commit(),
        "mlflow.user": _user(),
        SEARCH_TAG: continued,
    }
    with store.writing():
        experiment = store.client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else store.create_experiment(name)
        begun = _begun(store, experiment_id, continued)
        if begun is not None:
            store.client.update_run(begun, status="RUNNING")
            return _TrackedRun(store, begun)
        run_id = store.client.create_run(experiment_id).info.run_id
        store.client.log_batch(
            run_id,
            params=_as_params(config.flat()),
            tags=[RunTag(key, value) for key, value in tags.items() if value],
        )
        store.client.log_text(run_id, recipe.read_text(encoding="utf-8"), f"recipe/{recipe.name}")
        effective = json.dumps(config.model_dump(mode="json"), ensure_ascii=False, indent=2)
        store.client.log_text(run_id, effective, "recipe/effective.json")
    return _TrackedRun(store, run_id)


def _as_params(settings: Mapping[str, Any]) -> list[Any]:
    """Settings as parameters of a run; MLflow takes no brackets in names, so a blend's member is ``members.0``."""
    from mlflow.entities import Param

    return [
        Param(key.replace("[", ".").replace("]", ""), json.dumps(value, ensure_ascii=False)[:6000])
        for key, value in settings.items()
    ]


def _begun(store: _Store, experiment_id: str, continued: str | None) -> str | None:
    """The run that began some work, if there is one."""
    if continued is None:
        return None
    found = store.client.search_runs([experiment_id], f"tags.`{SEARCH_TAG}` = '{continued}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _signature(*, multi_label: bool) -> Any:
    """What the model takes and gives; ``spark_udf`` reads the types of its struct from here."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array, Object, Property

    row = {
        "document": "string",
        "paragraph": "long",
        "start": "long",
        "end": "long",
        "kind": "string",
        "topic": "string",
        "probability": "double",
        "alternatives": Array(Object([Property("topic", "string"), Property("probability", "double")])),
        **({"topics": Array("string")} if multi_label else {}),
    }
    return ModelSignature(
        inputs=Schema([ColSpec("string", "text"), ColSpec("string", "document", required=False)]),
        outputs=Schema([ColSpec(kind, name, required=False) for name, kind in row.items()]),
        params=ParamSchema(
            [ParamSpec("unit", "string", "text"), ParamSpec("top", "long", 3), ParamSpec("context", "boolean", True)]
        ),
    )


@contextmanager
def _lock(uri: str) -> Iterator[None]:
    """Hold the lock of a SQLite store; stores behind a server keep their own order."""
    database = _database(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with (database.parent / f".{database.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _database(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other."""
    return Path(uri.removeprefix(_SQLITE)).absolute() if uri.startswith(_SQLITE) else None


def _in_full(uri: str) -> str:
    """The address of a store wherever one stands: mlflow keeps stores by address, and the working folder may change."""
    database = _database(uri)
    return uri if database is None else f"{_SQLITE}{database}"


def _refuse_missing_store(store: str, uri: str) -> None:
    """A SQLite store that is not there would be created by looking into it."""
    database = _database(store)
    if database is not None and not database.exists():
        raise TrackingError(
            f"{uri}: no tracking store at {store}. Set MLFLOW_TRACKING_URI, or name the bundle's folder."
        )


def git_commit() -> str:
    """The commit checked out here, marked when files differ from it; empty outside a repository."""
    try:
        commit = _git("rev-parse", "HEAD")
        return f"{commit}-dirty" if _git("status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def _user() -> str:
    return os.environ.get("USER", "")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
