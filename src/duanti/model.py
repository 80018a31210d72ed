"""``TopicModel``: what remains of training, and all that predicting needs.

Owns the known terms, one weight matrix, one bias and a link: the score of a topic is the sum of the weights of a
text's terms, its probability the link's. Refuses to know which classifier the weights came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from duanti import __version__
from duanti.bundle import Bundle, read_bundle, write_bundle
from duanti.compilation import kernel
from duanti.context import Context
from duanti.errors import BundleError
from duanti.explanation import Explanation, explain_text
from duanti.features import FeatureOptions, Rows, TermCounts, TermSpace, count_terms, label_of, score_texts, weigh_texts
from duanti.lexicon import Forms, Lexicon, TextTables, read_only
from duanti.paragraphs import WITHOUT_TOPIC, Paragraph, split_paragraphs
from duanti.segmentation import CodePoints, Texts
from duanti.splitting import matter_spans

_Tables = TypeVar("_Tables")


class Alternative(NamedTuple):
    """Another topic the text may have."""

    topic: str
    probability: float


class Prediction(NamedTuple):
    """What a text is about. Without a topic, ``topic`` and ``probability`` are None and there are no alternatives.

    ``topics`` are all that the text has, ``topic`` the first of them; None where the model gives each text one. The
    alternatives begin with the rest of them.
    """

    topic: str | None
    probability: float | None
    alternatives: tuple[Alternative, ...]
    known_terms: int
    topics: tuple[str, ...] | None = None


class Decision(NamedTuple):
    """When a topic is told, learnt so that a promise is kept; None: no promise was asked for.

    ``min_probability``: below it a text has no topic. ``set_probability``: from it on a topic is in the text's set.
    """

    min_probability: float | None = None
    set_probability: float | None = None


class Decisions(NamedTuple):
    """Predictions as arrays: of each text the most probable topics by number, most probable first.

    Without a topic, the numbers are -1 and the probabilities mean nothing.
    """

    topics: NDArray[np.int64]  # (n_texts, top)
    probabilities: NDArray[np.float64]  # (n_texts, top)
    known_terms: NDArray[np.int64]  # (n_texts,)
    sets: NDArray[np.bool_] | None = None  # (n_texts, n_topics): the topics in each text's set, where one is promised
    # (n_texts,): how many topics each text has, where it may have any number: so many come first in its row, which is
    # as long as any has and ends in -1.
    told: NDArray[np.int64] | None = None


_NO_PROMISE = Decision()
NO_TOPIC = Prediction(None, None, (), 0)


@dataclass(frozen=True)
class TopicModel:
    """A linear topic model, immutable and safe to share between threads.

    Parameters
    ----------
    topics
        the topics, in the order of the columns of ``weights``
    options
        how terms are taken from a text and weighed
    spaces
        the known terms, one space per kind, in the order of the rows of ``weights``
    tables
        the dictionary and the forms of code points the model was trained with
    weights, bias
        float32 (n_terms, n_topics) and float64 (n_topics,): ``scores = x @ weights + bias``
    temperature, powers
        probabilities are ``softmax(scores / temperature)``, raised to a power that depends on the highest of them and
        scaled to sum to one: ``powers`` are pairs of a highest probability and the power there, between them a line
    thresholds
        float64 (n_topics,): a text may have several topics, or none: those of at least such a probability, which is
        ``1 / (1 + exp(-score))``, whatever ``temperature`` and ``powers`` are; None: it has the most probable one
    weight_rows
        int32 (n_terms,): the row of ``weights`` of each term, -1 for none; None: each has its own
    context
        decides the topics of paragraphs in the context of their document; None: it has not been learnt
    decision, decision_in_context
        when a topic is told, of texts by themselves and of paragraphs in context
    provenance
        where the model comes from: name, recipe, corpora with digests, metrics
    """

    topics: tuple[str, ...]
    options: FeatureOptions
    spaces: tuple[TermSpace, ...]
    tables: TextTables = field(repr=False)
    weights: NDArray[np.float32] = field(repr=False)
    bias: NDArray[np.float64] = field(repr=False)
    temperature: float = 1.0
    powers: tuple[tuple[float, float], ...] = ()
    thresholds: NDArray[np.float64] | None = None
    weight_rows: NDArray[np.int32] | None = field(default=None, repr=False)
    context: Context | None = field(default=None, repr=False)
    decision: Decision = _NO_PROMISE
    decision_in_context: Decision = _NO_PROMISE
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> TopicModel:
        """Read a bundle.

        Raises
        ------
        BundleError
            when it is missing, damaged or of another format
        """
        bundle = read_bundle(folder)
        manifest, arrays = dict(bundle.manifest), bundle.arrays
        try:
            model = cls(
                topics=tuple(manifest.pop("topics")),
                options=_read_options(manifest.pop("features")),
                temperature=float(manifest.pop("temperature")),
                powers=tuple((knot, power) for knot, power in manifest.pop("powers", ())),
                spaces=tuple(_read_spaces(bundle.terms)),
                tables=TextTables(_read_tables(Lexicon, arrays, "lexicon"), _read_tables(Forms, arrays, "lexicon")),
                context=_read_tables(Context, arrays, "context") if "context/scales" in arrays else None,
                decision=Decision(*manifest.pop("decision", ())),
                decision_in_context=Decision(*manifest.pop("decision_in_context", ())),
                weights=arrays["weights"],
                weight_rows=arrays.get("weight_rows"),
                thresholds=arrays.get("thresholds"),
                bias=arrays["bias"],
                provenance={key: value for key, value in manifest.items() if key not in ("link", "duanti_version")},
            )
        except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise BundleError(f"{folder}: its manifest lacks or garbles {error}. Train the model again.") from None
        n_rows = model.n_terms if model.weight_rows is None else int(model.weight_rows.max(initial=-1)) + 1
        if model.weights.dtype != np.float32 or model.weights.shape != (n_rows, len(model.topics)):
            raise BundleError(f"{folder}: weights of shape {model.weights.shape} do not fit its terms and topics.")
        return model

    def save(self, folder: str | Path) -> None:
        """Write the model as a bundle, in place of the one that is there (see ``bundle.write_bundle``)."""
        manifest = {
            **self.provenance,
            "duanti_version": __version__,
            "topics": list(self.topics),
            "features": asdict(self.options),
            "link": "sigmoid" if self.is_multi_label else "softmax",
            "temperature": self.temperature,
            "powers": self.powers,
            "decision": self.decision,
            "decision_in_context": self.decision_in_context,
        }
        tables = {**self.tables.lexicon._asdict(), **self.tables.forms._asdict()}
        network = self.context._asdict() if self.context is not None else {}
        arrays = {
            "weights": self.weights,
            "bias": self.bias,
            **({} if self.weight_rows is None else {"weight_rows": self.weight_rows}),
            **({} if self.thresholds is None else {"thresholds": self.thresholds}),
            **{f"lexicon/{key}": tables[key] for key in tables},
            **{f"context/{key}": network[key] for key in network},
        }
        write_bundle(folder, Bundle(manifest, _terms_table(self.spaces), arrays))

    def with_provenance(self, **entries: Any) -> TopicModel:
        """Return the same model with more said about where it comes from."""
        return replace(self, provenance={**self.provenance, **entries})

    def predict(self, texts: Sequence[str | None], *, top: int = 3) -> list[Prediction]:
        """Return the topic of each text, with the best of the other topics up to ``top`` in all, or all it has if more.

        A text without a single known term, null or empty, has no topic, and neither has one below the probability that
        the recipe's ``decision`` asks for.
        """
        return self._predictions(self.decide([text or "" for text in texts], top=top))

    def predict_documents(
        self, documents: Sequence[Sequence[str | None]], *, top: int = 3, context: bool = True
    ) -> list[list[Prediction]]:
        """Return the topic of each paragraph of each document, decided in its context where the model knows how."""
        texts = [text or "" for document in documents for text in document]
        begins = np.cumsum([0, *map(len, documents)])
        scores, known_terms = self.score(texts)
        decisions = self.decide_scores(scores, known_terms, top=top, documents=begins[:-1] if context else None)
        predictions = self._predictions(decisions)
        return [predictions[begin:end] for begin, end in pairwise(begins.tolist())]

    def _predictions(self, decisions: Decisions) -> list[Prediction]:
        predictions = []
        for order, probabilities, known in zip(*(part.tolist() for part in decisions[:3]), strict=True):
            if order[0] >= 0:
                ranked = zip(order, probabilities, strict=True)
                best, *others = (Alternative(self.topics[t], p) for t, p in ranked if t >= 0)
                predictions.append(Prediction(*best, tuple(others), known))
            else:
                predictions.append(NO_TOPIC._replace(known_terms=known))
        if decisions.told is None:
            return predictions
        return [
            each._replace(topics=tuple(self.topics[t] for t in order[:n_told]))
            for each, order, n_told in zip(predictions, decisions.topics.tolist(), decisions.told.tolist(), strict=True)
        ]

    def decide(self, texts: Texts, *, top: int = 3, n_jobs: int | None = None) -> Decisions:
        """Return what ``predict`` says, as arrays. A null text counts as an empty one."""
        return self.decide_scores(*self.score(texts, n_jobs), top=top)

    def score(
        self, texts: Texts | CodePoints, n_jobs: int | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the scores of each text (n_texts, n_topics), and how many distinct terms of it are known."""
        matters = self._matter(texts)
        return score_texts(
            matters, self.spaces, self.options, self.tables, self.weights, self.bias, n_jobs, self.weight_rows
        )

    def decide_scores(
        self,
        scores: NDArray[np.float64],
        known_terms: NDArray[np.int64],
        *,
        top: int = 3,
        documents: NDArray[np.int64] | None = None,
        in_document: NDArray[np.bool_] | None = None,
    ) -> Decisions:
        """Return the topics that scores speak for.

        ``documents`` tells with which text each document begins: then its texts, in order, are decided together,
        where the model has learnt the context of documents. Texts that ``in_document`` excludes, and those without a
        known term, are passed over.
        """
        probabilities, in_context = self._link(scores), np.zeros(len(scores), np.bool_)
        if self.thresholds is not None:
            return _tell_each(probabilities, self.thresholds, known_terms, min(max(top, 1), len(self.topics)))
        if self.context is not None and documents is not None:
            in_context = known_terms > 0 if in_document is None else in_document & (known_terms > 0)
            # A paragraph by itself has no context.
            bounds = np.append(documents, len(scores))
            lengths = np.diff(np.concatenate([[0], np.cumsum(in_context)])[bounds])
            in_context = in_context & np.repeat(lengths > 1, np.diff(bounds))
            rows = np.flatnonzero(in_context)
            offsets = np.searchsorted(rows, bounds)
            probabilities[rows] = self.context.posteriors(scores[rows], offsets)
        least = self._by_place("min_probability", in_context)
        decided = known_terms > 0
        if least is not None:
            decided = decided & (probabilities.max(axis=1, initial=0.0) >= least)
        topics = _rank(probabilities, decided, min(max(top, 1), len(self.topics)))
        in_set = self._by_place("set_probability", in_context)
        sets = None if in_set is None else _sets(probabilities, in_set, known_terms)
        return Decisions(topics, np.take_along_axis(probabilities, topics, axis=1), known_terms, sets)

    def _by_place(self, name: str, in_context: NDArray[np.bool_]) -> NDArray[np.float64] | None:
        """A probability of ``Decision`` for each text, by whether it was decided in context; None: no promise."""
        alone, together = getattr(self.decision, name), getattr(self.decision_in_context, name)
        return None if alone is None else np.where(in_context, together, alone)

    def predict_document(self, text: str, *, top: int = 3, context: bool = True) -> list[tuple[Paragraph, Prediction]]:
        """Split a document and return each paragraph with its topic; bylines and boilerplate have none."""
        paragraphs = split_paragraphs(text)
        speaking = [p.text if p.kind not in WITHOUT_TOPIC else None for p in paragraphs]
        (predictions,) = self.predict_documents([speaking], top=top, context=context)
        return list(zip(paragraphs, predictions, strict=True))

    @property
    def n_terms(self) -> int:
        """Number of known terms."""
        return sum(map(len, self.spaces))

    def weights_of(self, terms: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the weights of terms given by their columns, (n, n_topics)."""
        if self.weight_rows is None:
            return np.asarray(self.weights[terms])
        rows = self.weight_rows[terms]
        return np.where((rows >= 0)[:, None], self.weights[np.maximum(rows, 0)], np.float32(0))

    @property
    def is_multi_label(self) -> bool:
        """Whether a text may have several topics, or none."""
        return self.thresholds is not None

    @property
    def gives_sets(self) -> bool:
        """Whether each text gets a set of topics."""
        return self.decision.set_probability is not None

    def scores(self, texts: Texts) -> NDArray[np.float64]:
        """Return the scores of each text, before the link: (n_texts, n_topics)."""
        return self.score(texts)[0]

    def explain(self, text: str) -> Explanation:
        """Return what each known term of a text adds to the score of each topic; with the bias it is all of the score.

        One text at a time and in the open, by Python: some milliseconds for a paragraph.
        """
        return explain_text(text, self.topics, self.spaces, self.options, self.tables, self.weights_of, self.bias)

    def probabilities(self, texts: Texts) -> NDArray[np.float64]:
        """Return the probabilities of each text, (n_texts, n_topics), each row summing to one unless multi-label."""
        return self._link(self.scores(texts))

    def top_terms(self, n: int, *, min_df: int = 3) -> dict[str, list[str]]:
        """Return, per topic, the ``n`` terms of the largest weight among those in ``min_df`` training texts or more."""
        terms = pa.concat_arrays([space.terms for space in self.spaces])
        frequency = np.concatenate([space.document_frequency for space in self.spaces])
        ends = np.cumsum([len(space) for space in self.spaces])
        frequent = np.flatnonzero(frequency >= min(min_df, frequency.max()))
        weights = self.weights_of(frequent)

        def labels(rows: NDArray[np.intp]) -> list[str]:
            kinds = [self.spaces[number].kind for number in np.searchsorted(ends, rows, side="right")]
            return [label_of(kind, term) for kind, term in zip(kinds, terms.take(rows).to_pylist(), strict=True)]

        best = (frequent[_largest(weights[:, column], n)] for column in range(len(self.topics)))
        return {topic: labels(rows) for topic, rows in zip(self.topics, best, strict=True)}

    def count_terms(self, texts: Texts, n_jobs: int | None = None) -> list[TermCounts]:
        """Count all terms of some texts, known or not, one ``TermCounts`` for each space."""
        return count_terms(self._matter(texts), self.options, self.tables, n_jobs)

    def weigh(self, texts: Texts, n_jobs: int | None = None) -> Rows:
        """Return the TF-IDF weights of the known terms of each text, columns in the order of ``spaces``."""
        return weigh_texts(self._matter(texts), self.spaces, self.options, self.tables, n_jobs)

    @staticmethod
    def _matter(texts: Texts | CodePoints) -> CodePoints:
        """What counts of texts: neither a dateline nor a byline does."""
        batch = CodePoints.of(texts)
        return batch.narrowed(*matter_spans(*batch))

    def _link(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.is_multi_label:
            # 1 / (1 + exp(-score)), and no overflow whatever the score.
            return np.asarray(0.5 + 0.5 * np.tanh(scores / 2))
        return link(scores, self.temperature, self.powers)


def _largest(values: NDArray[np.float32], n: int) -> NDArray[np.intp]:
    """The places of the ``n`` largest values, the largest first, of equal ones the first."""
    least = np.partition(values, -n)[-n] if n < len(values) else values.min(initial=np.inf)
    places = np.flatnonzero(values >= least)
    return places[np.argsort(-values[places], kind="stable")[:n]]


def link(scores: NDArray[np.float64], temperature: float, powers: Sequence[tuple[float, float]]) -> NDArray[np.float64]:
    """Return the probabilities that scores stand for, (n_texts, n_topics), as ``TopicModel`` has it."""
    probabilities: NDArray[np.float64] = np.empty_like(scores)
    highest = _softmax(scores, np.full(len(scores), temperature), probabilities)
    if powers:
        # A row to the power of p, scaled to sum to one, is what the p-th part of the temperature gives.
        knots, exponents = np.array(powers).T
        _softmax(scores, temperature / np.interp(highest, knots, exponents), probabilities)
    return probabilities


@kernel
def _softmax(scores: Any, temperatures: Any, probabilities: Any) -> Any:
    """Write ``exp(score / temperature)`` of each row, scaled to sum to one. Returns the highest of each."""
    highest = np.empty(len(scores))
    for i in range(len(scores)):
        most = scores[i].max()
        total = 0.0
        for topic in range(scores.shape[1]):
            probabilities[i, topic] = np.exp((scores[i, topic] - most) / temperatures[i])
            total += probabilities[i, topic]
        for topic in range(scores.shape[1]):
            probabilities[i, topic] /= total
        highest[i] = 1 / total
    return highest


@kernel
def _rank(probabilities: Any, decided: Any, top: int) -> Any:
    """The ``top`` topics of each row, the most probable first, of equal ones the first; -1 where none is decided."""
    ranked = np.full((len(probabilities), top), -1, np.int64)
    taken = np.zeros(probabilities.shape[1], np.bool_)
    for i in range(len(probabilities)):
        if not decided[i]:
            continue
        taken[:] = False
        for place in range(top):
            best = -1
            for topic in range(probabilities.shape[1]):
                if not taken[topic] and (best < 0 or probabilities[i, topic] > probabilities[i, best]):
                    best = topic
            ranked[i, place] = best
            taken[best] = True
    return ranked


def _tell_each(
    probabilities: NDArray[np.float64], thresholds: NDArray[np.float64], known_terms: NDArray[np.int64], top: int
) -> Decisions:
    """All topics from their thresholds on, then of the others the most probable up to ``top`` in all."""
    has = (probabilities >= thresholds) & (known_terms > 0)[:, None]
    told = has.sum(axis=1)
    width = max(top, int(told.max(initial=0)))
    # One more puts what is told before what is not.
    topics = _rank(probabilities + has, told > 0, width)
    topics[np.arange(width) >= np.maximum(told, top)[:, None]] = -1
    return Decisions(topics, np.take_along_axis(probabilities, topics, axis=1), known_terms, told=told)


def _sets(
    probabilities: NDArray[np.float64], in_set: NDArray[np.float64], known_terms: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """The topics from this probability on, at least the most probable; none for a text without a known term."""
    sets = probabilities >= in_set[:, None]
    sets[np.arange(len(sets)), probabilities.argmax(axis=1)] = True
    return sets & (known_terms > 0)[:, None]


def _terms_table(spaces: Sequence[TermSpace]) -> pa.Table:
    return pa.table(
        {
            "kind": pa.array(np.repeat([space.kind for space in spaces], [len(s) for s in spaces])).dictionary_encode(),
            "term": pa.concat_arrays([space.terms for space in spaces]),
            "idf": np.concatenate([space.idf for space in spaces]),
            "document_frequency": np.concatenate([space.document_frequency for space in spaces]),
            "hash": np.concatenate([space.hashes for space in spaces]),
        }
    )


def _read_spaces(table: pa.Table) -> Iterator[TermSpace]:
    # Numbers by DLPack, because pyarrow's own way to numpy brings in pandas where that is installed.
    kinds = table["kind"].combine_chunks()
    start = 0
    for kind, n_terms in zip(kinds.dictionary.to_pylist(), np.bincount(np.from_dlpack(kinds.indices)), strict=True):
        rows = table.slice(start, n_terms).combine_chunks()
        start += rows.num_rows
        names = ("document_frequency", "idf", "hash")
        columns = [read_only(np.from_dlpack(rows[name].combine_chunks())) for name in names]
        yield TermSpace(kind, rows["term"].combine_chunks(), *columns)


def _read_tables(kind: type[_Tables], arrays: Mapping[str, NDArray[Any]], folder: str) -> _Tables:
    fields: Any = kind._fields  # type: ignore[attr-defined]
    return kind(*(read_only(arrays[f"{folder}/{name}"]) for name in fields))


def _read_options(stored: Mapping[str, Any]) -> FeatureOptions:
    """JSON has lists where the options have tuples."""
    options: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    return FeatureOptions(**options)
