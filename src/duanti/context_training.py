"""How the network of ``context`` is trained: from out-of-fold scores, on whole documents.

Owns the training, and the decision how far context is believed: held-out documents tell, and where they do not show a
gain beyond chance there is no context at all. Refuses to know texts, classifiers and how topics are named.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from duanti.calibration import fit_temperature
from duanti.context import Context, describe_paragraphs, n_features

_N_FOLDS = 3
_HIDDEN = 64
_DROPOUT = 0.4  # of features
_EPOCHS, _LEAST_STEPS, _WARM_UP = 12, 300, 50
_ROWS_AT_ONCE = 720
_LEARNING_RATE, _DECAY = 3e-3, 1e-2
_SHARES = (0.25, 0.5, 0.75, 1.0)
_LEAST_LOG = 1e-12


def fit_context(
    scores: NDArray[np.float64], gold: NDArray[np.intp], offsets: NDArray[np.int64], seed: int
) -> tuple[Context | None, NDArray[np.float64]]:
    """Train on the out-of-fold scores of documents, (n_paragraphs, n_topics), one document after the other.

    ``gold`` are the columns of the topics, ``offsets`` (n_documents + 1) where documents begin. Returns the context and
    the posteriors of all paragraphs, each by a context that did not learn from its document. There is none where too
    few documents have more than one paragraph, or where held-out ones do not gain: by log-loss, and in right paragraphs
    by more than one standard error over documents.
    """
    everything = _Documents(scores, gold, offsets)
    temperature = fit_temperature(scores, gold)
    posteriors = np.exp(log_softmax(scores / temperature, axis=1))
    has_context = everything.lengths > 1  # a paragraph that is a document by itself teaches nothing
    data = everything.select(has_context)
    if data.n_documents < 2 * _N_FOLDS:
        return None, posteriors
    folds = np.random.default_rng(seed).permutation(data.n_documents) % _N_FOLDS
    network = np.empty_like(data.scores)
    for fold in range(_N_FOLDS):
        part = _train(data.select(folds != fold), temperature, seed)
        held_out = data.select(folds == fold)
        rows = np.repeat(folds == fold, data.lengths)
        network[rows] = np.log(part.posteriors(held_out.scores, held_out.offsets) + _LEAST_LOG)
    believed = _how_far_believed(network, data, temperature)
    if believed is None:
        return None, posteriors
    mixed = believed.share * believed.sharpness * network
    mixed += (1 - believed.share) * log_softmax(data.scores / temperature, axis=1)
    posteriors[np.repeat(has_context, everything.lengths)] = np.exp(log_softmax(mixed, axis=1))
    scales = np.array([temperature, believed.sharpness, believed.share])
    return _train(data, temperature, seed)._replace(scales=scales), posteriors


class _Documents(NamedTuple):
    """Scored paragraphs with their topics, document after document."""

    scores: NDArray[np.float64]
    gold: NDArray[np.intp]
    offsets: NDArray[np.int64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)

    @property
    def n_documents(self) -> int:
        return len(self.offsets) - 1

    def select(self, chosen: NDArray[np.bool_]) -> _Documents:
        rows = np.repeat(chosen, self.lengths)
        offsets = np.concatenate([[0], np.cumsum(self.lengths[chosen])])
        return _Documents(self.scores[rows], self.gold[rows], offsets)


class _Belief(NamedTuple):
    """How sharp the network's probabilities are made, and their share beside those of the paragraph alone."""

    sharpness: float
    share: float


def _how_far_believed(network: NDArray[np.float64], data: _Documents, temperature: float) -> _Belief | None:
    """What the log-loss of held-out documents is best with; None where they do not gain."""
    alone = log_softmax(data.scores / temperature, axis=1)
    sharpness = float(f"{1 / fit_temperature(network, data.gold):.4g}")
    mixtures = {share: share * sharpness * network + (1 - share) * alone for share in _SHARES}
    losses = {share: _log_loss(mixture, data.gold) for share, mixture in mixtures.items()}
    share = min(losses, key=lambda candidate: losses[candidate])
    right = (mixtures[share].argmax(axis=1) == data.gold) * 1.0 - (alone.argmax(axis=1) == data.gold)
    gain = np.add.reduceat(right, data.offsets[:-1])
    if losses[share] >= _log_loss(alone, data.gold) or gain.sum() <= gain.std() * np.sqrt(len(gain)):
        return None
    return _Belief(sharpness, share)


def _log_loss(logits: NDArray[np.float64], gold: NDArray[np.intp]) -> float:
    return -float(log_softmax(logits, axis=1)[np.arange(len(gold)), gold].mean())


