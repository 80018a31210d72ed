"""TopicModel: scores, probabilities, topics, and when there is none."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed

from duanti import Corpus, TermVectorizer, TopicModel, fit_topic_model
from duanti.config import RunConfig
from duanti.model import NO_TOPIC, _largest
from duanti.paragraphs import matter


def test_scores_are_the_matrix_times_the_weights(small_model: TopicModel, small_corpus: Corpus) -> None:
    options = small_model.options
    vectorizer = TermVectorizer(words=options.words, characters=options.characters, normalize=options.normalize)
    vectorizer.fit(small_corpus.texts)
    texts = [*small_corpus.texts, "球队和股市都没有学校的事", "无"]
    # Columns have the order of scikit-learn, a model's terms that of their document frequency.
    names = [(s.kind, term) for s in small_model.spaces for term in s.terms.to_pylist()]
    in_order = [(s.kind, term) for s in vectorizer.spaces_ for term in s.terms.to_pylist()]
    weights = small_model.weights[[names.index(name) for name in in_order]].astype(np.float64)
    expected = vectorizer.transform(texts) @ weights + small_model.bias
    for space in small_model.spaces:
        assert (np.diff(space.document_frequency) <= 0).all()
    np.testing.assert_allclose(small_model.scores(texts), expected, atol=1e-12)


def test_probabilities_are_the_softmax_of_scores_over_temperature(small_model: TopicModel) -> None:
    scores = small_model.scores(["股市大涨"])[0]
    powers = [np.exp(score / small_model.temperature) for score in scores]
    expected = np.array(powers) / sum(powers)
    np.testing.assert_allclose(small_model.probabilities(["股市大涨"])[0], expected)
    best = small_model.predict(["股市大涨"], top=3)[0]
    assert best.probability == pytest.approx(expected.max())
    assert [best.probability, *(a.probability for a in best.alternatives)] == pytest.approx(sorted(expected)[::-1])


@pytest.mark.parametrize("text", ["", None, "龘靐齉", "\u200b"])
def test_a_text_without_a_known_term_has_no_topic(small_model: TopicModel, text: str | None) -> None:
    assert small_model.predict([text]) == [NO_TOPIC]


def test_known_terms_counts_distinct_known_terms(small_model: TopicModel) -> None:
    known = {(space.kind, term) for space in small_model.spaces for term in space.terms.to_pylist()}
    expected = {("character", "股"), ("character", "市"), ("character", "股市"), ("word", "股市")} & known
    assert small_model.predict(["股市股市"])[0].known_terms >= len(expected) > 0


def test_batches_of_any_size_and_order_give_the_same(small_model: TopicModel, small_corpus: Corpus) -> None:
    texts = [*small_corpus.texts, "", "龘"] * 40
    together = small_model.scores(texts)
    one_by_one = np.concatenate([small_model.scores([text]) for text in texts])
    np.testing.assert_array_equal(together, one_by_one)
    np.testing.assert_array_equal(small_model.scores(texts[::-1])[::-1], together)


def test_threads_may_share_a_model(small_model: TopicModel, small_corpus: Corpus) -> None:
    expected = small_model.predict(small_corpus.texts)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(small_model.predict, [small_corpus.texts] * 16))
    assert all(result == expected for result in results)


def test_forked_and_spawned_workers_give_what_one_thread_gives(small_model: TopicModel, small_corpus: Corpus) -> None:
    texts = small_corpus.texts * 3000  # enough for threads of its own in every process
    expected = small_model.scores(texts)
    for backend in ("multiprocessing", "loky", "threading"):
        workers = Parallel(n_jobs=2, backend=backend, timeout=240)
        for scores in workers(delayed(small_model.scores)(texts) for _ in range(4)):
            np.testing.assert_array_equal(scores, expected)


def test_no_texts_give_no_rows(small_model: TopicModel) -> None:
    assert small_model.predict([]) == []
    assert small_model.scores([]).shape == (0, 3)


def test_a_dateline_counts_for_nothing(small_model: TopicModel) -> None:
    text = "股市大涨,球队赢了比赛,学校开学了"
    with_dateline = f"新华社北京4月9日电 {text}"
    assert matter(with_dateline) == text
    np.testing.assert_array_equal(small_model.scores([with_dateline]), small_model.scores([text]))


def test_documents_give_every_paragraph_its_prediction(small_model: TopicModel) -> None:
    document = "股市大涨\n\n  球队赢了比赛。\n责任编辑：张三\n"
    labelled = small_model.predict_document(document)
    assert [paragraph.kind for paragraph, _ in labelled] == ["heading", "body", "boilerplate"]
    assert labelled[2][1] == NO_TOPIC
    assert labelled[0][1] == small_model.predict(["股市大涨"])[0]
    assert all(document[p.start : p.end] == p.text for p, _ in labelled)


def test_the_largest_are_those_of_a_stable_sort() -> None:
    values = np.random.default_rng(0).integers(0, 9, 50).astype(np.float32)
    for n in (0, 1, 7, 50, 60):
        assert _largest(values, n).tolist() == np.argsort(-values, kind="stable")[:n].tolist()


def test_a_model_of_prefixes_and_text_lengths_comes_back_whole_and_marks_them(
    small_corpus: Corpus, tmp_path: Path
) -> None:
    features = {"words": None, "characters": None, "prefixes": [1, 2], "text_length": True}
    config = RunConfig.model_validate({"name": "m", "data": {"train": "given"}, "features": features, "n_jobs": 1})
    model = fit_topic_model(config, small_corpus)
    told = {term for terms in model.top_terms(50, min_df=1).values() for term in terms}
    assert {f"^{text[:2]}" for text in small_corpus.texts} <= told
    assert {f"length={len(text)}" for text in small_corpus.texts} <= told
    model.save(tmp_path / "m")
    again = TopicModel.load(tmp_path / "m")
    np.testing.assert_array_equal(again.scores(small_corpus.texts), model.scores(small_corpus.texts))
    assert again.options == model.options


def test_top_terms_speak_for_their_topic(small_model: TopicModel) -> None:
    top = small_model.top_terms(3, min_df=1)
    assert set(top) == set(small_model.topics)
    for topic, terms in top.items():
        assert small_model.predict([terms[0]], top=1)[0].topic == topic
