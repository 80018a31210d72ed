"""Train one model: one recipe, one run, one bundle, one report.

    python train/fit.py configs/starter.yaml [section.key=value ...]

Reads the labelled corpus, trains and calibrates, evaluates on the test corpus where there is one, writes the bundle
to OUTPUT/NAME and a page that tells how good it is and why to OUTPUT/NAME.report.html, records the run in MLflow and
registers the bundle. The last line on stdout names bundle and run.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rich.console import Console

from duanti import TopicModel, fit_topic_model, load_config
from duanti.bundle import bundle_digest
from duanti.cli import guarded, print_report, write_whole
from duanti.corpus import read_corpora
from duanti.leaderboard import PREDICTIONS, predictions_table
from duanti.pages import report_page
from duanti.report import Examination, describe_run, examine
from duanti.tracking import Run, git_commit, track


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
            found = examine(config, model, training, test, status.update) if test else None
            if found:
                tested_on = {"corpus": found.test.name, "digest": found.test.digest}
                model = model.with_provenance(metrics={**found.headline(), **tested_on})
            folder = Path(config.output) / config.name
            status.update(f"writing {folder}")
            model.save(folder)
            cost = describe_cost(model, folder, seconds)
            status.update("writing the report")
            provenance = {**cost, "bundle": bundle_digest(folder), "commit": git_commit(), "run": run.id}
            page = report_page(describe_run(config, model, training, found, provenance))
            file = folder.with_name(f"{config.name}.report.html")
            write_whole(file, [page])
            status.update("recording the run")
            run.log_metrics(cost)
            run.log_text(page, "report.html")
            if found:
                record(run, found)
            registered = run.register_bundle(folder, config.name)
    if found:
        print_report(found.report, found.alone, to_stderr=True)
    print(f"report: {file}", file=sys.stderr)
    print(f"{folder}  run {run.id or '-'}  {registered}")


def record(run: Run, found: Examination) -> None:
    """Log the figures, overall and per topic, and what was predicted."""
    run.log_metrics({**found.report.as_metrics(), **found.headline()})
    topics = found.report.topics
    run.log_text("\n".join(["number,topic", *(f"{n:03d},{t}" for n, t in enumerate(topics))]), "topics.csv")
    run.log_table(predictions_table(found.test, found.report.predictions), PREDICTIONS)


def describe_cost(model: TopicModel, folder: Path, seconds: float) -> dict[str, float]:
    """What a model costs: seconds to train, terms, bytes on disk."""
    n_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {"training_seconds": seconds, "terms": model.n_terms, "bundle_bytes": n_bytes}


if __name__ == "__main__":
    sys.exit(main())
