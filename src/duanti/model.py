"""``TopicModel``: what remains of training, and all that predicting needs.

Owns the known terms, one weight matrix, one bias and a link: the score of a topic is the sum of the weights of a
text's terms, its probability the link's. Refuses to know which classifier the weights came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from duanti import __version__, lexicon
from duanti.bundle import Bundle, read_bundle, write_bundle
from duanti.errors import BundleError
from duanti.features import FeatureOptions, TermKind, TermSpace, side_by_side, term_hashes, weigh_texts
from duanti.paragraphs import WITHOUT_TOPIC, Paragraph, matter, split_paragraphs

# Texts scored at once: enough to keep numpy busy, few enough that the products of their terms fit a cache.
_BATCH = 256


class Alternative(NamedTuple):
    """Another topic the text may have."""

    topic: str
    probability: float


class Prediction(NamedTuple):
    """What a text is about. Without a topic, ``topic`` and ``probability`` are None and there are no alternatives."""

    topic: str | None
    probability: float | None
    alternatives: tuple[Alternative, ...]
    known_terms: int


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
    weights, bias
        float32 (n_terms, n_topics) and float64 (n_topics,): ``scores = x @ weights + bias``
    temperature
        probabilities are ``softmax(scores / temperature)``
    provenance
        where the model comes from: name, recipe, corpora with digests, metrics
    """

    topics: tuple[str, ...]
    options: FeatureOptions
    spaces: tuple[TermSpace, ...]
    weights: NDArray[np.float32] = field(repr=False)
    bias: NDArray[np.float64] = field(repr=False)
    temperature: float = 1.0
    provenance: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, folder: str | Path) -> TopicModel:
        """Read a bundle.

        Raises
        ------
        BundleError
            when it is missing, damaged, of another format, or needs another dictionary than the one installed
        """
        bundle = read_bundle(folder)
        try:
            manifest = dict(bundle.manifest)
            needed = manifest.pop("lexicon")
            if needed["digest"] != lexicon.digest():
                raise BundleError(
                    f"{folder}: made with the dictionary of jieba {needed['jieba']}, not with the one installed "
                    f"({lexicon.version()}). Install jieba=={needed['jieba']}."
                )
            return cls(
                topics=tuple(manifest.pop("topics")),
                options=_read_options(manifest.pop("features")),
                temperature=float(manifest.pop("temperature")),
                spaces=tuple(_read_spaces(bundle.terms)),
                weights=bundle.weights,
                bias=bundle.bias,
                provenance={key: value for key, value in manifest.items() if key not in ("link", "duanti_version")},
            )
        except (KeyError, TypeError, pa.ArrowException) as error:
            raise BundleError(f"{folder}: its manifest lacks or garbles {error}. Train the model again.") from None

    def save(self, folder: str | Path) -> None:
        """Write the model as a bundle, in place of the one that is there (see ``bundle.write_bundle``)."""
        manifest = {
            **self.provenance,
            "duanti_version": __version__,
            "topics": list(self.topics),
            "features": asdict(self.options),
            "link": "softmax",
            "temperature": self.temperature,
            "lexicon": {"jieba": lexicon.version(), "digest": lexicon.digest()},
        }
        write_bundle(folder, Bundle(manifest, _terms_table(self.spaces), self.weights, self.bias))

    def with_provenance(self, **entries: Any) -> TopicModel:
        """Return the same model with more said about where it comes from."""
        return replace(self, provenance={**self.provenance, **entries})

    def predict(self, texts: Sequence[str | None], *, top: int = 3) -> list[Prediction]:
        """Return the topic of each text, with the best of the other topics up to ``top`` in all.

        A text without a single known term, null or empty, has no topic.
        """
        predictions: list[Prediction] = []
        for scores, known_terms in self._score_batches([text or "" for text in texts]):
            probabilities = self._link(scores)
            # Stable: of equal topics the first wins, in a batch of any size.
            ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, : max(top, 1)]
            for row, order in enumerate(ranked):
                known = int(known_terms[row])
                predictions.append(self._prediction(probabilities[row], order, known) if known else NO_TOPIC)
        return predictions

    def predict_document(self, text: str, *, top: int = 3) -> list[tuple[Paragraph, Prediction]]:
        """Split a document and return each paragraph with its topic; bylines and boilerplate have none."""
        paragraphs = split_paragraphs(text)
        speaking = [p.text if p.kind not in WITHOUT_TOPIC else None for p in paragraphs]
        return list(zip(paragraphs, self.predict(speaking, top=top), strict=True))

    def scores(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the scores of each text, before the link: (n_texts, n_topics)."""
        parts = [scores for scores, _ in self._score_batches(texts)]
        return np.concatenate(parts) if parts else np.zeros((0, len(self.topics)))

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the probabilities of each text, (n_texts, n_topics), each row summing to one."""
        return self._link(self.scores(texts))

    def top_terms(self, n: int, *, min_df: int = 3) -> dict[str, list[str]]:
        """Return, per topic, the ``n`` terms of the largest weight among those in ``min_df`` training texts or more."""
        terms = [term for space in self.spaces for term in space.terms]
        frequency = np.concatenate([space.document_frequency for space in self.spaces])
        frequent = np.flatnonzero(frequency >= min(min_df, frequency.max()))
        best = np.argsort(-self.weights[frequent], axis=0, kind="stable")[:n]
        return {topic: [terms[frequent[row]] for row in best[:, column]] for column, topic in enumerate(self.topics)}

    def _score_batches(self, texts: Sequence[str]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int64]]]:
        """Scores and numbers of known terms, batch by batch; a dateline or a byline in a text counts for nothing."""
        widths = [len(space) for space in self.spaces]
        for start in range(0, len(texts), _BATCH):
            batch = [matter(text) for text in texts[start : start + _BATCH]]
            rows = side_by_side(weigh_texts(batch, self.spaces, self.options, n_jobs=1), widths)
            known_terms = np.diff(rows.indptr)
            scores = np.tile(self.bias, (len(batch), 1))
            filled = np.flatnonzero(known_terms)
            if len(filled):
                products = self.weights[rows.indices].astype(np.float64) * rows.values[:, None]
                scores[filled] += np.add.reduceat(products, rows.indptr[filled], axis=0)
            yield scores, known_terms

    def _link(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = scores / self.temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return probabilities

    def _prediction(self, probabilities: NDArray[np.float64], order: NDArray[np.intp], known_terms: int) -> Prediction:
        best, *others = (Alternative(self.topics[topic], float(probabilities[topic])) for topic in order)
        return Prediction(best.topic, best.probability, tuple(others), known_terms)


def _terms_table(spaces: Sequence[TermSpace]) -> pa.Table:
    hashes = np.concatenate([term_hashes(space.kind, space.terms) for space in spaces])
    if len(np.unique(hashes)) != len(hashes):
        raise BundleError("two terms have the same 64-bit hash; leave one of them out with stop_words or min_df.")
    return pa.table(
        {
            "kind": pa.array([space.kind for space in spaces for _ in space.terms]).dictionary_encode(),
            "term": pa.array([term for space in spaces for term in space.terms], pa.large_string()),
            "idf": np.concatenate([space.idf for space in spaces]),
            "document_frequency": np.concatenate([space.document_frequency for space in spaces]),
            "hash": hashes,
        }
    )


def _read_spaces(table: pa.Table) -> Iterator[TermSpace]:
    kinds: list[TermKind] = table["kind"].to_pylist()
    terms: list[str] = table["term"].to_pylist()
    # By DLPack, because to_numpy brings in pandas where that is installed.
    frequency = np.asarray(np.from_dlpack(table["document_frequency"].combine_chunks()), dtype=np.int64)
    idf = np.asarray(np.from_dlpack(table["idf"].combine_chunks()), dtype=np.float64)
    start = 0
    for kind, rows in groupby(kinds):
        end = start + sum(1 for _ in rows)
        yield TermSpace(kind, terms[start:end], frequency[start:end], idf[start:end])
        start = end


def _read_options(stored: Mapping[str, Any]) -> FeatureOptions:
    """JSON has lists where the options have tuples."""
    options: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()}
    return FeatureOptions(**options)
