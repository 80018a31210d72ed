"""What is wrong with a labelled corpus, and how far a measured accuracy can be trusted.

Owns the findings: rows that cannot be used, odd texts, duplicates, contradicting topics, likely label errors, and what
a test set shares with the training set. Refuses to know how rows are read and shown, what makes two texts similar and
how a classifier is fitted; and to change anything: what to do about a finding is for people to decide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from duanti.config import RunConfig
from duanti.corpus import Corpus, Scan, join_topics
from duanti.duplicates import THRESHOLD, Groups, Matches, group_texts, match_texts
from duanti.oddities import ODDITIES, find_oddities
from duanti.paragraphs import matter
from duanti.pipeline import (
    Learner,
    Split,
    gold_of,
    held_out_scores,
    make_vectorizer,
    members_of,
    score_members,
    splits_of,
)
from duanti.segmentation import available_cores
from duanti.thresholds import fit_sigmoids

#: Every kind of finding, in the order they are told, and what it means.
KINDS = {
    "unusable": "rows that training would refuse",
    "label_error": "out of fold another topic is likelier, or another set; the likeliest errors first",
    "contradicting_topics": "the same or nearly the same text has several topics",
    "exact_duplicates": "the same text several times",
    "near_duplicates": "texts that are nearly the same",
    "exact_across": "a text to test on that is to be trained on",
    "near_across": "a text to test on that is nearly one to be trained on",
    "shared_document": "a document with paragraphs on both sides",
    "rare_topic": "a topic in fewer documents than there are folds",
    **ODDITIES,
}

_N_FOLDS = 5
# A plain, strong baseline: that of configs/headlines.yaml.
_RECIPE = {
    "features": {"words": (1, 1), "characters": (1, 2), "sublinear_tf": True},
    "classifier": {"kind": "linear_svc", "C": 0.5},
}
_PLACE = re.compile(r"(.+), (line|row) (\d+)")


@dataclass(frozen=True)
class Finding:
    """Something to look at: of which kind, where, and what."""

    kind: str
    place: str
    text: str | None
    topic: str | None
    what: str
    detail: dict[str, Any]

    def as_dict(self, others: int | None = None) -> dict[str, Any]:
        """The finding as plain data, for JSON; with ``file`` and ``line`` (from 1) or ``row`` (from 0) apart.

        ``others`` is how many other rows of it are told at most; None: all.
        """
        place = _PLACE.fullmatch(self.place)
        file, unit, number = place.groups() if place else (self.place, None, None)
        where = {"file": file, **({unit: int(number)} if unit and number else {})}
        detail = {key: value[:others] if key == "others" else value for key, value in self.detail.items()}
        return {"kind": self.kind, **where, "text": self.text, "topic": self.topic, "what": self.what, **detail}


@dataclass(frozen=True)
class Leakage:
    """What a test set shares with the training set: counts of test rows, and of documents.

    ``near`` are at least nearly the same as a training text, ``exact`` among them the same; ``contradicting`` among
    them have another topic than that text. ``documents`` stand on both sides.
    """

    rows: int
    exact: int
    near: int
    contradicting: int
    documents: int

    def as_metrics(self) -> dict[str, float]:
        """Shares (0..1) of the test rows and the number of documents, for a tracking store."""
        shares = {f"leakage.{name}": getattr(self, name) / self.rows for name in ("exact", "near", "contradicting")}
        return {**shares, "leakage.documents": self.documents}


@dataclass(frozen=True)
class Reliance:
    """How much of an accuracy (0..1; None of no rows) rests on near duplicates among the texts learnt from.

    ``apart`` is the accuracy when near duplicates of a held-out text are not learnt from; None for a test set.
    """

    rows: int
    accuracy: float | None
    duplicated_rows: int
    duplicated_accuracy: float | None
    other_accuracy: float | None
    apart_accuracy: float | None


@dataclass(frozen=True)
class Audit:
    """All that was found. ``leakage`` only where there is something to test on; ``reliance`` None where no
    classifier can be fitted, for want of topics or documents, or because the corpus is multi-label."""

    corpora: tuple[Corpus, ...]
    findings: tuple[Finding, ...]
    leakage: Leakage | None
    reliance: Reliance | None

    @cached_property
    def by_kind(self) -> dict[str, list[Finding]]:
        """The findings of each kind that has any."""
        kinds: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
        for finding in self.findings:
            kinds[finding.kind].append(finding)
        return {kind: found for kind, found in kinds.items() if found}

    def as_dict(self, top: int) -> dict[str, Any]:
        """The audit as plain data, for JSON, with the first ``top`` findings of each kind, and rows of each."""
        return {
            "corpora": [
                {
                    "name": corpus.name,
                    "rows": len(corpus),
                    "documents": len(set(corpus.groups)),
                    "topics": corpus.topic_counts,
                    "imbalance": imbalance(corpus),
                }
                for corpus in self.corpora
            ],
            "findings": {
                kind: {"count": len(found), "first": [finding.as_dict(top) for finding in found[:top]]}
                for kind, found in self.by_kind.items()
            },
            "leakage": asdict(self.leakage) if self.leakage else None,
            "reliance": asdict(self.reliance) if self.reliance else None,
        }


def audit(
    scan: Scan,
    against: Scan | None = None,
    *,
    threshold: float = THRESHOLD,
    n_jobs: int | None = None,
    progress: Callable[[str], object] = lambda stage: None,
) -> Audit:
    """Look for everything that may be wrong with a labelled corpus, and with it as the training set for another.

    Texts of ``threshold`` (0.5 to 1) are nearly the same. ``progress`` is told each stage as it begins. The number
    of processes changes nothing.
    """
    corpus = scan.corpus
    progress(f"looking for duplicates among {len(corpus):,} texts")
    groups = group_texts(corpus.texts, threshold, n_jobs)
    findings = [*_unusable(scan), *_odd(scan), *_repeated(scan, groups), *_rare_topics(corpus)]
    matches = leak = None
    if against is not None:
        matches = match_texts(against.corpus.texts, corpus.texts, threshold, n_jobs)
        leak = _leakage(corpus, against.corpus, matches)
        findings += [*_unusable(against), *_odd(against), *_across(scan, against, matches), *_shared(scan, against)]
    reliance = None
    if len(corpus.topic_counts) > (0 if corpus.multi_label else 1) and len(set(corpus.groups)) > 1:
        progress("scoring texts by classifiers that did not learn from them")
        jury = _Jury(corpus, against.corpus if against else None, n_jobs or available_cores())
        folds = np.asarray(
            corpus.folds(min(_N_FOLDS, len(set(corpus.groups))), jury.config.seed, copies_together=False)
        )
        splits = _splits_apart(folds, groups.near)
        if corpus.multi_label:
            findings += _topic_errors(scan, jury, splits)
        else:
            scores, temperature = jury.scores(splits)
            findings += _label_errors(scan, jury.topics, scores[: len(corpus)], temperature)
            if matches is None:
                reliance = _reliance_of_folds(jury, folds, groups.near, scores)
            else:
                reliance = _reliance_of_test(jury, matches)
    corpora = (corpus,) if against is None else (corpus, against.corpus)
    return Audit(corpora, tuple(findings), leak, reliance)


def leakage(training: Corpus, test: Corpus, *, threshold: float = THRESHOLD, n_jobs: int | None = None) -> Leakage:
    """Count what a test set shares with the training set."""
    return _leakage(training, test, match_texts(test.texts, training.texts, threshold, n_jobs))


def count_findings(corpus: Corpus, *, threshold: float = THRESHOLD, n_jobs: int | None = None) -> dict[str, int]:
    """Count what can be found in a corpus without fitting classifiers, by kind; a kind without findings is left out.

    A group of duplicates is one finding. It takes seconds for a hundred thousand paragraphs.
    """
    scan = Scan(corpus, [""] * len(corpus), ())
    found = [*_odd(scan), *_repeated(scan, group_texts(corpus.texts, threshold, n_jobs)), *_rare_topics(corpus)]
    counts = Counter(finding.kind for finding in found)
    return {kind: counts[kind] for kind in KINDS if counts[kind]}


def imbalance(corpus: Corpus) -> float:
    """Return the rows of the largest topic over those of the smallest."""
    counts = corpus.topic_counts.values()
    return max(counts) / min(counts) if counts else 1.0


def _leakage(training: Corpus, test: Corpus, matches: Matches) -> Leakage:
    pairs = zip(test.topics, matches.partner.tolist(), strict=True)
    return Leakage(
        rows=len(test),
        exact=int(matches.exact.sum()),
        near=int((matches.partner >= 0).sum()),
        contradicting=sum(row >= 0 and topic != training.topics[row] for topic, row in pairs),
        documents=len(_documents(training).keys() & _documents(test).keys()),
    )


def _documents(corpus: Corpus) -> dict[str, list[int]]:
    """The rows of each document that has a name."""
    rows: dict[str, list[int]] = {}
    for row, document in enumerate(corpus.documents):
        if document is not None:
            rows.setdefault(document, []).append(row)
    return rows


def _finding(scan: Scan, row: int, kind: str, what: str, **detail: Any) -> Finding:
    return Finding(kind, scan.places[row], scan.corpus.texts[row], scan.corpus.topics[row], what, detail)


def _unusable(scan: Scan) -> Iterator[Finding]:
    for place, what in scan.faults:
        yield Finding("unusable", place, None, None, what, {})


def _odd(scan: Scan) -> Iterator[Finding]:
    for row, kind, what in find_oddities(scan.corpus.texts):
        yield _finding(scan, row, kind, what)


def _rare_topics(corpus: Corpus) -> Iterator[Finding]:
    documents: dict[str, set[int]] = {}
    for topics, group in zip(corpus.topic_sets, corpus.groups, strict=True):
        for topic in topics:
            documents.setdefault(topic, set()).add(group)
    for topic, rows in corpus.topic_counts.items():
        if len(documents[topic]) < _N_FOLDS:
            what = f"{rows:,} rows in {len(documents[topic])} documents"
            detail = {"rows": rows, "documents": len(documents[topic])}
            yield Finding("rare_topic", corpus.name, None, topic, what, detail)


def _repeated(scan: Scan, groups: Groups) -> Iterator[Finding]:
    """Duplicates and contradictions within a corpus, those of most rows first."""
    corpus = scan.corpus

    def other(row: int) -> dict[str, Any]:
        return {"place": scan.places[row], "topic": corpus.topics[row], "text": corpus.texts[row]}

    for rows in _members(groups.exact):
        again = [{"place": scan.places[row], "topic": corpus.topics[row]} for row in rows[1:]]
        what = f"{len(rows):,} rows, again: {Path(again[0]['place']).name}"
        yield _finding(scan, rows[0], "exact_duplicates", what, rows=len(rows), others=again)
    distinct = np.flatnonzero(groups.exact == np.arange(len(corpus)))
    for numbers in _members(groups.near[distinct]):
        rows = distinct[numbers].tolist()
        similar = [{**other(row), "similarity": round(float(groups.similarity[row]), 4)} for row in rows[1:]]
        what = f"{len(rows):,} texts, {similar[0]['similarity']:.2f} similar: {similar[0]['text']}"
        yield _finding(scan, rows[0], "near_duplicates", what, rows=len(rows), others=similar)
    for rows in _members(groups.near):
        topics = Counter(corpus.topics[row] for row in rows)
        if len(topics) > 1:
            what = "  ".join(f"{topic} {count:,}" for topic, count in topics.most_common())
            others = [other(row) for row in rows[1:]]
            yield _finding(scan, rows[0], "contradicting_topics", what, topics=dict(topics), others=others)


def _members(leaders: NDArray[np.int64]) -> list[list[int]]:
    """The places of each value that occurs more than once, largest groups first."""
    order = np.argsort(leaders, kind="stable")
    starts = np.flatnonzero(np.diff(leaders[order], prepend=-1))
    parts = [part.tolist() for part in np.split(order, starts[1:]) if len(part) > 1]
    return sorted(parts, key=len, reverse=True)


def _across(scan: Scan, against: Scan, matches: Matches) -> Iterator[Finding]:
    """Rows to test on that are like rows to train on."""
    corpus = scan.corpus
    for row in np.flatnonzero(matches.partner >= 0).tolist():
        partner, similarity = int(matches.partner[row]), round(float(matches.similarity[row]), 4)
        other = {"place": scan.places[partner], "topic": corpus.topics[partner], "text": corpus.texts[partner]}
        like = {"similarity": similarity, "others": [other]}
        if matches.exact[row]:
            yield _finding(against, row, "exact_across", f"the same: {Path(other['place']).name}", **like)
        else:
            yield _finding(against, row, "near_across", f"{similarity:.2f} similar: {other['text']}", **like)
        if other["topic"] != against.corpus.topics[row]:
            what = f"{other['topic']}: {Path(other['place']).name}"
            yield _finding(against, row, "contradicting_topics", what, **like)


def _shared(scan: Scan, against: Scan) -> Iterator[Finding]:
    known = _documents(scan.corpus)
    for document, rows in _documents(against.corpus).items():
        if document in known:
            what = f"{document}: {len(known[document]):,} rows to train on, {len(rows):,} to test on"
            detail = {"document": document, "training_rows": len(known[document]), "test_rows": len(rows)}
            yield _finding(against, rows[0], "shared_document", what, **detail)


class _Jury:
    """Classifiers of a plain recipe, fitted on parts of one or two corpora whose terms are counted once."""

    def __init__(self, corpus: Corpus, against: Corpus | None, n_jobs: int) -> None:
        self.config = RunConfig.model_validate({"name": "check", "data": {"train": corpus.name}, **_RECIPE})
        self.n_jobs = n_jobs
        self.n_training = len(corpus)
        texts = [*corpus.texts, *(against.texts if against else ())]
        topics = [*corpus.topics, *(against.topics if against else ())]
        both = Corpus(corpus.name, texts, topics, [None] * len(texts), corpus.multi_label)
        self.topics, self.gold = tuple(both.topic_counts), gold_of(both)
        self.vectorizer = make_vectorizer(self.config.model_copy(update={"n_jobs": n_jobs}))
        self.counts = self.vectorizer.count([matter(text) for text in texts])

    def scores(self, splits: Sequence[Split]) -> tuple[NDArray[np.float64], float]:
        """``held_out_scores`` of these splits of the rows, those of the first corpus first."""
        learner = Learner(self.vectorizer, members_of(self.config.classifier), self.config.seed)
        return held_out_scores(learner, self.counts, self.gold, splits, self.n_jobs)

    def probabilities(self, splits: Sequence[Split]) -> NDArray[np.float64]:
        """How likely each row has each topic, by classifiers that did not learn from it; NaN where none judged it."""
        members = score_members(self.config, self.counts, self.gold, splits, self.n_jobs)
        told = fit_sigmoids(members[0], self.gold).probabilities(members[0])
        return np.where(np.isfinite(members[0]), told, np.nan)

    def hits(self, scores: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Which rows were given their topic; none that nobody scored."""
        hits: NDArray[np.bool_] = (scores.argmax(axis=1) == self.gold) & np.isfinite(scores.max(axis=1))
        return hits


