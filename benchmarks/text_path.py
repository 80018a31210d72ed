"""How fast text becomes tokens and terms, beside jieba, rjieba and scikit-learn.

    DUANTI_CORPORA=FOLDER python benchmarks/text_path.py [--texts N] [--repetitions R]

All contenders work on the same texts, one after the other, R times over; the table shows medians. One thread each
unless it says two. Paragraphs are statutes (law_chapters), headlines are news (thucnews). The peers get fewer texts,
because they are slow, and every speed is in characters per second. Writes benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import jieba
import rjieba
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion

from duanti import Segmenter, TermVectorizer, read_corpus
from duanti.segmentation import CodePoints
from results import write_section

Job = Callable[[Sequence[str]], object]


def main() -> int:
    """Measure paragraphs and headlines, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--texts", type=int, default=30_000, help="texts for duanti (default: 30,000)")
    parser.add_argument("--peer-texts", type=int, default=4_000, help="texts for the peers (default: 4,000)")
    parser.add_argument("--repetitions", type=int, default=5, help="times over (default: 5)")
    options = parser.parse_args()
    folder = os.environ.get("DUANTI_CORPORA")
    if not folder:
        print("text_path.py: set DUANTI_CORPORA to the folder that holds law_chapters and thucnews", file=sys.stderr)
        return 2
    jieba.setLogLevel(60)
    jieba.initialize()
    tables = []
    for name, corpus in (("Paragraphs of statutes", "law_chapters"), ("Headlines", "thucnews")):
        texts = read_corpus(Path(folder) / corpus / "train.jsonl.gz").texts[: options.texts]
        tables.append(f"**{name}**\n\n{measure(texts, texts[: options.peer_texts], options.repetitions)}")
    body = "\n\n".join(tables)
    print(body)
    packages = ("duanti", "jieba", "rjieba", "scikit-learn", "numba", "numpy")
    write_section("Text to tokens and terms", body, "python benchmarks/text_path.py", packages)
    return 0


def measure(texts: Sequence[str], few: Sequence[str], repetitions: int) -> str:
    """Return a Markdown table: speed of every contender, and its ratio to jieba or scikit-learn + jieba."""
    rows: list[str] = []
    for task, jobs in tasks(texts, few).items():
        speeds = interleaved(jobs, texts, few, repetitions)
        base = next(iter(speeds.values()))
        rows += [f"| {task} | {name} | {speed / 1e6:.2f} | {speed / base:.1f} |" for name, speed in speeds.items()]
    return "\n".join(["| task | by | M characters/s | ratio |", "|---|---|---:|---:|", *rows])


def tasks(texts: Sequence[str], few: Sequence[str]) -> dict[str, dict[str, tuple[Job, bool]]]:
    """The contenders of each task, the reference first; True: it gets few texts."""
    segmenter = Segmenter(n_jobs=1)
    fitted = {name: make().fit(few) for name, make in PEERS.items()}
    ours = {n: TermVectorizer(n_jobs=n).fit(texts) for n in (1, 2)}
    our_words = TermVectorizer(characters=None, n_jobs=1).fit(texts)
    their_words = words_only(jieba.lcut).fit(few)
    return {
        "boundaries": {
            "jieba.lcut": (lambda batch: [jieba.lcut(text) for text in batch], True),
            "rjieba.cut": (lambda batch: [rjieba.cut(text) for text in batch], False),
            "duanti, boundaries": (lambda batch: segmenter.boundaries(CodePoints.of(batch)), False),
            "duanti, lists of str": (segmenter.cut_all, False),
        },
        "words: transform": {
            "scikit-learn + jieba": (their_words.transform, True),
            "duanti": (our_words.transform, False),
        },
        "words + characters (1, 2): transform": {
            **{name: (peer.transform, True) for name, peer in fitted.items()},
            "duanti": (ours[1].transform, False),
            "duanti, two threads": (ours[2].transform, False),
        },
        "words + characters (1, 2): fit": {
            **{name: (partial(fit_new, make), True) for name, make in PEERS.items()},
            "duanti": (partial(fit_new, partial(TermVectorizer, n_jobs=1)), False),
            "duanti, two threads": (partial(fit_new, partial(TermVectorizer, n_jobs=2)), False),
        },
    }


def interleaved(
    jobs: dict[str, tuple[Job, bool]], texts: Sequence[str], few: Sequence[str], repetitions: int
) -> dict[str, float]:
    """Median characters per second of each job; the jobs take turns, so that a noisy minute hits all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(repetitions + 1):
        for name, (job, gets_few) in jobs.items():
            batch = few if gets_few else texts
            start = time.perf_counter()
            job(batch)
            if turn:  # the first turn warms up
                seconds[name].append((time.perf_counter() - start) / sum(map(len, batch)))
    return {name: 1 / median(values) for name, values in seconds.items()}


def fit_new(make: Callable[[], Any], batch: Sequence[str]) -> object:
    """Fit a new vectorizer."""
    return make().fit(batch)


def words_only(tokenizer: Callable[[str], list[str]]) -> Any:
    """scikit-learn's vectorizer over these words."""
    return TfidfVectorizer(tokenizer=tokenizer, token_pattern=None)


def words_and_characters(tokenizer: Callable[[str], list[str]]) -> Any:
    """scikit-learn's words and characters side by side."""
    characters = TfidfVectorizer(analyzer="char", ngram_range=(1, 2))
    return FeatureUnion([("words", words_only(tokenizer)), ("characters", characters)])


PEERS: dict[str, Callable[[], Any]] = {
    "scikit-learn + jieba": lambda: words_and_characters(jieba.lcut),
    "scikit-learn + rjieba": lambda: words_and_characters(rjieba.cut),
}

if __name__ == "__main__":
    sys.exit(main())
