"""What the context of documents costs: rows per second with and without it, file to file.

    DUANTI_CORPORA=FOLDER python benchmarks/context.py [--rows N] [--repetitions R]

Trains configs/statutes.yaml on law_chapters/train, then labels statutes of law_chapters, each under many names, as
Parquet, with context and with --no-context, in turn. Whole processes, all cores; medians; the time for a hundredth of
the rows is taken away. Writes benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

from duanti import read_corpus
from results import write_section

ROOT = Path(__file__).parents[1]
PREDICT = "import sys; from duanti.cli import main; sys.exit(main(['predict', *sys.argv[1:]]))"
VIEWS: dict[str, list[str]] = {"with context": [], "without (--no-context)": ["--no-context"]}


def main() -> int:
    """Train, make the inputs, run both in turn, write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows (default: 1 million)")
    parser.add_argument("--repetitions", type=int, default=3, help="times over (default: 3)")
    options = parser.parse_args()
    corpora = os.environ.get("DUANTI_CORPORA")
    if not corpora:
        print("context.py: set DUANTI_CORPORA to the folder that holds law_chapters", file=sys.stderr)
        return 2
    statutes = Path(corpora) / "law_chapters" / "train.jsonl.gz"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        recipe = ["configs/statutes.yaml", f"data.train={statutes}", "data.test=null", f"output={work}"]
        subprocess.run([sys.executable, "train/fit.py", *recipe, "tracking.enabled=false"], cwd=ROOT, check=True)
        sizes = (options.rows, options.rows // 100)
        for size in sizes:
            make_input(statutes, work, size)
        speeds: dict[str, list[float]] = {view: [] for view in VIEWS}
        for repetition in range(options.repetitions + 1):
            for view, flags in VIEWS.items():
                seconds = run(work, sizes[0], flags) - run(work, sizes[1], flags)
                if repetition:  # the first fills the caches
                    speeds[view].append((sizes[0] - sizes[1]) / seconds)
    without = median(speeds["without (--no-context)"])
    rows = ["| topics of paragraphs | rows/s | ratio |", "|---|---:|---:|"]
    rows += [f"| {view} | {median(found):,.0f} | {median(found) / without:.2f} |" for view, found in speeds.items()]
    body = "\n".join(rows)
    print(body)
    write_section("The price of context", body, "python benchmarks/context.py", ("duanti", "numba", "numpy"))
    return 0


def make_input(statutes: Path, work: Path, size: int) -> None:
    """Write so many paragraphs; a statute that comes again has another name."""
    corpus = read_corpus(statutes)
    texts = list(islice(cycle(corpus.texts), size))
    documents = [f"{row // len(corpus)}-{corpus.documents[row % len(corpus)]}" for row in range(size)]
    pq.write_table(pa.table({"document": documents, "text": texts}), work / f"{size}.parquet")


def run(work: Path, size: int, flags: list[str]) -> float:
    """Label a file in a new process; return its seconds."""
    command = [sys.executable, "-c", PREDICT, str(work / "statutes"), str(work / f"{size}.parquet")]
    begin = time.perf_counter()
    subprocess.run([*command, "-o", str(work / "labelled.parquet"), *flags], check=True, capture_output=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main())
