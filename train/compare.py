"""Compare an experiment's runs with each other and with the champion, and promote the best if it is better.

    python train/compare.py EXPERIMENT [--uri STORE] [--model NAME] [--metric macro_f1] [--level 0.95] [--promote]

The leaderboard goes to stdout: figures with intervals over documents, and the difference to the champion with the
p-value of a paired test on the same test rows. --promote moves the alias champion to the best challenger only if that
is better at the stated level, and records why on the version. The last line says what came of it.
"""

from __future__ import annotations

import argparse
import sys

from rich import box
from rich.console import Console
from rich.table import Table

from duanti import UsageError
from duanti.cli import guarded
from duanti.leaderboard import METRICS, Entry, Leaderboard, decide, rank
from duanti.tracking import open_store


def main() -> int:
    """Parse, compare, print."""
    parser = argparse.ArgumentParser(prog="compare.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("experiment", metavar="EXPERIMENT", help="as the recipe names it, or the recipe's own name")
    parser.add_argument("--uri", metavar="STORE", default="sqlite:///mlflow.db", help="tracking store (%(default)s)")
    parser.add_argument("--model", metavar="NAME", help="registered model, where the runs are of several")
    parser.add_argument("--metric", choices=METRICS, default=METRICS[0], help="what decides (%(default)s)")
    parser.add_argument("--level", type=float, default=0.95, help="of intervals and decision, 0 to 1 (%(default)s)")
    parser.add_argument("--promote", action="store_true", help="make the best challenger champion if it is better")
    options = parser.parse_args()
    return guarded("compare.py", lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Compare as asked, and say what came of it."""
    if not 0 < options.level < 1:
        raise UsageError(f"--level {options.level:g}: give a number between 0 and 1, such as 0.95.")
    store = open_store(options.uri)
    board = rank(store, options.experiment, model=options.model, metric=options.metric, level=options.level)
    show(board)
    verdict = decide(board)
    if options.promote and verdict.better and board.model and verdict.version:
        store.promote(board.model, verdict.version, verdict.reason)
    outcome = ("promoted: " if verdict.better else "not promoted: ") if options.promote else ""
    print(f"{outcome}{verdict.said}")


def show(board: Leaderboard) -> None:
    """Print the leaderboard, and the runs that stand apart."""
    figures = ("accuracy", "± champion", "macro-F1", "± champion", "ECE", "seconds", "MB", "terms")
    table = Table("run", "version", *figures, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for entry in board.entries:
        table.add_row(*describe(entry, board))
    # Without a terminal there is no width to fit into.
    Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 160).print(table)
    for apart, why in board.apart:
        print(f"{apart.id[:8]} {apart.name}: {why}")


def describe(entry: Entry, board: Leaderboard) -> list[str]:
    """One run's cells."""
    report, metrics = entry.report, entry.run.metrics
    version = entry.run.versions.get(board.model or "", "-") + (" champion" if entry.champion else "")
    cost = (("training_seconds", 1.0, ".1f"), ("bundle_bytes", 1e6, ".1f"), ("terms", 1.0, ",.0f"))
    return [
        entry.run.id[:8],
        version,
        interval(report.accuracy, report.accuracy_interval),
        difference(entry, "accuracy"),
        interval(report.macro_f1, report.macro_f1_interval),
        difference(entry, "macro_f1"),
        f"{report.expected_calibration_error:.4f}",
        *(format(metrics[name] / unit, form) if name in metrics else "-" for name, unit, form in cost),
    ]


def interval(value: float, bounds: tuple[float, float]) -> str:
    """A figure and its interval."""
    return f"{value:.4f} [{bounds[0]:.4f}, {bounds[1]:.4f}]"


def difference(entry: Entry, metric: str) -> str:
    """How much better than the champion, and the p-value of that; empty for the champion."""
    found = (entry.against_champion or {}).get(metric)
    return f"{found.difference:+.4f} p={found.p_value:.3g}" if found else "-"


if __name__ == "__main__":
    sys.exit(main())