def _train(data: _Documents, temperature: float, seed: int) -> Context:
    """Adam with decoupled decay and a cosine rate over batches of whole documents; dropout of features.

    Kingma and Ba 2015; Loshchilov and Hutter 2019. The standardisation of the features is folded into the weights.
    """
    random = np.random.default_rng(seed)
    features = describe_paragraphs(data.scores, data.offsets, temperature)
    low, high = features.min(axis=0), features.max(axis=0)
    mean, deviation = features.mean(axis=0), features.std(axis=0) + np.float32(1e-3)
    features -= mean
    features /= deviation
    n_topics = data.scores.shape[1]
    weights = _initial_weights(n_topics, random)
    moments = {name: (np.zeros_like(value), np.zeros_like(value)) for name, value in weights.items()}
    batch = min(_ROWS_AT_ONCE, max(32, len(data.gold) // 8))
    steps_an_epoch = max(1, round(len(data.gold) / batch))
    epochs = max(_EPOCHS, -(-_LEAST_STEPS // steps_an_epoch))
    step = 0
    for _ in range(epochs):
        for rows in _batches(data, batch, random):
            step += 1
            gradients = _gradients(weights, features[rows], data.gold[rows], random)
            share_done = min(1.0, step / (epochs * steps_an_epoch))
            rate = _LEARNING_RATE * min(1.0, step / _WARM_UP) * (0.01 + 0.5 * (1 + np.cos(np.pi * share_done)))
            _descend(weights, moments, gradients, np.float32(rate), step)
    hidden, direct = weights["hidden"] / deviation[:, None], weights["direct"] / deviation[:, None]
    return Context(
        scales=np.array([temperature, 1.0, 1.0]),
        low=low,
        high=high,
        hidden=hidden,
        hidden_bias=weights["hidden_bias"] - mean @ hidden,
        output=weights["output"],
        direct=direct,
        bias=weights["bias"] - mean @ direct,
    )


_Weights = dict[str, NDArray[np.float32]]


def _initial_weights(n_topics: int, random: np.random.Generator) -> _Weights:
    """He et al. 2015; the direct way begins with nothing."""
    size = n_features(n_topics)
    return {
        "hidden": (random.standard_normal((size, _HIDDEN)) * np.sqrt(2 / size)).astype(np.float32),
        "hidden_bias": np.zeros(_HIDDEN, np.float32),
        "output": (random.standard_normal((_HIDDEN, n_topics)) * np.sqrt(1 / _HIDDEN)).astype(np.float32),
        "direct": np.zeros((size, n_topics), np.float32),
        "bias": np.zeros(n_topics, np.float32),
    }


def _batches(data: _Documents, n_rows: int, random: np.random.Generator) -> list[NDArray[np.intp]]:
    """Rows of whole documents in an order drawn anew, about ``n_rows`` at a time."""
    order = random.permutation(data.n_documents)
    group = np.cumsum(data.lengths[order]) // n_rows
    documents = np.split(order, np.flatnonzero(np.diff(group)) + 1)
    bounds = data.offsets.tolist()
    return [np.concatenate([np.arange(bounds[d], bounds[d + 1]) for d in part.tolist()]) for part in documents]


def _gradients(
    weights: _Weights, features: NDArray[np.float32], gold: NDArray[np.intp], random: np.random.Generator
) -> _Weights:
    """Gradients of the mean log-loss."""
    kept = random.random(features.shape, dtype=np.float32) >= _DROPOUT
    x = features * (kept / np.float32(1 - _DROPOUT))
    hidden = np.maximum(x @ weights["hidden"] + weights["hidden_bias"], 0)
    logits = hidden @ weights["output"] + x @ weights["direct"] + weights["bias"]
    error = np.exp(logits - logits.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[np.arange(len(gold)), gold] -= 1
    error /= len(gold)
    hidden_error = (error @ weights["output"].T) * (hidden > 0)
    return {
        "hidden": x.T @ hidden_error,
        "hidden_bias": hidden_error.sum(axis=0),
        "output": hidden.T @ error,
        "direct": x.T @ error,
        "bias": error.sum(axis=0),
    }


def _descend(
    weights: _Weights,
    moments: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]],
    gradients: _Weights,
    rate: np.float32,
    step: int,
) -> None:
    """One step of Adam, in place."""
    for name, gradient in gradients.items():
        first, second = moments[name]
        first += (gradient - first) * np.float32(0.1)
        second += (gradient * gradient - second) * np.float32(0.01)
        scaled = first / np.float32(1 - 0.9**step) / (np.sqrt(second / np.float32(1 - 0.99**step)) + np.float32(1e-7))
        weights[name] -= rate * (scaled + np.float32(_DECAY) * weights[name])
