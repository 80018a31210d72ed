"""From a recipe and a labelled corpus to a ``TopicModel``.

Owns scikit-learn's side of training: the classifiers, ``freeze``, which reduces what was fitted to one matrix,
and the out-of-fold scores that calibrate it. Refuses to know files and tracking stores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

from duanti.config import ClassifierConfig, ComplementNBConfig, LinearSVCConfig, RunConfig
from duanti.corpus import Corpus
from duanti.drift import Profile
from duanti.errors import DataError
from duanti.features import TermCounts, load_tables, tally_known
from duanti.model import TopicModel
from duanti.paragraphs import matter
from duanti.segmentation import available_cores
from duanti.vectorizer import TermVectorizer

Progress = Callable[[str], object]


def fit_topic_model(config: RunConfig, corpus: Corpus, *, progress: Progress = lambda stage: None) -> TopicModel:
    """Train on a corpus as the recipe says, and freeze the result.

    ``progress`` is told each stage as it begins. The same recipe, corpus and versions give the same model,
    whatever the number of processes.

    Raises
    ------
    DataError
        when the corpus has fewer than two topics or leaves no terms
    """
    _check_topics(corpus)
    y = np.asarray(corpus.topics, dtype=object)
    n_jobs = config.n_jobs or available_cores()
    vectorizer = make_vectorizer(config)
    progress(f"segmenting {len(corpus):,} texts")
    counts = vectorizer.count([matter(text) for text in corpus.texts])
    folds = np.asarray(corpus.folds(_n_folds(config, corpus), config.seed))
    progress(f"fitting {config.classifier.kind} and {folds.max() + 1} folds")
    classifier = make_classifier(config.classifier, config.seed)
    everything = Split(np.arange(len(corpus)), None)
    (vectorizer, weights, bias), *held_out = _fit_splits(
        vectorizer, classifier, counts, y, [everything, *splits_of(folds)], n_jobs
    )
    progress("calibrating")
    topics = tuple(corpus.topic_counts)
    scores = _gather_scores(held_out, len(y), topics)
    temperature = _temperature(scores, y, topics)
    return TopicModel(
        topics=topics,
        options=vectorizer.options,
        spaces=tuple(vectorizer.spaces_),
        tables=load_tables(vectorizer.options),
        weights=weights,
        bias=bias,
        temperature=temperature,
        provenance={
            "name": config.name,
            "recipe": config.recipe(),
            "corpus": describe_corpus(corpus),
            "reference": _reference(scores, temperature, held_out, topics),
        },
    )


class Split(NamedTuple):
    """Rows to learn from and rows to score with what was learnt; None: keep the model instead."""

    training: NDArray[np.intp]
    held_out: NDArray[np.intp] | None


def splits_of(folds: NDArray[np.intp]) -> list[Split]:
    """Return a split per fold (of each row, 0..n_folds-1): its own rows held out."""
    return [Split(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(folds.max() + 1)]


def held_out_scores(
    vectorizer: TermVectorizer,
    classifier: Any,
    counts: Sequence[TermCounts],
    y: NDArray[np.object_],
    splits: Sequence[Split],
    n_jobs: int,
) -> tuple[NDArray[np.float64], float]:
    """Score each row by a model that did not learn from it.

    Returns scores (n_rows, n_topics), topics sorted, and the temperature that makes their softmax most likely.
    Rows that no split holds out, and topics that their split never saw, have minus infinity.
    """
    topics = sorted(set(y))
    held_out = _fit_splits(vectorizer, classifier, counts, y, splits, n_jobs)
    scores = _gather_scores(held_out, len(y), topics)
    return scores, _temperature(scores, y, topics)


def make_vectorizer(config: RunConfig) -> TermVectorizer:
    """Return the unfitted vectorizer of a recipe."""
    return TermVectorizer(**dict(config.features), n_jobs=config.n_jobs)


def make_classifier(config: ClassifierConfig, seed: int) -> Any:
    """Return the unfitted scikit-learn classifier of a recipe."""
    if isinstance(config, LinearSVCConfig):
        return LinearSVC(C=config.C, class_weight=config.class_weight, random_state=seed, max_iter=10_000)
    if isinstance(config, ComplementNBConfig):
        return ComplementNB(alpha=config.alpha, norm=config.norm)
    return LogisticRegression(C=config.C, class_weight=config.class_weight, max_iter=config.max_iter, random_state=seed)


def freeze(classifier: Any) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Reduce a fitted linear classifier to ``weights`` (n_terms, n_topics) and ``bias`` (n_topics,).

    ``X @ weights + bias`` ranks the topics as the classifier does, and its softmax is the classifier's where
    that has one. Two topics get a column each, half the decision value with either sign. Each row is centred
    over the topics, which softmax and argmax do not see: float32 would cost naive Bayes 1e-5 otherwise.
    """
    if isinstance(classifier, ComplementNB):
        coefficients = classifier.feature_log_prob_.T
        intercept = np.zeros(len(classifier.classes_))
    else:
        # LIBLINEAR and lbfgs keep one row for two topics: the decision for the second.
        coefficients, intercept = classifier.coef_.T, classifier.intercept_
        if len(classifier.classes_) == 2:
            coefficients = np.hstack([-coefficients, coefficients]) / 2
            intercept = np.concatenate([-intercept, intercept]) / 2
    centred = coefficients - coefficients.mean(axis=1, keepdims=True)
    return centred.astype(np.float32), np.asarray(intercept - intercept.mean(), dtype=np.float64)


