"""Topics in the context of their document: posterior probabilities of paragraphs from the scores of all of them.

Owns what is looked at around a paragraph and the small network that weighs it, as plain arrays and a kernel that takes
time in proportion to the document. Refuses to know texts, how the network was trained, and what a document is called.

Of a paragraph the network sees: its probabilities by itself and its centred scores; means of the probabilities before
and after it, near ones counting most, at three rates; the logarithm of how much of each topic has been before and is
still to come; the mean over the document; and its place. One hidden layer of rectified units, and a linear way past it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from duanti.compilation import borrowed, inlined, kernel

# Weight of a neighbour = rate ** distance.
_RATES = (0.5, 0.8, 0.95)
_N_RATES = len(_RATES)
_N_PLACES = 11


class Context(NamedTuple):
    """The network, its inputs' standardisation folded into its weights. All float32; n_features = n_features(K).

    A paragraph's posterior is proportional to ``exp(share * sharpness * network + (1 - share) * log(alone))``; one
    that is a document by itself has the probabilities it has alone.
    """

    scales: NDArray[np.float64]  # (3,): temperature of the scores, sharpness, share
    low: NDArray[np.float32]  # (n_features,) least and most of each feature in training: beyond is cut off
    high: NDArray[np.float32]
    hidden: NDArray[np.float32]  # (n_features, n_hidden)
    hidden_bias: NDArray[np.float32]  # (n_hidden,)
    output: NDArray[np.float32]  # (n_hidden, n_topics)
    direct: NDArray[np.float32]  # (n_features, n_topics), past the hidden layer
    bias: NDArray[np.float32]  # (n_topics,)

    def posteriors(self, scores: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probabilities of paragraphs, (n_paragraphs, n_topics), rows summing to one.

        ``scores`` are those of ``TopicModel.score``, documents one after the other, each in its order; ``offsets``
        (n_documents + 1) tell where each begins.
        """
        posteriors = np.empty(scores.shape)
        scores = np.ascontiguousarray(scores, np.float64)
        _posteriors(scores, np.ascontiguousarray(offsets, np.int64), self, posteriors)
        return posteriors


def n_features(n_topics: int) -> int:
    """How many numbers the network sees of a paragraph."""
    return n_topics * (5 + 2 * _N_RATES) + _N_PLACES


def describe_paragraphs(
    scores: NDArray[np.float64], offsets: NDArray[np.int64], temperature: float
) -> NDArray[np.float32]:
    """Return what the network sees of each paragraph, (n_paragraphs, n_features)."""
    features = np.empty((len(scores), n_features(scores.shape[1])), np.float32)
    _describe_documents(np.ascontiguousarray(scores, np.float64), offsets, temperature, features)
    return features


@kernel
def _describe_documents(scores: Any, offsets: Any, temperature: float, features: Any) -> None:
    alone = np.empty_like(scores)
    for d in range(len(offsets) - 1):
        rows = slice(offsets[d], offsets[d + 1])
        _describe(scores[rows], temperature, alone[rows], features[rows])


@kernel
def _describe(scores: Any, temperature: float, alone: Any, features: Any) -> None:
    """Features of the paragraphs of one document, and their probabilities alone: a pass each way."""
    n, n_topics = scores.shape
    mean = np.zeros(n_topics)
    for i in range(n):
        highest, centre, total = scores[i].max(), scores[i].mean(), 0.0
        for k in range(n_topics):
            alone[i, k] = np.exp((scores[i, k] - highest) / temperature)
            total += alone[i, k]
        for k in range(n_topics):
            alone[i, k] /= total
            mean[k] += alone[i, k] / n
            features[i, k] = alone[i, k]
            features[i, n_topics + k] = scores[i, k] - centre
    _describe_neighbours(alone, False, 2 * n_topics, features)
    _describe_neighbours(alone, True, 3 * n_topics, features)
    first = (4 + 2 * _N_RATES) * n_topics
    for i in range(n):
        for k in range(n_topics):
            features[i, first + k] = mean[k]
        _describe_place(i, n, features[i, first + n_topics :])