def _splits_apart(folds: NDArray[np.intp], near: NDArray[np.int64]) -> list[Split]:
    """Folds that do not learn from near duplicates of what they hold out.

    Keeping these in one fold would come to the same for texts that stand alone; but documents share phrases, and by
    those nearly all documents of a corpus of statutes would hang together.
    """
    return [
        Split(training[~np.isin(near[training], near[held_out])], held_out)
        for training, held_out in splits_of(folds)
        if held_out is not None
    ]


def _label_errors(
    scan: Scan, topics: Sequence[str], scores: NDArray[np.float64], temperature: float
) -> Iterator[Finding]:
    """Rows whose topic does not have the highest score, by their margins: its score minus the best other's."""
    column = {topic: number for number, topic in enumerate(topics)}
    rows = np.arange(len(scores))
    gold = np.array([column[topic] for topic in scan.corpus.topics])
    given = scores[rows, gold]
    others = scores.copy()
    others[rows, gold] = -np.inf
    best = others.argmax(axis=1)
    # Of a topic that its fold never saw, nothing can be said.
    judged = np.flatnonzero(np.isfinite(given) & np.isfinite(others[rows, best]))
    margin = given[judged] - others[judged, best[judged]]
    for place in np.argsort(margin, kind="stable")[: np.count_nonzero(margin < 0)].tolist():
        row = int(judged[place])
        likelihood = np.exp((scores[row] - scores[row, best[row]]) / temperature)
        probability = round(float(1 / likelihood.sum()), 4)
        detail = {"suggested": topics[best[row]], "probability": probability, "margin": round(float(margin[place]), 4)}
        yield _finding(scan, row, "label_error", f"rather {detail['suggested']} ({probability:.2f})", **detail)


