"""How fast a file becomes a labelled file, beside scikit-learn + jieba + joblib and fastText fed by jieba.

    DUANTI_CORPORA=FOLDER python benchmarks/batch.py [--rows N] [--peer-rows M] [--repetitions R] [--work FOLDER]

Trains configs/headlines.yaml on the headlines (thucnews), then labels paragraphs of statutes (law_chapters): clauses
of them put together anew, so that no two rows are the same. Whole processes, file to file, all cores, one after the
other, R times over; the tables show medians of rows per second. The peers get fewer rows, because they are slow; the
time each takes for a hundredth of its rows is taken away, so that starting counts for nobody. fastText is trained on
the same headlines. Needs pandas, and fasttext-numpy2. Writes benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pyarrow as pa
import pyarrow.parquet as pq

from duanti import read_corpus
from results import write_section

ROOT = Path(__file__).parents[1]

OURS = "import sys; from duanti.cli import main; sys.exit(main(['predict', *sys.argv[1:3], '-o', sys.argv[3]]))"

Command = Callable[[Path, Path], list[str]]


def main() -> int:
    """Train, make the inputs, run everybody in turn, write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=2_000_000, help="rows for duanti (default: 2 million)")
    parser.add_argument("--peer-rows", type=int, default=40_000, help="rows for the peers (default: 40,000)")
    parser.add_argument("--sizes", type=int, nargs="*", default=[100_000, 10_000_000], help="rows of the size table")
    parser.add_argument("--repetitions", type=int, default=3, help="times over (default: 3)")
    parser.add_argument("--work", type=Path, help="folder for inputs and outputs (default: a temporary one)")
    options = parser.parse_args()
    corpora = os.environ.get("DUANTI_CORPORA")
    if not corpora:
        print("batch.py: set DUANTI_CORPORA to the folder that holds law_chapters and thucnews", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        contenders = train(Path(corpora), work)
        sizes = {n // part for n in (options.rows, options.peer_rows, *options.sizes) for part in (1, 100)}
        make_inputs(Path(corpora), work, sorted(sizes))
        body = compare(contenders, work, options.rows, options.peer_rows, options.repetitions)
        print(body, flush=True)
        growth = grow(contenders["duanti"], work, [*options.sizes], options.repetitions)
    print(growth)
    packages = ("duanti", "jieba", "scikit-learn", "fasttext-numpy2", "pyarrow", "numpy")
    write_section("File to file", f"{body}\n\n{growth}", "python benchmarks/batch.py", packages)
    return 0


def train(corpora: Path, work: Path) -> dict[str, Command]:
    """Train everybody on the same headlines. Returns the commands that label a file."""
    headlines = str(corpora / "thucnews" / "train.jsonl.gz")
    python = sys.executable
    recipe = ["configs/headlines.yaml", f"data.train={headlines}", "data.test=null", f"output={work}"]
    subprocess.run([python, "train/fit.py", *recipe, "tracking.enabled=false"], cwd=ROOT, check=True)
    peers = [python, str(ROOT / "benchmarks" / "peers.py")]
    for peer in ("scikit-learn", "fasttext"):
        if not (work / peer).exists():
            subprocess.run([*peers, peer, "train", headlines, str(work / peer)], check=True)

    def runs(*command: str) -> Command:
        return lambda source, target: [*command, str(source), str(target)]

    return {
        "scikit-learn + jieba + joblib": runs(*peers, "scikit-learn", "label", str(work / "scikit-learn")),
        "fastText fed by jieba, in processes": runs(*peers, "fasttext", "label", str(work / "fasttext")),
        "duanti": runs(python, "-c", OURS, str(work / "headlines")),
    }


def make_inputs(corpora: Path, work: Path, sizes: list[int]) -> None:
    """Write so many rows as Parquet and JSON lines, of as many clauses as real paragraphs have, no two the same."""
    paragraphs = [t for part in ("train", "dev") for t in read_corpus(corpora / f"law_chapters/{part}.jsonl.gz").texts]
    of_each = [re.findall(r"[^，。；]+[，。；]?", paragraph) for paragraph in paragraphs]
    clauses = [clause for paragraph in of_each for clause in paragraph]
    for size in sizes:
        if (work / f"{size}.jsonl").exists():
            continue
        source, seen = random.Random(0), set(paragraphs)
        texts = [*seen][:size]
        while len(texts) < size:
            text = "".join(source.choices(clauses, k=len(source.choice(of_each))))
            if text not in seen:
                seen.add(text)
                texts.append(text)
        source.shuffle(texts)
        pq.write_table(pa.table({"text": texts}), work / f"{size}.parquet")
        with (work / f"{size}.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)


def compare(contenders: dict[str, Command], work: Path, rows: int, peer_rows: int, repetitions: int) -> str:
    """Return the table of everybody's rows per second."""
    speeds: dict[tuple[str, str], list[float]] = {}
    for repetition in range(repetitions + 1):
        for name, command in contenders.items():
            for ending in ("parquet", "jsonl"):
                size = rows if name == "duanti" else peer_rows
                seconds = run(command, work, size, ending)[0] - run(command, work, size // 100, ending)[0]
                if repetition:  # the first fills the caches
                    speeds.setdefault((name, ending), []).append((size - size // 100) / seconds)
    ours = {ending: median(speeds["duanti", ending]) for ending in ("parquet", "jsonl")}
    table = ["| format | by | rows/s | duanti is so many times as fast |", "|---|---|---:|---:|"]
    for (name, ending), values in sorted(speeds.items(), key=lambda item: item[0][1], reverse=True):
        table.append(f"| {ending} | {name} | {median(values):,.0f} | {ours[ending] / median(values):.1f} |")
    return "\n".join(table)


def grow(command: Command, work: Path, sizes: list[int], repetitions: int) -> str:
    """Return the table of rows per second, starting included, and peak memory by size of the input."""
    table = ["| rows | format | rows/s, starting aside | peak memory |", "|---:|---|---:|---:|"]
    for ending in ("parquet", "jsonl"):
        base = median(run(command, work, sizes[0] // 100, ending)[0] for _ in range(repetitions)) if sizes else 0.0
        for size in sizes:
            runs = [run(command, work, size, ending) for _ in range(repetitions if size < 5_000_000 else 1)]
            seconds, memory = median(taken for taken, _ in runs) - base, max(peak for _, peak in runs)
            table.append(f"| {size:,} | {ending} | {size / seconds:,.0f} | {memory:,.0f} MB |")
    return "\n".join(table)


def run(command: Command, work: Path, size: int, ending: str) -> tuple[float, float]:
    """Label a file in a new process. Returns seconds and its peak memory in MB."""
    target = work / f"labelled.{ending}"
    target.unlink(missing_ok=True)
    begin = time.perf_counter()
    process = subprocess.Popen(command(work / f"{size}.{ending}", target), stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status or not target.exists():
        raise RuntimeError(f"{process.args!r} failed")
    return time.perf_counter() - begin, usage.ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