def fit_temperature(scores: NDArray[np.float64], gold: NDArray[np.intp]) -> float:
    """Return the T that makes ``softmax(scores / T)`` most likely for the gold columns.

    Guo et al. 2017, "On Calibration of Modern Neural Networks": the negative log-likelihood is minimised over
    ln T, within 1/1000 and 1000.
    """
    centred = scores - scores.max(axis=1, keepdims=True)
    gold_scores = centred[np.arange(len(gold)), gold]

    def loss(log_temperature: float) -> float:
        scale = np.exp(-log_temperature)
        return float(np.mean(np.log(np.exp(centred * scale).sum(axis=1)) - gold_scores * scale))

    best = minimize_scalar(loss, bounds=(-np.log(1000), np.log(1000)), method="bounded", options={"xatol": 1e-6})
    # Four digits are all the data can tell.
    return float(f"{np.exp(best.x):.4g}")


def describe_corpus(corpus: Corpus) -> dict[str, Any]:
    """What a bundle records of a corpus: its name, digest and counts, never where it was."""
    return {
        "name": corpus.name,
        "digest": corpus.digest,
        "rows": len(corpus),
        "documents": len(set(corpus.groups)),
        "topics": corpus.topic_counts,
    }


def _check_topics(corpus: Corpus) -> None:
    if len(corpus.topic_counts) < 2:
        only = next(iter(corpus.topic_counts))
        raise DataError(f"{corpus.name}: all {len(corpus)} rows have the topic {only!r}. Training needs two or more.")


def _n_folds(config: RunConfig, corpus: Corpus) -> int:
    """As many folds as asked for, or as there are documents."""
    return min(config.calibration.folds, len(set(corpus.groups)))


class _HeldOut(NamedTuple):
    """What a model says of rows it did not learn from."""

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]  # (n_rows, n_topics)
    topics: NDArray[np.object_]  # that it has seen
    unknown: int  # occurrences of terms that it has not
    occurrences: int


def _fit_splits(
    vectorizer: TermVectorizer,
    classifier: Any,
    counts: Sequence[TermCounts],
    y: NDArray[np.object_],
    splits: Sequence[Split],
    n_jobs: int,
) -> list[Any]:
    return list(
        Parallel(n_jobs=n_jobs, backend="loky")(
            delayed(_fit_split)(clone(vectorizer), clone(classifier), counts, y, split) for split in splits
        )
    )


def _fit_split(
    vectorizer: TermVectorizer, classifier: Any, counts: Sequence[TermCounts], y: NDArray[np.object_], split: Split
) -> Any:
    """Fit on some rows. Returns what the model says of those held out; where none are, the model.

    None where there is nothing to fit.
    """
    with threadpool_limits(1):
        training = [part.select(split.training) for part in counts]
        topics = np.unique(y[split.training])
        if len(topics) < 2:
            return None
        classifier.fit(vectorizer.fit_counts(training).transform_counts(training), y[split.training])
        weights, bias = freeze(classifier)
        if split.held_out is None:
            return vectorizer, weights, bias
        others = [part.select(split.held_out) for part in counts]
        scores = vectorizer.transform_counts(others) @ weights.astype(np.float64) + bias
        tallies = [tally_known(part, space) for part, space in zip(others, vectorizer.spaces_, strict=True)]
        unknown, occurrences = sum(tally.unknown for tally in tallies), sum(tally.occurrences for tally in tallies)
        return _HeldOut(split.held_out, scores, topics, unknown, occurrences)


def _gather_scores(held_out: Sequence[_HeldOut | None], n_rows: int, topics: Sequence[str]) -> NDArray[np.float64]:
    """Scores (n_rows, n_topics); minus infinity for rows nobody held out, and topics their split never saw."""
    column = {topic: number for number, topic in enumerate(topics)}
    scores = np.full((n_rows, len(topics)), -np.inf)
    for part in held_out:
        if part is not None:
            scores[np.ix_(part.rows, np.array([column[topic] for topic in part.topics]))] = part.scores
    return scores


def _temperature(scores: NDArray[np.float64], y: NDArray[np.object_], topics: Sequence[str]) -> float:
    """Temperature over all rows that some fold scored; a topic that a fold never saw cannot be scored by it."""
    column = {topic: number for number, topic in enumerate(topics)}
    gold = np.array([column[topic] for topic in y])
    usable = np.isfinite(scores[np.arange(len(y)), gold])
    return fit_temperature(scores[usable], gold[usable]) if usable.any() else 1.0


def _reference(
    scores: NDArray[np.float64], temperature: float, held_out: Sequence[_HeldOut | None], topics: tuple[str, ...]
) -> dict[str, Any]:
    """What the model makes of its training texts, out of fold: what drift is measured against."""
    profile = Profile(topics, ())
    probabilities = softmax(scores[np.isfinite(scores).any(axis=1)] / temperature, axis=1)
    profile.add_predictions(probabilities.argmax(axis=1), probabilities.max(axis=1))
    for part in held_out:
        if part is not None:
            profile.add_unknown(part.unknown, part.occurrences)
    return profile.as_dict()
