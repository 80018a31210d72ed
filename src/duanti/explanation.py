"""Why a text has its scores: the terms that pushed them, where each stands, and what it added.

Owns the way back from a term to the characters of the text as given, and how contributions are added up. Refuses to
know probabilities, context, documents and how any of it looks. Everything is done one text at a time, in Python, to
be read; ``features`` does the same to millions.

    text ─ matter ─ forms, each with where it came from ─┬─ tokens ─ stop words ─ n-grams ──────────────┐
                                                         ├─ runs of space folded ─ n-grams, prefixes ───┤
                                                         └─ characters that are no space ─ their number ┴─ known ─ spans

The score of a topic is the sum over terms of ``weight of the term in the text * W[term, topic]``, plus its bias.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from duanti.features import FeatureOptions, TermKind, TermSpace, prepare, term_hashes, weigh_texts
from duanti.lexicon import TextTables
from duanti.segmentation import CodePoints, token_ends
from duanti.splitting import matter_spans

# Where something stands: begin and end in code points of the text as given, half open.
Span: TypeAlias = tuple[int, int]


@dataclass(frozen=True, eq=False)
class TermContribution:
    """What one known term adds to the scores of one text.

    ``spans`` are all the places it stands in, in code points of the text as given. A word n-gram over a stop word
    stands in several, the length of a text in all that is no space. ``contributions`` (n_topics,) are its weight in
    the text times its row of the model's weights.
    """

    term: str
    kind: TermKind
    spans: tuple[Span, ...]
    contributions: NDArray[np.float64] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a text has its scores.

    ``terms`` are in the order they first stand in the text, kind by kind. Contributions are measured from
    what the average topic gets: a positive one speaks for its topic more than for the others.
    """

    text: str
    topics: tuple[str, ...]
    bias: NDArray[np.float64] = field(repr=False)
    terms: tuple[TermContribution, ...] = field(repr=False)

    @property
    def scores(self) -> NDArray[np.float64]:
        """The scores (n_topics,): the bias and all contributions added up; ``TopicModel.scores`` within rounding."""
        scores: NDArray[np.float64] = np.sum([self.bias, *(term.contributions for term in self.terms)], axis=0)
        return scores

    def strongest(self, topic: str, n: int = 10, *, against: bool = False) -> list[TermContribution]:
        """Return up to ``n`` terms that speak most for a topic, or most against it, the strongest first."""
        column, sign = self._column(topic), -1 if against else 1
        speaking = [term for term in self.terms if sign * term.contributions[column] > 0]
        return sorted(speaking, key=lambda term: -sign * term.contributions[column])[:n]

    def characters(self, topic: str) -> NDArray[np.float64]:
        """Return what each character of the text adds to a topic's score, (n_characters,).

        What a term adds is shared out evenly among the characters it stands on, so that with the bias they, too, add
        up to the score.
        """
        column, shares = self._column(topic), np.zeros(len(self.text))
        for term in self.terms:
            each = term.contributions[column] / sum(end - begin for begin, end in term.spans)
            for begin, end in term.spans:
                shares[begin:end] += each
        return shares

    def as_dict(self, topics: Sequence[str] | None = None, n: int | None = None) -> dict[str, Any]:
        """Return it as plain data, for these topics or all; of the terms the ``n`` that say most about any, or all."""
        told = list(self.topics if topics is None else topics)
        columns = [self._column(topic) for topic in told]
        by_strength = sorted(self.terms, key=lambda term: -np.abs(term.contributions[columns]).max(initial=0.0))

        def by_topic(values: NDArray[np.float64]) -> dict[str, float]:
            return dict(zip(told, values[columns].tolist(), strict=True))

        return {
            "bias": by_topic(self.bias),
            "scores": by_topic(self.scores),
            "terms": [
                {
                    "term": term.term,
                    "kind": term.kind,
                    "spans": [list(span) for span in term.spans],
                    "contributions": by_topic(term.contributions),
                }
                for term in by_strength[:n]
            ],
        }

    def _column(self, topic: str) -> int:
        if topic not in self.topics:
            raise ValueError(f"no topic {topic!r}; there are {', '.join(self.topics)}.")
        return self.topics.index(topic)


def explain_text(
    text: str,
    topics: tuple[str, ...],
    spaces: Sequence[TermSpace],
    options: FeatureOptions,
    tables: TextTables,
    weights_of: Callable[[NDArray[np.intp]], NDArray[np.float32]],
    bias: NDArray[np.float64],
) -> Explanation:
    """Return what each known term of ``text`` adds to the score of each topic (see ``TopicModel`` for the rest)."""
    begin, end = _matter_span(text)
    written = _trace_forms(text[begin:end], begin, options, tables)
    found: dict[int, tuple[str, TermKind, tuple[Span, ...]]] = {}
    first_row = 0
    for space in spaces:
        for column, (term, spans) in _find_known(_occurrences(space.kind, written, options, tables), space).items():
            found[first_row + column] = term, space.kind, spans
        first_row += len(space)
    weighed = weigh_texts([text[begin:end]], spaces, options, tables, n_jobs=1)
    weight_of = dict(zip(weighed.indices.tolist(), weighed.values.tolist(), strict=True))
    # Looked up by what was found here: were the two ways to differ in a single term, this would fail.
    weights = weights_of(np.array([*found], np.intp)).astype(np.float64)
    terms = [TermContribution(*found[row], weight_of.pop(row) * own) for row, own in zip(found, weights, strict=True)]
    assert not weight_of, f"terms that stand nowhere: {sorted(weight_of)}"
    return Explanation(text, topics, bias, tuple(terms))


