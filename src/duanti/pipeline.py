"""From a recipe and a labelled corpus to a ``TopicModel``.

Owns the order of training: terms, classifiers on all rows and on folds, their blend, and what is learnt from the
out-of-fold scores: probabilities, thresholds, context. Refuses to know files, tracking stores, and how each is done.

``gold`` is what rows are to be told to be: (n_rows,) the column of each row's topic, or, where a row may have several
topics or none, (n_rows, n_topics) whether it has each (``gold_of``). What is done differs by its dimensions alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from duanti.calibration import (
    Stacking,
    fit_powers,
    fit_temperature,
    learn_stacking,
    learn_weights,
    threshold_of_coverage,
    threshold_of_precision,
    tune_bias,
)
from duanti.classifiers import fit_frozen, fit_one_vs_rest
from duanti.config import BlendConfig, ClassifierConfig, DecisionConfig, MemberConfig, RunConfig
from duanti.context import Context
from duanti.context_training import fit_context
from duanti.corpus import Corpus
from duanti.drift import Profile
from duanti.errors import DataError
from duanti.features import TermCounts, TermSpace, load_tables, name_of, tally_known
from duanti.model import Decision, TopicModel, link
from duanti.paragraphs import matter
from duanti.segmentation import available_cores
from duanti.thresholds import fit_sigmoids, learn_thresholds, learn_topic_weights
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
    gold, topics = gold_of(corpus), tuple(corpus.topic_counts)
    n_jobs = config.n_jobs or available_cores()
    vectorizer = make_vectorizer(config)
    progress(f"segmenting {len(corpus):,} texts")
    counts = vectorizer.count([matter(text) for text in corpus.texts])
    folds = np.asarray(corpus.folds(_n_folds(config, corpus), config.seed))
    progress(f"fitting {config.classifier.kind} and {folds.max() + 1} folds")
    splits = [Split(np.arange(len(corpus)), None), *splits_of(folds)]
    learner = Learner(vectorizer, members_of(config.classifier), config.seed)
    (vectorizer, members), *held_out = _fit_splits(learner, counts, gold, splits, n_jobs)
    progress("calibrating")
    scores = _gather_scores(held_out, gold)
    if corpus.multi_label:
        promises = _learn_topic_promises(config, scores, gold)
    else:
        promises = _learn_promises(config, corpus, scores, gold, folds, progress)
    weights, bias = _join_frozen(promises, members)
    spaces, weights = _frequent_first(vectorizer.spaces_, weights)
    return TopicModel(
        topics=topics,
        options=vectorizer.options,
        spaces=spaces,
        tables=load_tables(vectorizer.options),
        **_kept_weights(weights, config.bundle.keep_weights),
        bias=bias,
        temperature=promises.temperature,
        powers=promises.powers,
        thresholds=promises.thresholds,
        context=promises.context,
        decision=promises.alone,
        decision_in_context=promises.in_context,
        provenance={
            "name": config.name,
            "recipe": config.recipe(),
            "corpus": describe_corpus(corpus),
            "reference": _reference(promises, held_out, topics),
        },
    )


def _frequent_first(
    spaces: Sequence[TermSpace], weights: NDArray[np.floating[Any]]
) -> tuple[tuple[TermSpace, ...], NDArray[np.floating[Any]]]:
    """Order the terms of each space, and their rows, by document frequency: what most texts need lies close together,
    and stays in the processor's cache."""
    orders = [np.argsort(-space.document_frequency, kind="stable") for space in spaces]
    firsts = np.cumsum([0, *map(len, spaces[:-1])])
    rows = np.concatenate([first + order for first, order in zip(firsts, orders, strict=True)])
    return tuple(space.take(order) for space, order in zip(spaces, orders, strict=True)), weights[rows]


def _kept_weights(weights: NDArray[np.floating[Any]], share: float) -> dict[str, Any]:
    """The largest rows, by their largest weight, and which of them each term has: -1 for none."""
    if share == 1:
        return {"weights": weights.astype(np.float32)}
    n_kept = max(round(share * len(weights)), 1)
    largest = np.argsort(-np.abs(weights).max(axis=1), kind="stable")[:n_kept]
    kept = np.sort(largest)
    rows = np.full(len(weights), -1, np.int32)
    rows[kept] = np.arange(n_kept)
    return {"weights": weights[kept].astype(np.float32), "weight_rows": rows}


