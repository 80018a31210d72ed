"""Train one model: one recipe, one run, one bundle.

    python train/fit.py configs/starter.yaml [section.key=value ...]

Reads the labelled corpus, trains and calibrates, evaluates on the test corpus where there is one, writes the bundle
to OUTPUT/NAME, records the run in MLflow and registers the bundle. The last line on stdout names bundle and run.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from duanti import Corpus, Report, RunConfig, TopicModel, evaluate, fit_topic_model, load_config
from duanti.audit import leakage
from duanti.cli import guarded, print_report
from duanti.corpus import read_corpora
from duanti.leaderboard import PREDICTIONS, predictions_table
from duanti.report import confusion_picture
from duanti.tracking import Run, track


def main() -> int:
    """Parse, train, print."""
    parser = argparse.ArgumentParser(prog="fit.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("config", metavar="CONFIG", help="a recipe, such as configs/starter.yaml")
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", help="settings that differ from it")
    options = parser.parse_args()
    return guarded("fit.py", lambda: fit(Path(options.config), options.overrides))


def fit(recipe: Path, overrides: list[str]) -> None:
    """Train as the recipe says, record it, and say where the result is."""
    config = load_config(recipe, overrides)
    with Console(stderr=True).status("reading the corpus") as status:
        training, test = read_corpora(**dict(config.data), multi_label=config.multi_label, seed=config.seed)
        with track(config, recipe) as run:
            run.log_inputs(training=training, **({"test": test} if test else {}))
            begin = time.monotonic()
            model = fit_topic_model(config, training, progress=status.update)
            seconds = time.monotonic() - begin
            report = measure(config, model, test, status.update) if test else None
            alone = measure(config, model, test, status.update, context=False) if test and model.context else None
            if test and report:
                shared = leakage(training, test, n_jobs=config.n_jobs).as_metrics()
                run.log_metrics(shared)
                tested_on = {"corpus": test.name, "digest": test.digest}
                figures = {
                    **report.headline(),
                    **({f"alone.{k}": v for k, v in alone.headline().items()} if alone else {}),
                }
                run.log_metrics(figures)
                model = model.with_provenance(metrics={**figures, **shared, **tested_on})
            folder = Path(config.output) / config.name
            status.update(f"writing {folder}")
            model.save(folder)
            status.update("recording the run")
            run.log_metrics(describe_cost(model, folder, seconds))
            if test and report:
                record(run, report, test)
            registered = run.register_bundle(folder, config.name)
    if report:
        print_report(report, alone, to_stderr=True)
    print(f"{folder}  run {run.id or '-'}  {registered}")


def measure(
    config: RunConfig, model: TopicModel, test: Corpus, progress: Callable[[str], object], *, context: bool = True
) -> Report:
    """Evaluate on the test corpus, as the recipe says."""
    progress(f"evaluating on {len(test):,} texts")
    settings = config.evaluation.model_dump()
    return evaluate(model, test, context=context, **settings, seed=config.seed)


def record(run: Run, report: Report, test: Corpus) -> None:
    """Log the figures, overall and per topic, the confusion matrix, and what was predicted."""
    run.log_metrics(report.as_metrics())
    run.log_text("\n".join(["number,topic", *(f"{n:03d},{t}" for n, t in enumerate(report.topics))]), "topics.csv")
    run.log_text(confusion_picture(report), "confusion.svg")
    run.log_table(predictions_table(test, report.predictions), PREDICTIONS)


def describe_cost(model: TopicModel, folder: Path, seconds: float) -> dict[str, float]:
    """What a model costs: seconds to train, terms, bytes on disk."""
    n_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {"training_seconds": seconds, "terms": model.n_terms, "bundle_bytes": n_bytes}


if __name__ == "__main__":
    sys.exit(main())