@kernel
def _describe_neighbours(alone: Any, backwards: bool, first: int, features: Any) -> None:
    """Of what stands before each paragraph (``backwards``: after it): running means, and how much of each topic."""
    n, n_topics = alone.shape
    running, weight, sums = np.zeros((_N_RATES, n_topics)), np.zeros(_N_RATES), np.zeros(n_topics)
    for step in range(n):
        i = n - 1 - step if backwards else step
        for r in range(_N_RATES):
            rate, column = _RATES[r], first + 2 * r * n_topics
            scale = 1.0 / weight[r] if weight[r] > 0 else 0.0
            for k in range(n_topics):
                features[i, column + k] = running[r, k] * scale
                running[r, k] = rate * running[r, k] + alone[i, k]
            weight[r] = rate * weight[r] + 1.0
        column = first + 2 * _N_RATES * n_topics
        for k in range(n_topics):
            features[i, column + k] = np.log1p(sums[k])
            sums[k] += alone[i, k]


@inlined
def _describe_place(i: Any, n: Any, place: Any) -> None:
    """Where in its document a paragraph stands: by share, and by distance from either end."""
    before, after, share = float(i), float(n - 1 - i), (i + 0.5) / n
    place[0], place[1] = share, share * share
    place[2], place[3] = np.exp(-before / 3), np.exp(-after / 3)
    place[4], place[5] = np.exp(-before / 12), np.exp(-after / 12)
    place[6], place[7], place[8] = np.log(n) / 5, np.log1p(before) / 5, np.log1p(after) / 5
    place[9], place[10] = np.exp(-share / 0.05), np.exp(-(1 - share) / 0.05)


@kernel
def _posteriors(scores: Any, offsets: Any, context: Context, posteriors: Any) -> None:
    scores, offsets, context, posteriors = borrowed((scores, offsets, context, posteriors))
    longest = 0
    for d in range(len(offsets) - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    features = np.empty((longest, len(context.low)), np.float32)
    alone = np.empty((longest, scores.shape[1]))
    hidden, output = np.empty(len(context.hidden_bias), np.float32), np.empty(scores.shape[1], np.float32)
    for d in range(len(offsets) - 1):
        begin, n = offsets[d], offsets[d + 1] - offsets[d]
        _describe(scores[begin : begin + n], context.scales[0], alone[:n], features[:n])
        for i in range(n):
            if n == 1:
                posteriors[begin] = alone[0]
            else:
                _network(features[i], context, hidden, output)
                _mix(output, alone[i], context.scales[1], context.scales[2], posteriors[begin + i])


@kernel
def _network(features: Any, context: Context, hidden: Any, output: Any) -> None:
    low, high, first, direct, last = context.low, context.high, context.hidden, context.direct, context.output
    hidden[:] = context.hidden_bias
    output[:] = context.bias
    for f in range(len(features)):
        value = min(max(features[f], low[f]), high[f])
        for j in range(len(hidden)):
            hidden[j] += value * first[f, j]
        for k in range(len(output)):
            output[k] += value * direct[f, k]
    for j in range(len(hidden)):
        if hidden[j] > 0:
            for k in range(len(output)):
                output[k] += hidden[j] * last[j, k]


@kernel
def _mix(output: Any, alone: Any, sharpness: float, share: float, posterior: Any) -> None:
    """The logarithms of both views, weighed and brought back to probabilities."""
    highest = -np.inf
    for k in range(len(output)):
        posterior[k] = share * sharpness * output[k] + (1.0 - share) * np.log(max(alone[k], 1e-12))
        highest = max(highest, posterior[k])
    total = 0.0
    for k in range(len(output)):
        posterior[k] = np.exp(posterior[k] - highest)
        total += posterior[k]
    for k in range(len(output)):
        posterior[k] /= total
