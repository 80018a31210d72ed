"""Topics in the context of their document."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from duanti import Corpus, TopicModel, evaluate, fit_topic_model, read_corpus
from duanti.cli import main
from duanti.config import RunConfig
from duanti.context import Context, describe_paragraphs, n_features
from duanti.context_training import fit_context
from duanti.predict import PredictOptions, label_source, label_texts
from duanti.readers import ReadOptions, find_sources

WORDS = {"总则": "根据制定本法", "管理": "主管部门监督", "附则": "自公布之日起"}


def corpus_of(seed: int, n_documents: int) -> Corpus:
    """Documents whose topics follow each other; half of the paragraphs speak of nothing."""
    random = np.random.default_rng(seed)
    texts, topics, documents = [], [], []
    for number in range(n_documents):
        for topic, words in WORDS.items():
            for _ in range(random.integers(2, 6)):
                source = words if random.random() < 0.5 else "的一是在有和"
                texts.append("".join(random.choice([*source], 4)))
                topics.append(topic)
                documents.append(f"d{number}")
    return Corpus("laws", texts, topics, documents)


def recipe(**entries: Any) -> RunConfig:
    settings = {"name": "laws", "data": {"train": "x"}, "n_jobs": 1, "context": "sequence"}
    return RunConfig.model_validate({**settings, **entries})


@pytest.fixture(scope="module")
def model() -> TopicModel:
    return fit_topic_model(recipe(), corpus_of(0, 150))


def test_neighbours_tell_what_a_paragraph_does_not(model: TopicModel) -> None:
    test = corpus_of(1, 60)
    alone = evaluate(model, test, context=False, resamples=100)
    together = evaluate(model, test, resamples=100)
    assert model.context is not None
    assert together.accuracy > alone.accuracy + 0.15
    assert together.expected_calibration_error < 0.08


def test_without_a_gain_there_is_no_context() -> None:
    random = np.random.default_rng(0)
    shuffled = corpus_of(0, 150)
    order = random.permutation(len(shuffled))
    scattered = dataclasses.replace(shuffled.select(order), documents=shuffled.documents)
    assert fit_topic_model(recipe(), scattered).context is None
    assert fit_topic_model(recipe(), corpus_of(0, 4)).context is None
    single = dataclasses.replace(shuffled, documents=[None] * len(shuffled))
    assert fit_topic_model(recipe(), single).context is None


def slow_features(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """What the network sees of the paragraphs of one document, written out."""
    n, n_topics = scores.shape
    alone = np.exp(scores / temperature) / np.exp(scores / temperature).sum(axis=1, keepdims=True)
    rows = []
    for i in range(n):
        row = [alone[i], scores[i] - scores[i].mean()]
        for others in (range(i - 1, -1, -1), range(i + 1, n)):  # the nearest first
            for rate in (0.5, 0.8, 0.95):
                weights = [rate**distance for distance in range(len(others))]
                total = sum((w * alone[j] for w, j in zip(weights, others, strict=True)), np.zeros(n_topics))
                row.append(total / sum(weights) if weights else total)
            row.append(np.log1p(sum((alone[j] for j in others), np.zeros(n_topics))))
        row.append(alone.mean(axis=0))
        before, after, share = i, n - 1 - i, (i + 0.5) / n
        place = [share, share**2, *np.exp([-before / 3, -after / 3, -before / 12, -after / 12])]
        place += [np.log(n) / 5, np.log1p(before) / 5, np.log1p(after) / 5]
        place += [*np.exp([-share / 0.05, -(1 - share) / 0.05])]
        before_then_after = [part for half in (row[2:6], row[6:10]) for part in half]
        # The kernel puts the means of both directions side by side, rate by rate.
        means = [part for r in range(3) for part in (before_then_after[r], before_then_after[4 + r])]
        ordered = [row[0], row[1], *means, before_then_after[3], before_then_after[7], row[10], np.array(place)]
        rows.append(np.concatenate(ordered))
    return np.array(rows)


@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_the_network_sees_what_is_written_out(n: int) -> None:
    scores = np.random.default_rng(n).normal(size=(n, 4))
    features = describe_paragraphs(scores, np.array([0, n]), 0.7)
    assert features.shape == (n, n_features(4))
    np.testing.assert_allclose(features, slow_features(scores, 0.7), atol=1e-5)


def slow_posteriors(context: Context, scores: NDArray[np.float64]) -> NDArray[np.float64]:
    temperature, sharpness, share = context.scales
    alone = np.exp(scores / temperature) / np.exp(scores / temperature).sum(axis=1, keepdims=True)
    if len(scores) == 1:
        return alone
    x = np.clip(slow_features(scores, temperature), context.low, context.high)
    hidden = np.maximum(x @ context.hidden + context.hidden_bias, 0)
    network = hidden @ context.output + x @ context.direct + context.bias
    mixed = np.exp(share * sharpness * network + (1 - share) * np.log(alone))
    result: NDArray[np.float64] = mixed / mixed.sum(axis=1, keepdims=True)
    return result


def test_posteriors_are_the_network_written_out(model: TopicModel) -> None:
    assert model.context is not None
    random = np.random.default_rng(0)
    lengths = [1, 0, 5, 2, 30]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    scores = random.normal(size=(offsets[-1], 3))
    posteriors = model.context.posteriors(scores, offsets)
    for begin, end in pairwise(offsets.tolist()):
        if begin < end:
            expected = slow_posteriors(model.context, scores[begin:end])
            np.testing.assert_allclose(posteriors[begin:end], expected, atol=2e-4)


def test_posteriors_given_back_are_of_documents_that_were_not_learnt_from() -> None:
    random = np.random.default_rng(0)
    gold = np.concatenate([np.repeat(random.permutation(3), 2) for _ in range(60)])
    scores = np.eye(3)[gold] + random.normal(size=(len(gold), 3))
    offsets = np.arange(0, len(gold) + 1, 6)
    context, held_out = fit_context(scores, gold, offsets, seed=0)
    assert context is not None
    np.testing.assert_allclose(held_out.sum(axis=1), 1)
    seen = context.posteriors(scores, offsets)
    own, others = (p[np.arange(len(gold)), gold] for p in (seen, held_out))
    assert own.mean() > others.mean()


def test_a_document_is_the_same_in_any_batch(model: TopicModel) -> None:
    documents = [["根据制定", "的一是在", "自公布之"], ["主管部门"], [], ["的一", "", "监督主管", "龘"]]
    together = model.predict_documents(documents)
    assert [len(part) for part in together] == [3, 1, 0, 4]
    for document, predictions in zip(documents, together, strict=True):
        assert model.predict_documents([document])[0] == predictions
    backwards = model.predict_documents(documents[::-1])
    assert backwards[::-1] == together
    assert model.predict_documents([["主管部门"]])[0] == model.predict(["主管部门"])
    assert together[3][1].topic is None
    assert together[3][3].topic is None


def test_boilerplate_in_the_middle_is_passed_over(model: TopicModel) -> None:
    lines = ["根据制定本法根据制定。", "的一是在的一是在。", "自公布之日起自公布。"]
    plain = model.predict_document("\n".join(lines))
    mixed = model.predict_document("\n".join([lines[0], "责任编辑：张三", *lines[1:]]))
    assert [p for _, p in mixed if p.topic] == [p for _, p in plain]
    assert mixed[1][1].topic is None


def test_a_document_of_100_000_paragraphs_is_no_problem(model: TopicModel) -> None:
    (predictions,) = model.predict_documents([["根据制定", "的一是在"] * 50_000])
    assert len(predictions) == 100_000
    assert all(p.topic for p in predictions)


@pytest.mark.parametrize("size", [1, 50, 1 << 22])
@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_documents_stay_whole_whatever_the_blocks(
    model: TopicModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, ending: str
) -> None:
    corpus = corpus_of(3, 12)
    rows = list(zip(corpus.documents, corpus.texts, strict=True))
    path = tmp_path / f"t.{ending}"
    if ending == "jsonl":
        lines = [json.dumps({"document": d, "text": t}, ensure_ascii=False) for d, t in rows]
    else:
        lines = ["document,text", *(f"{d},{t}" for d, t in rows)]
    path.write_text("\n".join(lines), encoding="utf-8")
    expected = label_texts(model, corpus.texts, corpus.documents, PredictOptions("text"))
    monkeypatch.setattr("duanti.readers._BLOCK_BYTES", size)
    (source,) = find_sources([str(path)])
    parts = list(label_source(model, source, ReadOptions(), PredictOptions(n_jobs=3)))
    assert [row for part in parts for row in part.batch.to_pylist()] == expected.to_pylist()
    assert sum(part.n_rows for part in parts) == len(rows)
    by_corpus = evaluate(model, corpus, resamples=100).accuracy
    assert np.mean([row["topic"] == t for row, t in zip(expected.to_pylist(), corpus.topics, strict=True)]) == by_corpus


def test_rows_that_name_no_document_are_decided_by_themselves(model: TopicModel) -> None:
    texts = ["根据制定", "的一是在", "自公布之"]
    rows = label_texts(model, texts, [None] * 3, PredictOptions("text")).to_pylist()
    assert [row["probability"] for row in rows] == [p.probability for p in model.predict(texts)]
    named = label_texts(model, texts, ["a"] * 3, PredictOptions("text")).to_pylist()
    assert [row["probability"] for row in named] == [p.probability for p in model.predict_documents([texts])[0]]
    without = label_texts(model, texts, ["a"] * 3, PredictOptions("text", context=False)).to_pylist()
    assert [row["probability"] for row in without] == [row["probability"] for row in rows]


def test_the_bundle_carries_the_context_and_the_command_can_do_without(
    model: TopicModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "m")
    again = TopicModel.load(tmp_path / "m")
    document = ["根据制定", "的一是在", "自公布之"]
    assert again.predict_documents([document]) == model.predict_documents([document])
    (tmp_path / "law.txt").write_text("\n".join(document), encoding="utf-8")
    probabilities = []
    for options in ([], ["--no-context"]):
        assert main(["predict", str(tmp_path / "m"), str(tmp_path / "law.txt"), *options]) == 0
        probabilities.append([json.loads(line)["probability"] for line in capsys.readouterr().out.splitlines()])
    assert probabilities[0] == [p.probability for p in model.predict_documents([document])[0]]
    assert probabilities[1] == [p.probability for p in model.predict(document)]


@pytest.mark.long
def test_the_statutes_recipe_reaches_its_figures(corpora: Path, tmp_path: Path) -> None:
    from duanti import load_config

    config = load_config(Path(__file__).parents[1] / "configs" / "statutes.yaml", ["data.train=given"])
    model = fit_topic_model(config, read_corpus(corpora / "law_chapters" / "train.jsonl.gz"))
    test = read_corpus(corpora / "law_chapters" / "dev.jsonl.gz")
    alone, together = (evaluate(model, test, context=context, resamples=100) for context in (False, True))
    assert together.macro_f1 > alone.macro_f1 + 0.08
    assert together.accuracy > 0.69
    assert together.macro_f1 > 0.62
    assert together.expected_calibration_error < 0.03
