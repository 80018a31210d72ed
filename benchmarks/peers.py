"""What one would write without duanti: batch labelling by scikit-learn + jieba + joblib, and by fastText fed by jieba.

    python benchmarks/peers.py scikit-learn|fasttext train CORPUS MODEL
    python benchmarks/peers.py scikit-learn|fasttext label MODEL INPUT OUTPUT

The usual scripts: pandas reads and writes, joblib spreads chunks over all cores, each process loads the model once. The
features are those of configs/headlines.yaml. For benchmarks/batch.py.
"""

from __future__ import annotations

import importlib
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import jieba
import joblib
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.svm import LinearSVC

from duanti import read_corpus


def cut(text: str) -> list[str]:
    """Tokens of a text."""
    tokens: list[str] = jieba.lcut(text)
    return tokens


def train_scikit_learn(corpus: str, model: str) -> None:
    """Fit words and characters into a linear SVM."""
    labelled = read_corpus(corpus)
    words = TfidfVectorizer(tokenizer=cut, token_pattern=None, sublinear_tf=True, min_df=2)
    characters = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    features = FeatureUnion([("words", words), ("characters", characters)])
    joblib.dump(make_pipeline(features, LinearSVC(C=0.5)).fit(labelled.texts, labelled.topics), model)


def label_scikit_learn(model: str, source: str, target: str) -> None:
    """Label a file."""
    texts = read(source)
    chunks = np.array_split(texts.to_numpy(), joblib.cpu_count() * 4)
    scores = np.concatenate(joblib.Parallel(n_jobs=-1)(joblib.delayed(decide)(model, list(c)) for c in chunks))
    write(load(model).classes_[scores.argmax(axis=1)], scores.max(axis=1), target)


def decide(model: str, texts: list[str]) -> Any:
    """Scores of some texts, in a process of joblib's."""
    jieba.setLogLevel(60)
    return load(model).decision_function(texts)


@lru_cache
def load(model: str) -> Any:
    """The model, once in a process."""
    return joblib.load(model)


def train_fasttext(corpus: str, model: str) -> None:
    """Fit fastText on jieba's tokens, with word pairs."""
    labelled = read_corpus(corpus)
    # Topics by number, because a label must not hold a space.
    topics = sorted(set(labelled.topics))
    Path(f"{model}.topics").write_text("\n".join(topics), encoding="utf-8")
    numbered = map(topics.index, labelled.topics)
    lines = (f"__label__{n} {text}\n" for n, text in zip(numbered, segment(list(labelled.texts)), strict=True))
    Path(f"{model}.txt").write_text("".join(lines), encoding="utf-8")
    fasttext = importlib.import_module("fasttext")
    epochs = max(10, 600_000 // len(labelled))  # few rows have to be seen more often
    fitted = fasttext.train_supervised(f"{model}.txt", wordNgrams=2, epoch=epochs, lr=0.5, thread=1, verbose=0)
    fitted.save_model(model)


def label_fasttext(model: str, source: str, target: str) -> None:
    """Label a file."""
    texts = read(source)
    chunks = np.array_split(texts.to_numpy(), joblib.cpu_count() * 4)
    lines = joblib.Parallel(n_jobs=-1)(joblib.delayed(segment)(list(chunk)) for chunk in chunks)
    fitted = load_fasttext(model)
    labels, scores = fitted.model.predict([line for part in lines for line in part])
    topics = [fitted.topics[int(label[0].removeprefix("__label__"))] for label in labels]
    write(topics, [float(score[0]) for score in scores], target)


class FastText:
    """A trained fastText, with topics as they were before they became labels."""

    def __init__(self, model: str) -> None:
        self.model = importlib.import_module("fasttext").load_model(model)
        self.topics = Path(f"{model}.topics").read_text(encoding="utf-8").split("\n")

    def label(self, texts: Any) -> list[str]:
        """The topic of each text."""
        labels, _ = self.model.predict(segment(list(texts)))
        return [self.topics[int(label[0].removeprefix("__label__"))] for label in labels]


def load_fasttext(model: str) -> FastText:
    """Load what ``train_fasttext`` wrote."""
    return FastText(model)


def segment(texts: list[str]) -> list[str]:
    """Tokens of some texts with spaces between them, in a process of joblib's."""
    jieba.setLogLevel(60)
    return [" ".join(cut(text)).replace("\n", " ") for text in texts]


def read(source: str) -> Any:
    """The texts of a file."""
    frame = pd.read_parquet(source) if source.endswith("parquet") else pd.read_json(source, lines=True)
    return frame["text"]


def write(topics: Any, scores: Any, target: str) -> None:
    """Write topics and scores."""
    frame = pd.DataFrame({"topic": topics, "score": scores})
    if target.endswith("parquet"):
        frame.to_parquet(target)
    else:
        frame.to_json(target, orient="records", lines=True)


if __name__ == "__main__":
    # By its name, so that the processes of joblib find what is pickled.
    peers = importlib.import_module("peers")
    peer, verb, *arguments = sys.argv[1:]
    jieba.setLogLevel(60)
    getattr(peers, f"{verb}_{peer.replace('-', '_')}")(*arguments)