def members_of(config: ClassifierConfig) -> tuple[MemberConfig, ...]:
    """Return the classifiers of a blend, or the one there is."""
    return config.members if isinstance(config, BlendConfig) else (config,)


def gold_of(corpus: Corpus) -> NDArray[Any]:
    """Return each row's topic by its column, (n_rows,); if multi-label which topics it has, (n_rows, n_topics)."""
    column = {topic: number for number, topic in enumerate(corpus.topic_counts)}
    columns = np.array([column[topic] for topics in corpus.topic_sets for topic in topics], np.intp)
    if not corpus.multi_label:
        return columns
    gold = np.zeros((len(corpus), len(column)), np.bool_)
    gold[np.repeat(np.arange(len(corpus)), list(map(len, corpus.topic_sets))), columns] = True
    return gold


class _Promises(NamedTuple):
    """What is learnt from out-of-fold scores."""

    scales: NDArray[np.float64]  # (n_members,) or (n_members, n_topics): what members' scores are multiplied with
    bias: NDArray[np.float64]  # (n_topics,): what is added to the scores of topics
    temperature: float
    powers: tuple[tuple[float, float], ...]
    context: Context | None
    alone: Decision
    in_context: Decision
    probabilities: NDArray[np.float64]  # of the rows it is learnt from, alone
    # (n_topics,): from which probability on a text has a topic, where it may have several.
    thresholds: NDArray[np.float64] | None = None
    stacking: Stacking | None = None  # what is made of the weighted sum, before bias is added


def _learn_promises(
    config: RunConfig,
    corpus: Corpus,
    members: NDArray[np.float64],
    gold: NDArray[np.intp],
    folds: NDArray[np.intp],
    progress: Progress,
) -> _Promises:
    """Learn from the members' scores (n_members, n_rows, n_topics); a row that no fold could score is left out."""
    usable = np.isfinite(members[0, np.arange(len(gold)), gold])
    n_topics = members.shape[2]
    if not usable.any():
        return _no_promises(len(members), n_topics)
    scales = _scales(config.classifier, members[:, usable], gold[usable])
    scores = _weighted_sum(scales, members[:, usable])
    stacking = _learn_stacking(config.classifier, scores, gold[usable])
    scores = _stack_apart(config.classifier, scores, gold[usable], folds[usable])
    bias = np.zeros(n_topics)
    if config.decision.tune == "macro_f1":
        progress("tuning for macro-F1")
        bias = tune_bias(scores, gold[usable])
    scores += bias
    temperature = fit_temperature(scores, gold[usable])
    powers = fit_powers(softmax(scores / temperature, axis=1), gold[usable])
    probabilities = link(scores, temperature, powers)
    context, posteriors = None, probabilities
    if config.context == "sequence":
        progress("learning the context of documents")
        groups = np.asarray(corpus.groups)[usable]
        with threadpool_limits(1):
            context, posteriors = _learn_context(scores, probabilities, gold[usable], groups, config.seed)
    return _Promises(
        scales,
        bias,
        temperature,
        powers,
        context,
        _learn_decision(config.decision, probabilities, gold[usable]),
        _learn_decision(config.decision, posteriors, gold[usable]),
        probabilities,
        stacking=stacking,
    )


def _no_promises(n_members: int, n_topics: int) -> _Promises:
    """What there is to say where no row was held out."""
    scales, bias, nothing = np.ones(n_members), np.zeros(n_topics), Decision()
    return _Promises(scales, bias, 1.0, (), None, nothing, nothing, np.empty((0, n_topics)))


def _learn_topic_promises(config: RunConfig, members: NDArray[np.float64], gold: NDArray[np.bool_]) -> _Promises:
    """As ``_learn_promises``, each topic by itself. Its sigmoid goes into weights and bias: scores become log-odds."""
    usable = np.isfinite(members[0]).any(axis=1)
    if not usable.any():
        return _no_promises(len(members), gold.shape[1])._replace(thresholds=np.full(gold.shape[1], 0.5))
    members, gold = members[:, usable], gold[usable]
    scales = _scales(config.classifier, members, gold)
    scores = _weighted_sum(scales, members)
    sigmoids = fit_sigmoids(scores, gold)
    probabilities = sigmoids.probabilities(scores)
    return _Promises(
        scales[:, None] * sigmoids.slopes,
        sigmoids.intercepts,
        temperature=1.0,
        powers=(),
        context=None,
        alone=Decision(),
        in_context=Decision(),
        probabilities=probabilities,
        thresholds=learn_thresholds(probabilities, gold),
    )


