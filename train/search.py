"""Search for a better recipe: features and classifier, as the recipe's section search says.

    python train/search.py configs/NAME.yaml [--minutes N] [--trials N] [-o FILE] [section.key=value ...]

Tries settings on folds of the training corpus, never on the one to test on. Trials are kept under OUTPUT/.NAME.search:
a search that was killed goes on where it stopped, and two at once share the work. Each trial is an MLflow run below one
for the search. The best recipe is written as a complete YAML; the last line on stdout names it and what it reaches.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from duanti import RunConfig, UsageError, load_config
from duanti.cli import guarded
from duanti.corpus import read_corpora
from duanti.progress import counting
from duanti.search import Standing, Trial, search, study_name, write_best
from duanti.tracking import Run, track

TRIALS = 50


def main() -> int:
    """Parse, search, print."""
    parser = argparse.ArgumentParser(prog="search.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("config", metavar="CONFIG", help="a recipe with a section search")
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", help="settings that differ from it")
    parser.add_argument("--minutes", type=float, metavar="N", help="begin no trial after so many minutes")
    parser.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help=f"trials in all, earlier ones counted; {TRIALS} if neither this nor --minutes is given",
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="the best recipe; OUTPUT/NAME.best.yaml if not given")
    options = parser.parse_intermixed_args()
    return guarded("search.py", lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Search as the recipe says, record it, and say where the best recipe is."""
    for name in ("minutes", "trials"):
        if getattr(options, name) is not None and getattr(options, name) <= 0:
            raise UsageError(f"--{name} {getattr(options, name):g}: give a number above 0.")
    if options.minutes is None and options.trials is None:
        options.trials = TRIALS
    recipe = Path(options.config)
    config = load_config(recipe, options.overrides)
    with Console(stderr=True).status("reading the corpus"):
        training, _ = read_corpora(**dict(config.data), multi_label=config.multi_label, seed=config.seed)
    with track(config, recipe, continued=study_name(config, training)) as tracked, counting() as show:
        tracked.log_inputs(training=training)
        begin = time.monotonic()

        def told(trial: Trial, standing: Standing) -> None:
            record(tracked, trial)
            of_time = (time.monotonic() - begin) / (60 * options.minutes) if options.minutes else 0.0
            of_trials = standing.done / options.trials if options.trials else 0.0
            show(min(1.0, max(of_time, of_trials)), describe(config, trial, standing))

        seconds = 60 * options.minutes if options.minutes else None
        standing = search(config, training, trials=options.trials, seconds=seconds, told=told)
        file = Path(options.output or Path(config.output) / f"{config.name}.best.yaml")
        best = write_best(config, recipe, standing, file)
        tracked.log_metrics({f"best.{name}": value for name, value in best.figures.items()})
        tracked.log_text(file.read_text(encoding="utf-8"), "recipe/best.yaml")
    print(f"{file}  {config.search.metric} {best.value:.4f}  trial {best.number} of {standing.done}")


def record(run: Run, trial: Trial) -> None:
    """Log a trial as a run below the search's."""
    outcome = "not fitted" if trial.fault else "given up" if trial.given_up else "finished"
    run.log_child(f"trial {trial.number}", trial.settings, trial.figures, trial.seconds, {"duanti.trial": outcome})


def describe(config: RunConfig, trial: Trial, standing: Standing) -> str:
    """A trial in a line: what it reached, the best so far, what it tried."""
    value = "not fitted" if trial.value is None else f"{trial.value:.4f}{' given up' if trial.given_up else ''}"
    best = f"best {standing.best.value:.4f}" if standing.best else "none finished"
    settings = " ".join(f"{key}={value}" for key, value in trial.settings.items())
    return f"trial {trial.number}: {config.search.metric} {value}, {best}; {settings}{trial.fault or ''}"


if __name__ == "__main__":
    sys.exit(main())
