"""What the recipes reach on public corpora, beside plain scikit-learn + jieba and fastText trained on the same rows.

    DUANTI_CORPORA=FOLDER python benchmarks/accuracy.py [--only NAME ...]

Each corpus has a part to train on and one to measure on (tnews has none: a tenth of its documents is held out). Nothing
of the latter is trained on. Seconds are of the whole training process, folds and calibration included, on all cores;
megabytes are of the model on disk. The published figures are on the sets' own tests, which are not here; they stand
beside for orientation. With ``--only``, the rows of other sets stay as they were measured before. Needs pandas, and
fasttext-numpy2. Writes benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import joblib
from sklearn.metrics import accuracy_score, f1_score

from duanti import Corpus, TopicModel, evaluate, read_corpus
from peers import load_fasttext
from results import read_section, write_section

ROOT = Path(__file__).parents[1]
TITLE = "Accuracy on public corpora"


class PublicSet(NamedTuple):
    """A corpus, the files to train and to measure on, and what is published of its test set."""

    train: str
    test: str | None
    published: str


SETS = {
    "thucnews": PublicSet("thucnews/train", "thucnews/dev", "FastText 92.2, BERT 94.8 (three times the rows)"),
    "tnews": PublicSet("tnews/train", None, "BERT-base 56.6, RoBERTa-wwm-large 58.6"),
    "chip_ctc": PublicSet("chip_ctc/train", "chip_ctc/validation", "macro-F1: 27 teams 0.789 (median), 0.810 (best)"),
    "csldcp": PublicSet("csldcp/train", "csldcp/dev", "PET 58.8"),
    "iflytek": PublicSet("iflytek/train", "iflytek/dev", "PET 51.3"),
    "statutes": PublicSet("law_chapters/train", "law_chapters/dev", "-"),
}


def main() -> int:
    """Train and measure every set, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", nargs="*", default=[*SETS], choices=[*SETS], help="sets to measure (default: all)")
    options = parser.parse_args()
    corpora = os.environ.get("DUANTI_CORPORA")
    if not corpora:
        print("accuracy.py: set DUANTI_CORPORA to the folder that holds the corpora", file=sys.stderr)
        return 2
    table = [
        "| set | by | accuracy | macro-F1 | calibration error | training | size | published, on its test |",
        "|---|---|---:|---:|---:|---:|---:|---|",
    ]
    rows = {name: [line for line in read_section(TITLE) if line.startswith(f"| {name} |")] for name in SETS}
    for name in options.only:
        with tempfile.TemporaryDirectory() as work:
            rows[name] = measure(name, SETS[name], Path(corpora), Path(work))
        print("\n".join(rows[name]), flush=True)
    table += [line for name in SETS for line in rows[name]]
    packages = ("duanti", "jieba", "scikit-learn", "fasttext-numpy2", "numpy")
    write_section(TITLE, "\n".join(table), "python benchmarks/accuracy.py", packages)
    return 0


def measure(name: str, public: PublicSet, corpora: Path, work: Path) -> list[str]:
    """Train everybody on the same rows and return the rows of the table."""
    training, test = corpora / f"{public.train}.jsonl.gz", corpora / f"{public.test}.jsonl.gz"
    if public.test is None:
        training, test = hold_out(read_corpus(training), work)
    gold = read_corpus(test)
    rows = []
    seconds = run("train/fit.py", f"configs/{name}.yaml", f"data.train={training}", f"output={work}", *UNTRACKED)
    model = TopicModel.load(work / name)
    views = {"duanti": True, "duanti, without context": False} if model.context is not None else {"duanti": True}
    for by, context in views.items():
        report = evaluate(model, gold, context=context, resamples=100)
        figures = (report.accuracy, report.macro_f1, f"{report.expected_calibration_error:.3f}")
        rows.append(row(name, by, *figures, seconds, size_of(work / name), public.published))
    for peer, predict in (("scikit-learn", predict_scikit_learn), ("fasttext", predict_fasttext)):
        seconds = run("benchmarks/peers.py", peer, "train", str(training), str(work / peer))
        predicted = predict(work / peer, gold.texts)
        figures = (accuracy_score(gold.topics, predicted), f1_score(gold.topics, predicted, average="macro"), "")
        rows.append(row(name, PEERS[peer], *figures, seconds, size_of(work / peer), ""))
    return rows


UNTRACKED = ("tracking.enabled=false", "data.test=null")
PEERS = {"scikit-learn": "scikit-learn + jieba", "fasttext": "fastText fed by jieba"}


def hold_out(corpus: Corpus, work: Path) -> tuple[Path, Path]:
    """Write a tenth of a corpus apart."""
    paths = work / "training.jsonl", work / "held_out.jsonl"
    for part, path in zip(corpus.split(0.1, seed=0), paths, strict=True):
        lines = (json.dumps({"text": t, "topic": y}) for t, y in zip(part.texts, part.topics, strict=True))
        path.write_text("\n".join(lines), encoding="utf-8")
    return paths


def predict_scikit_learn(model: Path, texts: Any) -> Any:
    """Topics by the pipeline of peers.py."""
    return joblib.load(model).predict(texts)


def predict_fasttext(model: Path, texts: Any) -> Any:
    """Topics by fastText."""
    return load_fasttext(str(model)).label(texts)


def run(*command: str) -> float:
    """Run a program of the repository; return its seconds."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - begin


def size_of(path: Path) -> float:
    """Megabytes of a file or folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def row(
    name: str, by: str, accuracy: float, macro_f1: float, ece: str, seconds: float, megabytes: float, published: str
) -> str:
    """A row of the table."""
    cells = (
        name,
        by,
        f"{accuracy:.1%}",
        f"{macro_f1:.3f}",
        ece,
        f"{seconds:,.0f} s",
        f"{megabytes:,.0f} MB",
        published,
    )
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
