"""The search for a better recipe: which settings to try next, what they reach out of fold, and what to remember.

Owns the only import of optuna, the file the trials are kept in, and the cache of counted terms. A search that was
killed goes on where it stopped, and several may share the work. Refuses to know how a model is fitted, where the
corpus comes from, and tracking stores: whoever asks is told of each trial.

    OUTPUT/.NAME.search/trials.db    one study per recipe, space and corpus
    OUTPUT/.NAME.search/lock         held by whoever reads or writes that
    OUTPUT/.NAME.search/*.alive      held by each search as long as it lives: the trials of others are taken up again
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import optuna
from joblib import Memory
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from duanti import __version__
from duanti.compilation import cache_folder, source_digest
from duanti.config import RunConfig, SearchRange, searched_settings, takes_fractions
from duanti.corpus import Corpus
from duanti.errors import ConfigError, DataError, TrackingError
from duanti.evaluation import accuracy_of, confusion_of, macro_f1_of
from duanti.features import FeatureOptions, TermCounts, TermKind, count_terms, load_tables
from duanti.multi_label import set_figures
from duanti.paragraphs import matter
from duanti.pipeline import Split, gold_of, join_members, make_vectorizer, score_members, splits_of, tell_topics
from duanti.segmentation import available_cores

optuna.logging.set_verbosity(optuna.logging.ERROR)

_RANDOM_TRIALS = 10  # before the sampler has something to learn from
_FIRST_FOLDS = 2  # after which a trial that promises little is given up
_CACHE_BYTES = "8G"
_CACHE_AGE = timedelta(days=30)


@dataclass(frozen=True)
class Trial:
    """What some settings reach. ``value`` is of the metric searched for; None where they could not be fitted.

    ``figures``: macro-F1 and accuracy (and micro-F1 if multi-label) of the rows held out so far, all of them unless
    ``given_up``.
    """

    number: int
    settings: dict[str, Any]
    value: float | None
    figures: dict[str, float]
    given_up: bool = False
    fault: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Standing:
    """Where a search is: how many trials were made, in all, and the best of them."""

    done: int
    best: Trial | None


Told = Callable[[Trial, Standing], object]


def search(
    config: RunConfig,
    corpus: Corpus,
    *,
    trials: int | None = None,
    seconds: float | None = None,
    told: Told = lambda trial, standing: None,
) -> Standing:
    """Try settings of the recipe's space until there are so many trials in all, or so many seconds are over.

    Trials that an earlier search made of the same recipe, space and corpus count, and so do those that another one
    makes at the same time. ``told`` hears of each trial made here, and where the search then is.

    Raises
    ------
    ConfigError
        when the space is empty
    DataError
        when the corpus cannot be dealt to folds, or no settings could be fitted
    """
    if not config.search.space:
        raise ConfigError(f"{config.name}: nothing to search. Give the recipe a section search, see docs/recipes.md.")
    objective = _Objective(config, corpus)
    end = time.monotonic() + seconds if seconds is not None else float("inf")
    with _Trials.open(study_folder(config), study_name(config, corpus), config) as study:
        while time.monotonic() < end:
            trial = study.begin(trials)
            if trial is None:
                break
            done = study.known(trial) or objective.measure(trial, study.gives_up)
            told(done, study.finish(done))
        return study.standing()


def study_folder(config: RunConfig) -> Path:
    """Return where the trials of a recipe are kept."""
    return Path(config.output) / f".{config.name}.search"


def study_name(config: RunConfig, corpus: Corpus) -> str:
    """Return what trials have in common that may be compared: a digest of recipe, space, corpus and version."""
    decisive = [config.recipe(), config.search.model_dump(mode="json"), corpus.digest, __version__]
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def write_best(config: RunConfig, recipe: Path, standing: Standing, file: Path) -> Trial:
    """Write the recipe of the best trial, whole or not at all, and return that trial.

    Raises
    ------
    DataError
        when there is none, or the file cannot be written
    """
    best = standing.best
    if best is None or best.value is None:
        raise DataError(f"{recipe}: no trial was finished. Give the search more trials or minutes.")
    metric = config.search.metric.replace("_f1", "-F1")
    found = ", ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in best.settings.items())
    head = (
        f"# {recipe.name} with the best settings of {standing.done} trials: {metric} {best.value:.4f} out of fold.",
        f"# Found: {found}",
        "#",
        f"#   python train/fit.py {file}",
    )
    text = "\n".join([*head, "", config.with_settings(best.settings).as_yaml()])
    beside = file.with_name(f".{file.name}.{uuid4().hex[:8]}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        raise DataError(f"{file}: cannot be written ({error.strerror}).") from None
    return best


class _Objective:
    """What settings reach out of fold on one corpus."""

    def __init__(self, config: RunConfig, corpus: Corpus) -> None:
        self.config = config
        self.n_jobs = config.n_jobs or available_cores()
        self.gold, self.n_topics = gold_of(corpus), len(corpus.topic_counts)
        n_folds = min(config.calibration.folds, len(corpus.units))
        least, told = (1, "a topic") if corpus.multi_label else (2, "two topics")
        if self.n_topics < least or n_folds < 2:
            raise DataError(f"{corpus.name}: a search needs {told} and two documents, to learn from and to score.")
        self.splits = splits_of(np.asarray(corpus.folds(n_folds, config.seed)))
        self.texts = [matter(text) for text in corpus.texts]
        self.digest = _digest_in_order(corpus)
        self.memory = _open_memory()

    def measure(self, trial: optuna.Trial, gives_up: Callable[[optuna.Trial, float], bool]) -> Trial:
        """Fit fold after fold; after the first ones, ask whether to go on."""
        begin = time.monotonic()
        settings = trial.user_attrs["settings"]
        figures: dict[str, float] = {}
        given_up, fault = False, None
        try:
            for splits, figures in self._stages(self.config.with_settings(settings)):
                given_up = len(splits) < len(self.splits) and gives_up(trial, figures[self.config.search.metric])
                if given_up:
                    break
        except (ConfigError, DataError) as error:
            fault = str(error)
        value = figures[self.config.search.metric] if figures and not fault else None
        return Trial(trial.number, settings, value, figures, given_up, fault, time.monotonic() - begin)

    def _stages(self, config: RunConfig) -> Iterator[tuple[list[Split], dict[str, float]]]:
        """The splits that are done, and the figures they make: of the first folds, then of all.

        These are the same for any number of processes, so that the same trials are given up.
        """
        counts = self.count(make_vectorizer(config).options)
        first = _FIRST_FOLDS if len(self.splits) > _FIRST_FOLDS + 1 else len(self.splits)
        done: list[Split] = []
        members = None
        for splits in filter(None, (self.splits[:first], self.splits[first:])):
            scores = score_members(config, counts, self.gold, splits, self.n_jobs)
            members = scores if members is None else np.maximum(members, scores)
            done += splits
            yield done, self.figures(config, members, done)

    def count(self, options: FeatureOptions) -> list[TermCounts]:
        """Count the terms, or find the counts that any search made with the options that decide counting."""
        count = self.memory.cache(_count, ignore=["texts", "n_jobs"])
        return [
            count(self.digest, source_digest(), kind, options.counting(kind), self.texts, self.n_jobs)
            for kind in options.kinds
        ]

    def figures(self, config: RunConfig, members: NDArray[np.float64], splits: Sequence[Split]) -> dict[str, float]:
        """Macro-F1 and accuracy of the rows these splits hold out; of a multi-label corpus micro-F1 too."""
        held_out = [split.held_out for split in splits if split.held_out is not None]
        rows, folds = np.concatenate(held_out), np.repeat(np.arange(len(held_out)), list(map(len, held_out)))
        gold, scores = self.gold[rows], members[:, rows]
        if gold.ndim == 2:
            (found,) = set_figures(gold, tell_topics(config, scores, gold), [np.ones(len(rows), np.int64)])
            return {"macro_f1": found.macro_f1, "micro_f1": found.micro_f1, "accuracy": found.accuracy}
        usable = np.isfinite(scores).any(axis=(0, 2))
        predicted = np.full(len(rows), self.n_topics)  # no topic
        if usable.any():
            joined = join_members(config.classifier, scores[:, usable], gold[usable], folds[usable])
            predicted[usable] = joined.argmax(axis=1)
        confusion = confusion_of(gold, predicted, self.n_topics)
        return {"macro_f1": macro_f1_of(confusion), "accuracy": accuracy_of(confusion)}


class _Trials:
    """A study on disk, shared by all searches of the same recipe, space and corpus."""

    def __init__(self, folder: Path, name: str, config: RunConfig, alive: Path) -> None:
        self.folder, self.config, self.alive = folder, config, alive
        with _locked(self.folder):
            self.storage = optuna.storages.RDBStorage(
                f"sqlite:///{(folder / 'trials.db').absolute()}", engine_kwargs={"connect_args": {"timeout": 60}}
            )
            self.study = optuna.create_study(
                study_name=name,
                storage=self.storage,
                direction="maximize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
                load_if_exists=True,
            )

    @staticmethod
    @contextmanager
    def open(folder: Path, name: str, config: RunConfig) -> Iterator[_Trials]:
        """Open or make the study, and be known to be alive while the block runs.

        Raises
        ------
        TrackingError
            when the file of the trials is damaged or cannot be written
        """
        from sqlalchemy.exc import SQLAlchemyError

        try:
            folder.mkdir(parents=True, exist_ok=True)
            alive = folder / f"{os.getpid()}-{uuid4().hex[:8]}.alive"
            with ExitStack() as stack:
                stack.callback(alive.unlink, missing_ok=True)
                with _locked(folder):  # nobody sees the file before it is held
                    fcntl.flock(stack.enter_context(alive.open("w")), fcntl.LOCK_EX)
                trials = _Trials(folder, name, config, alive)
                stack.callback(trials.storage.engine.dispose)
                yield trials
        except (OSError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            said = str(error).splitlines()[0]
            raise TrackingError(f"{folder}: cannot keep trials ({said}). Remove the folder to begin anew.") from None

    def begin(self, limit: int | None) -> optuna.Trial | None:
        """Choose what to try next; None when as many trials as the limit are made or being made."""
        with _locked(self.folder):
            self._take_up_the_dead()
            made = [trial for trial in self._all() if _counts(trial) or trial.state == TrialState.RUNNING]
            if limit is not None and len(made) >= limit:
                return None
            trial = self.study.ask()
            trial.set_user_attr("worker", self.alive.name)
            # A sampler of its own for each: what is drawn does not depend on where a search was interrupted.
            self.study.sampler = optuna.samplers.TPESampler(
                n_startup_trials=_RANDOM_TRIALS, seed=(self.config.seed + trial.number) % 2**32
            )
            trial.set_user_attr("settings", _suggest(trial, self.config))
            return trial

    def known(self, trial: optuna.Trial) -> Trial | None:
        """What a trial of the same settings has reached, if there was one."""
        settings = trial.user_attrs["settings"]
        with _locked(self.folder):
            same = [other for other in self._all() if _counts(other) and other.user_attrs["settings"] == settings]
        return _as_trial(same[0], trial.number) if same else None

    def gives_up(self, trial: optuna.Trial, value: float) -> bool:
        """Whether others were better at this point: half of them, once there are some."""
        with _locked(self.folder):
            trial.report(value, 0)
            return bool(trial.should_prune())

    def finish(self, trial: Trial) -> Standing:
        """Keep what a trial has reached."""
        with _locked(self.folder):
            frozen = next(other for other in self._all() if other.number == trial.number)
            kept = {"figures": trial.figures, "fault": trial.fault, "seconds": trial.seconds}
            for key, value in kept.items():
                self.storage.set_trial_user_attr(frozen._trial_id, key, value)
            if trial.fault is not None:
                self.study.tell(trial.number, state=TrialState.FAIL)
            elif trial.given_up:
                self.study.tell(trial.number, state=TrialState.PRUNED)
            else:
                self.study.tell(trial.number, trial.value)
        return self.standing()

    def standing(self) -> Standing:
        """How many trials there are, and the best; the first of those that are equally good."""
        with _locked(self.folder):
            done = [_as_trial(trial, trial.number) for trial in self._all() if _counts(trial)]
        fitted = [trial for trial in done if trial.value is not None and not trial.given_up]
        faults = [trial.fault for trial in done if trial.fault]
        if faults and len(faults) == len(done) >= _RANDOM_TRIALS:
            raise DataError(f"{self.config.name}: none of {len(done)} trials could be fitted. The last: {faults[-1]}")
        return Standing(len(done), max(fitted, key=lambda trial: (trial.value, -trial.number), default=None))

    def _take_up_the_dead(self) -> None:
        """Put the settings of trials whose search is no more into the queue."""
        living = {file.name for file in self.folder.glob("*.alive") if file == self.alive or _lives(file)}
        for trial in self._all():
            if trial.state == TrialState.RUNNING and trial.user_attrs.get("worker") not in living:
                self.storage.set_trial_user_attr(trial._trial_id, "killed", True)
                self.study.tell(trial.number, state=TrialState.FAIL)
                self.study.enqueue_trial(trial.params)

    def _all(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """SQLite keeps writers apart, but not a look and the decision that follows from it."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _suggest(trial: optuna.Trial, config: RunConfig) -> dict[str, Any]:
    """Draw a value of each setting that there is with the kind of classifier drawn first."""
    space = config.search.space
    settings: dict[str, Any] = {}
    if "classifier.kind" in space:
        settings["classifier.kind"] = _draw(trial, "classifier.kind", space["classifier.kind"])
    for key in searched_settings(space, settings.get("classifier.kind", config.classifier.kind)):
        if key not in settings:
            settings[key] = _draw(trial, key, space[key])
    return settings