def _topic_errors(scan: Scan, jury: _Jury, splits: Sequence[Split]) -> Iterator[Finding]:
    """Rows that have a topic they are more likely not to have, or lack one, by the topic that is most in doubt."""
    probabilities = jury.probabilities(splits)[: len(scan.corpus)]
    gold = jury.gold[: len(scan.corpus)]
    # Of a topic that its fold never saw, nothing can be said.
    doubt = np.nan_to_num(np.where(gold, 1 - probabilities, probabilities))
    worst = doubt.max(axis=1)
    for row in np.argsort(-worst, kind="stable")[: np.count_nonzero(worst > 0.5)].tolist():
        suggested = join_topics(jury.topics[k] for k in np.flatnonzero(gold[row] ^ (doubt[row] > 0.5)))
        in_doubt = [k for k in np.argsort(-doubt[row], kind="stable").tolist() if doubt[row, k] > 0.5]
        likely = {jury.topics[k]: round(float(probabilities[row, k]), 4) for k in in_doubt}
        told = ", ".join(f"{topic} {probability:.2f}" for topic, probability in likely.items())
        detail = {"suggested": suggested, "probabilities": likely}
        yield _finding(scan, row, "label_error", f"rather {suggested or 'none'} ({told})", **detail)


def _reliance_of_folds(
    jury: _Jury, folds: NDArray[np.intp], near: NDArray[np.int64], apart: NDArray[np.float64]
) -> Reliance:
    """Plain folds, beside folds that do not learn from near duplicates."""
    hits, apart_hits = jury.hits(jury.scores(splits_of(folds))[0]), jury.hits(apart)
    low, high = np.full(len(near), _N_FOLDS), np.full(len(near), -1)
    np.minimum.at(low, near, folds)
    np.maximum.at(high, near, folds)
    return _reliance(hits, (low < high)[near], _mean(apart_hits))


def _reliance_of_test(jury: _Jury, matches: Matches) -> Reliance:
    """A test set, scored by what was learnt from all of the training set."""
    training, test = np.split(np.arange(len(jury.gold)), [jury.n_training])
    scores, _ = jury.scores([Split(training, test)])
    return _reliance(jury.hits(scores)[test], matches.partner >= 0, None)


def _reliance(hits: NDArray[np.bool_], duplicated: NDArray[np.bool_], apart_accuracy: float | None) -> Reliance:
    return Reliance(
        rows=len(hits),
        accuracy=_mean(hits),
        duplicated_rows=int(duplicated.sum()),
        duplicated_accuracy=_mean(hits[duplicated]),
        other_accuracy=_mean(hits[~duplicated]),
        apart_accuracy=apart_accuracy,
    )


def _mean(hits: NDArray[np.bool_]) -> float | None:
    return float(hits.mean()) if len(hits) else None
