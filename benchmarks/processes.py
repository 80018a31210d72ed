"""What whole processes take: memory of a fit beside scikit-learn's, seconds to the first token, to the matrix.

    DUANTI_CORPORA=FOLDER python benchmarks/processes.py [--repetitions R]

Each figure comes from new processes, because memory that one task has taken shows in the next, and starting is part
of the price; the table shows medians. Compiled code is cached before. The starter model must have been trained
(`make quickstart`). Writes benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

from results import write_section

ROOT = Path(__file__).parents[1]
LAWS, HEADLINES = "law_chapters/train.jsonl.gz", "thucnews/train.jsonl.gz"

# Each program prints one number. Peak memory is that of the whole process, so the texts themselves count for all.
READ = """
import resource, sys, time
from duanti import read_corpus
texts = read_corpus(sys.argv[1]).texts
def print_peak(): print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
THEIR_FIT = """
import jieba
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion
jieba.setLogLevel(60)
words = TfidfVectorizer(tokenizer=jieba.lcut, token_pattern=None)
FeatureUnion([("words", words), ("characters", TfidfVectorizer(analyzer="char", ngram_range=(1, 2)))]).fit(texts)
print_peak()
"""
OUR_FIT = """
from duanti import TermVectorizer
TermVectorizer().fit(texts)
print_peak()
"""
FILE_TO_MATRIX = """
import sys, time
from duanti import TermVectorizer, read_corpus
start = time.perf_counter()
TermVectorizer().fit_transform(read_corpus(sys.argv[1]).texts)
print(time.perf_counter() - start)
"""
IMPORT_NUMBA = """
import time
start = time.perf_counter()
import numba
print(time.perf_counter() - start)
"""
FIRST_TEXT = """
import time
start = time.perf_counter()
import duanti
duanti.Segmenter().cut("他来到了网易杭研大厦")
print(time.perf_counter() - start)
"""
PREDICT = """
import resource, sys
from duanti.cli import main
sys.argv = ["duanti", "predict", sys.argv[1], sys.argv[2]]
assert main() == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> int:
    """Run every program a few times and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repetitions", type=int, default=5, help="processes for each figure (default: 5)")
    repetitions = parser.parse_args().repetitions
    corpora, model = os.environ.get("DUANTI_CORPORA"), ROOT / "models" / "starter"
    if not corpora or not model.exists():
        print("processes.py: set DUANTI_CORPORA, and train models/starter (make quickstart)", file=sys.stderr)
        return 2
    laws, headlines = str(Path(corpora) / LAWS), str(Path(corpora) / HEADLINES)
    article = str(ROOT / "data" / "starter" / "article.txt")
    tasks: tuple[tuple[str, str, str, str, list[str], int], ...] = (
        ("fit on all statutes, peak memory", "scikit-learn + jieba", "MB", READ + THEIR_FIT, [laws], 1),
        ("fit on all statutes, peak memory", "duanti", "MB", READ + OUR_FIT, [laws], repetitions),
        ("52,310 headlines, file to matrix", "duanti", "s", FILE_TO_MATRIX, [headlines], repetitions),
        ("`import numba` alone", "numba", "s", IMPORT_NUMBA, [], 3 * repetitions),
        ("importing duanti, to the first text segmented", "duanti", "s", FIRST_TEXT, [], 3 * repetitions),
        ("predicting an article, peak memory", "duanti", "MB", PREDICT, [str(model), article], repetitions),
    )
    figures: dict[str, list[float]] = {}
    for repetition in range(max(times for *_, times in tasks) + 1):
        for what, who, _, program, arguments, times in tasks:
            if repetition <= times:
                figures.setdefault(what + who, []).append(run(program, arguments))
    rows = ["| what | by | median |", "|---|---|---:|"]
    for what, who, unit, *_ in tasks:
        middle = median(figures[what + who][1:])  # the first fills the caches
        rows.append(f"| {what} | {who} | {middle:,.{0 if unit == 'MB' else 2}f} {unit} |")
    body = "\n".join(rows)
    print(body)
    write_section(
        "Whole processes", body, "python benchmarks/processes.py", ("duanti", "jieba", "scikit-learn", "numpy")
    )
    return 0


def run(program: str, arguments: list[str]) -> float:
    """Run a program in a new process and return the number it prints last."""
    command = [sys.executable, "-c", program, *arguments]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


if __name__ == "__main__":
    sys.exit(main())