class _Traced(NamedTuple):
    """A text after some change, and for each of its characters where in the text as given it came from."""

    text: str
    begins: Sequence[int]
    ends: Sequence[int]

    def span(self, first: int, last: int) -> Span:
        """Where the characters from ``first`` to before ``last`` came from."""
        return self.begins[first], self.ends[last - 1]


def _matter_span(text: str) -> Span:
    """What counts of a text: neither a dateline nor a byline does."""
    begins, ends = matter_spans(*CodePoints.of([text]))
    return int(begins[0]), int(ends[0])


def _trace_forms(text: str, begin: int, options: FeatureOptions, tables: TextTables) -> _Traced:
    """Give each character its form. ``begin`` is where ``text`` begins in the text as given.

    How many characters a form has depends on its own character only, so each is formed once more, by itself.
    """
    (formed,) = prepare(CodePoints.of([text]), options, tables.forms).texts()
    lengths = np.diff(prepare(CodePoints.of(list(text)), options, tables.forms).offsets)
    origins = np.repeat(np.arange(begin, begin + len(text)), lengths)
    return _Traced(formed, origins.tolist(), (origins + 1).tolist())


def _occurrences(
    kind: TermKind, written: _Traced, options: FeatureOptions, tables: TextTables
) -> Iterator[tuple[str, list[Span]]]:
    """Every occurrence of a term, known or not, with where it stands."""
    if kind.startswith("opening_"):
        text, begins, ends = written
        written = _Traced(text[: options.opening], begins[: options.opening], ends[: options.opening])
    if kind.endswith("word"):
        return _words(written, options, tables)
    if kind == "text_length":
        return _text_length(written)
    folded = _fold_spaces(written)
    return _characters(folded, options) if kind.endswith("character") else _prefixes(folded, options)


def _words(written: _Traced, options: FeatureOptions, tables: TextTables) -> Iterator[tuple[str, list[Span]]]:
    """N-grams of the tokens that are no stop words, joined by a space."""
    ends = token_ends(CodePoints.of([written.text]), tables.lexicon, options.hmm)[0].tolist()
    stop_words = frozenset(options.stop_words)
    tokens = [span for span in zip([0, *ends], ends, strict=False) if written.text[slice(*span)] not in stop_words]
    for first, last in _ngrams(len(tokens), options.words):
        gram = tokens[first:last]
        yield " ".join(written.text[slice(*token)] for token in gram), [written.span(*run) for run in _joined(gram)]


def _characters(folded: _Traced, options: FeatureOptions) -> Iterator[tuple[str, list[Span]]]:
    """N-grams of characters."""
    for first, last in _ngrams(len(folded.text), options.characters):
        yield folded.text[first:last], [folded.span(first, last)]


def _prefixes(folded: _Traced, options: FeatureOptions) -> Iterator[tuple[str, list[Span]]]:
    """The first characters."""
    low, high = options.prefixes or (1, 0)
    for length in range(low, min(high, len(folded.text)) + 1):
        yield folded.text[:length], [folded.span(0, length)]


def _text_length(written: _Traced) -> Iterator[tuple[str, list[Span]]]:
    """How many characters are no space, from 100 on with all but the first two digits 0; it stands in all of them."""
    runs = [written.span(*match.span()) for match in re.finditer(r"\S+", written.text)]
    digits = str(len(re.sub(r"\s", "", written.text)))
    if runs:
        yield digits[:2].ljust(len(digits), "0"), _joined(runs)


def _ngrams(n: int, lengths: tuple[int, int] | None) -> Iterator[Span]:
    """First and last, half open, of every run of 0 to n - 1 of these lengths."""
    low, high = lengths or (1, 0)
    for first in range(n):
        for length in range(low, min(high, n - first) + 1):
            yield first, first + length


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Spans in order, those that touch made one, and those that came from the same character."""
    runs: list[Span] = []
    for begin, end in spans:
        if runs and runs[-1][1] >= begin:
            begin = runs.pop()[0]
        runs.append((begin, end))
    return runs


def _fold_spaces(written: _Traced) -> _Traced:
    """Make one space of each run of two or more; it came from all of the run."""
    runs = [match.span() for match in re.finditer(r"\s\s+|[\s\S]", written.text)]
    text = "".join(written.text[begin] if end - begin == 1 else " " for begin, end in runs)
    return _Traced(text, [written.begins[begin] for begin, _ in runs], [written.ends[end - 1] for _, end in runs])


def _find_known(
    occurrences: Iterator[tuple[str, list[Span]]], space: TermSpace
) -> Mapping[int, tuple[str, tuple[Span, ...]]]:
    """The known terms among occurrences by column, each with all its places."""
    places: defaultdict[str, list[Span]] = defaultdict(list)
    for term, spans in occurrences:
        places[term] += spans
    terms = list(places)
    columns = space.find(term_hashes(space.kind, terms)).tolist()
    return {c: (term, tuple(places[term])) for c, term in zip(columns, terms, strict=True) if c >= 0}