def _scales(config: ClassifierConfig, members: NDArray[np.float64], gold: NDArray[Any]) -> NDArray[np.float64]:
    """What brings the members of a blend to one spread, times how much each counts; 1 for one by itself."""
    if not isinstance(config, BlendConfig):
        return np.ones(1)
    known = np.isfinite(members[0])
    spread = np.array([scores[known].std() for scores in members])
    even = _known_or_least(members) / spread[:, None, None]
    learn = learn_weights if gold.ndim == 1 else learn_topic_weights
    weights = learn(list(even), gold) if config.weights == "learned" else np.asarray(config.weights)
    scales: NDArray[np.float64] = weights / weights.sum() / spread
    return scales


def _weighted_sum(scales: NDArray[np.float64], parts: Sequence[Any] | NDArray[Any]) -> Any:
    """Sum of the parts, each times its scale. Minus infinity stays what it is, also where a scale is 0."""
    if len(parts) == 1:
        return parts[0] * scales[0]
    return sum(np.where(np.isneginf(part), part, part * scale) for scale, part in zip(scales, parts, strict=True))


def _known_or_least(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scores, with the least of all in place of those of topics that a split never saw."""
    known = np.isfinite(scores)
    return np.where(known, scores, scores.min(where=known, initial=0.0))


def _learn_stacking(config: ClassifierConfig, scores: NDArray[np.float64], gold: NDArray[np.intp]) -> Stacking | None:
    """What the recipe makes of the scores of all topics; None where it leaves them."""
    if not isinstance(config, BlendConfig) or config.stacking is None:
        return None
    with threadpool_limits(1):
        return learn_stacking(_known_or_least(scores), gold, config.stacking)


def _stack_apart(
    config: ClassifierConfig, scores: NDArray[np.float64], gold: NDArray[np.intp], folds: NDArray[np.intp]
) -> NDArray[np.float64]:
    """The scores of each fold, stacked by what is learnt from the other folds: what is promised of rows never seen."""
    stacked = scores.copy()
    for fold in np.unique(folds):
        own = folds == fold
        stacking = _learn_stacking(config, scores[~own], gold[~own])
        if stacking is not None:
            stacked[own] = stacking.apply(_known_or_least(scores[own]))
    return stacked


def _join_frozen(
    promises: _Promises, members: Sequence[tuple[NDArray[np.float32], NDArray[np.float64]]]
) -> tuple[NDArray[np.floating[Any]], NDArray[np.float64]]:
    """The one matrix of all members, (n_terms, n_topics), and the bias (n_topics,)."""
    weights = _weighted_sum(promises.scales, [weights for weights, _ in members])
    bias = _weighted_sum(promises.scales, [bias for _, bias in members])
    if promises.stacking is not None:
        with threadpool_limits(1):
            weights, bias = weights @ promises.stacking.coupling, promises.stacking.apply(bias)
    return weights, bias + promises.bias


def _learn_context(
    scores: NDArray[np.float64],
    probabilities: NDArray[np.float64],
    gold: NDArray[np.intp],
    groups: NDArray[np.intp],
    seed: int,
) -> tuple[Context | None, NDArray[np.float64]]:
    """The context of documents, whose rows may stand apart, and what it makes of rows it did not learn from."""
    order = np.argsort(groups, kind="stable")
    offsets = np.append(np.flatnonzero(np.diff(groups[order], prepend=-1)), len(order))
    context, held_out = fit_context(_known_or_least(scores)[order], gold[order], offsets, seed)
    posteriors = probabilities.copy()
    if context is not None:
        posteriors[order] = held_out
    return context, posteriors


def _learn_decision(config: DecisionConfig, probabilities: NDArray[np.float64], gold: NDArray[np.intp]) -> Decision:
    least, in_set = None, None
    if config.precision is not None:
        correct = probabilities.argmax(axis=1) == gold
        least = threshold_of_precision(probabilities.max(axis=1), correct, config.precision)
        least = np.inf if least is None else least
    if config.coverage is not None:
        in_set = threshold_of_coverage(probabilities, gold, config.coverage)
    return Decision(least, in_set)


class Learner(NamedTuple):
    """What is fitted on the rows of a split."""

    vectorizer: TermVectorizer
    members: tuple[MemberConfig, ...]
    seed: int


class Split(NamedTuple):
    """Rows to learn from and rows to score with what was learnt; None: keep the model instead."""

    training: NDArray[np.intp]
    held_out: NDArray[np.intp] | None


def splits_of(folds: NDArray[np.intp]) -> list[Split]:
    """Return a split per fold (of each row, 0..n_folds-1): its own rows held out."""
    return [Split(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(folds.max() + 1)]


def held_out_scores(
    learner: Learner,
    counts: Sequence[TermCounts],
    gold: NDArray[np.intp],
    splits: Sequence[Split],
    n_jobs: int,
) -> tuple[NDArray[np.float64], float]:
    """Score each row by a model, of one member, that did not learn from it.

    Returns scores (n_rows, n_topics) and the temperature that makes their softmax most likely.
    Rows that no split holds out, and topics that their split never saw, have minus infinity.
    """
    (scores,) = _gather_scores(_fit_splits(learner, counts, gold, splits, n_jobs), gold)
    usable = np.isfinite(scores[np.arange(len(gold)), gold])
    return scores, fit_temperature(scores[usable], gold[usable]) if usable.any() else 1.0


def score_members(
    config: RunConfig, counts: Sequence[TermCounts], gold: NDArray[Any], splits: Sequence[Split], n_jobs: int
) -> NDArray[np.float64]:
    """Score the rows that splits hold out, by each of the recipe's classifiers: (n_members, n_rows, n_topics).

    All other rows, and topics that a split never saw, have minus infinity.
    """
    learner = Learner(make_vectorizer(config), members_of(config.classifier), config.seed)
    return _gather_scores(_fit_splits(learner, counts, gold, splits, n_jobs), gold)


def join_members(
    config: ClassifierConfig, members: NDArray[np.float64], gold: NDArray[np.intp], folds: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the one score that the members' make, (n_rows, n_topics).

    Weights are learned from these rows if any are, stacking from those of the other folds (n_rows,).
    """
    joined: NDArray[np.float64] = _weighted_sum(_scales(config, members, gold), members)
    return _stack_apart(config, joined, gold, folds)


def tell_topics(config: RunConfig, members: NDArray[np.float64], gold: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which topics rows are told to have, (n_rows, n_topics), by thresholds that are learnt from these rows."""
    told, usable = np.zeros(gold.shape, np.bool_), np.isfinite(members[0]).any(axis=1)
    if usable.any():
        scores = _weighted_sum(_scales(config.classifier, members[:, usable], gold[usable]), members[:, usable])
        probabilities = fit_sigmoids(scores, gold[usable]).probabilities(scores)
        told[usable] = probabilities >= learn_thresholds(probabilities, gold[usable])
    return told


def make_vectorizer(config: RunConfig) -> TermVectorizer:
    """Return the unfitted vectorizer of a recipe."""
    return TermVectorizer(**dict(config.features), n_jobs=config.n_jobs)


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
    if corpus.multi_label:
        _check_topic_sets(corpus)
    elif len(corpus.topic_counts) < 2:
        only = next(iter(corpus.topic_counts))
        raise DataError(f"{corpus.name}: all {len(corpus)} rows have the topic {only!r}. Training needs two or more.")


def _check_topic_sets(corpus: Corpus) -> None:
    if not corpus.topic_counts:
        raise DataError(f"{corpus.name}: none of {len(corpus)} rows has a topic. Training needs rows with one.")
    topic, rows = max(corpus.topic_counts.items(), key=lambda entry: entry[1])
    if rows == len(corpus):
        raise DataError(f"{corpus.name}: all {rows} rows have the topic {topic!r}. Training needs rows without it.")


def _n_folds(config: RunConfig, corpus: Corpus) -> int:
    """As many folds as asked for, or as there are units to deal."""
    return min(config.calibration.folds, len(corpus.units))


class _HeldOut(NamedTuple):
    """What models say of rows they did not learn from."""

    rows: NDArray[np.intp]
    scores: NDArray[np.float64]  # (n_members, n_rows, n_topics)
    topics: NDArray[np.intp]  # that they have seen, by their columns
    unknown: int  # occurrences of terms that they have not
    occurrences: int


def _fit_splits(
    learner: Learner, counts: Sequence[TermCounts], gold: NDArray[Any], splits: Sequence[Split], n_jobs: int
) -> list[Any]:
    calls = (delayed(_fit_split)(learner, counts, gold, split) for split in splits)
    return list(Parallel(n_jobs=n_jobs, backend="loky")(calls))


def _fit_split(learner: Learner, counts: Sequence[TermCounts], gold: NDArray[Any], split: Split) -> Any:
    """Fit on some rows. Returns what the models say of those held out; where none are, the frozen models.

    None where there is nothing to fit.
    """
    with threadpool_limits(1):
        vectorizer: TermVectorizer = clone(learner.vectorizer)
        training = [part.select(split.training) for part in counts]
        topics, target = _learnable(gold[split.training])
        if not len(topics):
            return None
        fit = fit_frozen if target.ndim == 1 else fit_one_vs_rest
        matrix = vectorizer.fit_counts(training).transform_counts(training)
        models = [fit(member, learner.seed, matrix, target, _factors(member, vectorizer)) for member in learner.members]
        if split.held_out is None:
            return vectorizer, models
        others = [part.select(split.held_out) for part in counts]
        unseen = vectorizer.transform_counts(others)
        scores = np.stack([unseen @ weights.astype(np.float64) + bias for weights, bias in models])
        tallies = [tally_known(part, space) for part, space in zip(others, vectorizer.spaces_, strict=True)]
        unknown, occurrences = sum(tally.unknown for tally in tallies), sum(tally.occurrences for tally in tallies)
        return _HeldOut(split.held_out, scores, topics, unknown, occurrences)


def _learnable(gold: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """The topics, by their columns, that can be told apart by these rows, and the part of ``gold`` that is of them."""
    if gold.ndim == 1:
        topics = np.unique(gold)
        return topics if len(topics) > 1 else topics[:0], gold
    topics = np.flatnonzero(gold.any(axis=0) & ~gold.all(axis=0))
    return topics, gold[:, topics]


def _factors(member: MemberConfig, vectorizer: TermVectorizer) -> NDArray[np.float32]:
    """How much each term counts for a member: by its length, and nothing if too few texts have it."""
    factors = []
    for space in vectorizer.spaces_:
        own = np.ones(len(space), np.float32)
        given = getattr(member.length_weights, name_of(space.kind), ())
        if given:
            shortest, _ = vectorizer.options.lengths(space.kind) or (1, 1)
            table = np.array([*given, *[given[-1]] * (int(space.lengths.max()) + 1)], np.float32)
            own = table[space.lengths - shortest]
        factors.append(np.where(space.document_frequency >= member.min_df, own, 0))
    return np.concatenate(factors).astype(np.float32)


def _gather_scores(held_out: Sequence[_HeldOut | None], gold: NDArray[Any]) -> NDArray[np.float64]:
    """Scores (n_members, n_rows, n_topics).

    Minus infinity for rows nobody held out, and topics their split never saw.
    """
    n_topics = gold.shape[1] if gold.ndim == 2 else int(gold.max()) + 1
    n_members = max((len(part.scores) for part in held_out if part is not None), default=1)
    scores = np.full((n_members, len(gold), n_topics), -np.inf)
    for part in held_out:
        if part is not None:
            scores[np.ix_(np.arange(n_members), part.rows, part.topics)] = part.scores
    return scores


def _reference(promises: _Promises, held_out: Sequence[_HeldOut | None], topics: tuple[str, ...]) -> dict[str, Any]:
    """What the model makes of its training texts, out of fold: what drift is measured against."""
    profile, told = Profile(topics, ()), promises.probabilities
    if promises.thresholds is not None:
        told = np.where(told >= promises.thresholds, told, -1.0)
    highest = told.max(axis=1, initial=-1.0)
    decided = highest >= (promises.alone.min_probability or 0.0)
    profile.add_predictions(np.where(decided, told.argmax(axis=1), -1), highest)
    for part in held_out:
        if part is not None:
            profile.add_unknown(part.unknown, part.occurrences)
    return profile.as_dict()