def _draw(trial: optuna.Trial, key: str, given: tuple[Any, ...] | SearchRange) -> Any:
    if not isinstance(given, SearchRange):
        # Optuna keeps no lists: choices are kept as the JSON of what they are.
        return json.loads(trial.suggest_categorical(key, [json.dumps(choice, ensure_ascii=False) for choice in given]))
    if isinstance(given.low, int) and isinstance(given.high, int) and not takes_fractions(key):
        return trial.suggest_int(key, given.low, given.high, log=given.log)
    # Four digits are more than the data can tell, and can be read.
    return float(f"{trial.suggest_float(key, given.low, given.high, log=given.log):.4g}")


def _counts(trial: FrozenTrial) -> bool:
    """Whether a trial came to an end: also one whose settings could not be fitted, but not one that was killed."""
    return trial.state.is_finished() and "seconds" in trial.user_attrs and "killed" not in trial.user_attrs


def _as_trial(trial: FrozenTrial, number: int) -> Trial:
    kept = trial.user_attrs
    given_up = trial.state == TrialState.PRUNED
    value = None if kept["fault"] else trial.value
    return Trial(number, kept["settings"], value, kept["figures"], given_up, kept["fault"])


def _lives(alive: Path) -> bool:
    """Whether somebody holds the lock of this file; if not, it is removed."""
    try:
        with alive.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    alive.unlink(missing_ok=True)
    return False


def _count(
    digest: str, sources: str, kind: TermKind, options: FeatureOptions, texts: list[str], n_jobs: int
) -> TermCounts:
    """Count terms of one kind; digest and sources say to joblib what the counts depend on."""
    (counts,) = count_terms(texts, options, load_tables(options), n_jobs, [kind])
    return counts


def _open_memory() -> Memory:
    """The cache of counted terms in the user's cache folder, what was not used for long removed."""
    folder = cache_folder()
    memory = Memory(None if folder is None else folder / "search", mmap_mode="r", verbose=0)
    memory.reduce_size(bytes_limit=_CACHE_BYTES, age_limit=_CACHE_AGE)
    return memory


def _digest_in_order(corpus: Corpus) -> str:
    """The corpus's own digest is the same for any order of documents; rows of counts are not."""
    state = hashlib.sha256(corpus.digest.encode())
    for text in corpus.texts:
        state.update(hashlib.sha256(text.encode()).digest())
    return state.hexdigest()
