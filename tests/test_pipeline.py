"""Training: freezing, calibrating, and the same result whatever the machine's cores."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.metrics import log_loss
from sklearn.naive_bayes import ComplementNB, MultinomialNB
from sklearn.svm import LinearSVC

from duanti import Corpus, DataError, TermVectorizer, TopicModel, fit_topic_model, pipeline, read_corpus
from duanti.calibration import fit_temperature
from duanti.classifiers import NaiveBayesSVM, freeze, make_classifier
from duanti.config import RunConfig
from duanti.low_rank import LowRankClassifier
from duanti.paragraphs import matter

CLASSIFIERS = [
    LinearSVC(random_state=0),
    LogisticRegression(max_iter=1000),
    ComplementNB(),
    ComplementNB(norm=True),
    MultinomialNB(),
    RidgeClassifier(),
    SGDClassifier(random_state=0),
    SGDClassifier(loss="log_loss", random_state=0),
    NaiveBayesSVM(random_state=0),
    LowRankClassifier(epochs=50, rate=0.5, dropout=0.2, random_state=0),
]


def config_of(**entries: Any) -> RunConfig:
    return RunConfig.model_validate({"name": "small", "data": {"train": "given"}, "n_jobs": 1, **entries})


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=str)
@pytest.mark.parametrize("n_topics", [2, 3])
def test_a_frozen_model_agrees_with_scikit_learn(small_corpus: Corpus, classifier: Any, n_topics: int) -> None:
    rows = [
        row for row, topic in enumerate(small_corpus.topics) if topic in sorted(set(small_corpus.topics))[:n_topics]
    ]
    corpus = small_corpus.select(rows)
    X = TermVectorizer().fit_transform(corpus.texts)
    classifier.fit(X, corpus.topics)
    weights, bias = freeze(classifier)
    assert weights.shape == (X.shape[1], n_topics)
    assert weights.dtype == np.float32
    scores = X @ weights.astype(np.float64) + bias
    assert list(classifier.classes_[scores.argmax(axis=1)]) == list(classifier.predict(X))
    if hasattr(classifier, "decision_function"):
        original = classifier.decision_function(X)
        original = np.column_stack([-original, original]) / 2 if original.ndim == 1 else original
    else:
        original = classifier.predict_joint_log_proba(X)
    centred = original - original.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(scores - scores.mean(axis=1, keepdims=True), centred, atol=5e-6)
    if isinstance(classifier, LogisticRegression):
        np.testing.assert_allclose(softmax(scores, axis=1), classifier.predict_proba(X), atol=5e-6)


def test_the_temperature_is_the_most_likely_one() -> None:
    random = np.random.default_rng(0)
    scores = random.normal(size=(2000, 4))
    gold = np.array([random.choice(4, p=softmax(row / 0.25)) for row in scores])
    temperature = fit_temperature(scores, gold)
    assert temperature == pytest.approx(0.25, rel=0.1)
    loss = log_loss(gold, softmax(scores / temperature, axis=1))
    for other in (0.97, 1.03):
        assert loss < log_loss(gold, softmax(scores / (temperature * other), axis=1))


KINDS = ["linear_svc", "logistic_regression", "complement_nb", "multinomial_nb", "ridge", "sgd", "nb_svm", "low_rank"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_classifier_learns_the_small_corpus(small_corpus: Corpus, kind: str) -> None:
    model = fit_topic_model(config_of(classifier={"kind": kind}), small_corpus)
    assert [p.topic for p in model.predict(small_corpus.texts)] == list(small_corpus.topics)
    assert model.temperature > 0


def test_a_naive_bayes_svm_is_svms_over_terms_times_their_log_count_ratios(small_corpus: Corpus) -> None:
    X, y = TermVectorizer().fit_transform(small_corpus.texts), np.array(small_corpus.topics)
    fitted = NaiveBayesSVM(C=0.7, alpha=0.2, random_state=0).fit(X, y)
    for number, topic in enumerate(sorted(set(y))):
        p, q = (0.2 + X[y == topic].toarray().sum(axis=0)), (0.2 + X[y != topic].toarray().sum(axis=0))
        r = np.log(p / p.sum()) - np.log(q / q.sum())
        svm = LinearSVC(C=0.7, random_state=0, max_iter=10_000).fit(X.multiply(r).tocsr(), y == topic)
        expected = svm.decision_function(X.multiply(r).tocsr())
        np.testing.assert_allclose(fitted.decision_function(X)[:, number], expected, atol=1e-5)


@pytest.mark.parametrize("weights", ["learned", [1.0, 2.0, 0.5]])
def test_a_blend_is_the_weighted_sum_of_its_members_brought_to_one_spread(small_corpus: Corpus, weights: Any) -> None:
    kinds = ["linear_svc", "complement_nb", "nb_svm"]
    members = [fit_topic_model(config_of(classifier={"kind": kind}), small_corpus) for kind in kinds]
    blend = {"kind": "blend", "members": [{"kind": kind} for kind in kinds], "weights": weights}
    model = fit_topic_model(config_of(classifier=blend), small_corpus)
    texts = [*small_corpus.texts, "股市球队学校"]
    own = np.stack([member.scores(texts) for member in members])
    # The scales are not known from outside, but that there are some is: the blend lies in the members' span.
    flat = own.reshape(len(kinds), -1).T
    scales, *_ = np.linalg.lstsq(flat, model.scores(texts).ravel(), rcond=None)
    np.testing.assert_allclose(flat @ scales, model.scores(texts).ravel(), atol=5e-6)
    assert (scales > -1e-6).all()
    assert model.weights.shape == members[0].weights.shape


def test_a_stacked_blend_is_one_matrix_over_the_scores_of_the_blend(small_corpus: Corpus) -> None:
    blend = {"kind": "blend", "members": [{"kind": "linear_svc"}, {"kind": "complement_nb"}], "weights": [1.0, 0.5]}
    plain = fit_topic_model(config_of(classifier=blend), small_corpus)
    stacked = fit_topic_model(config_of(classifier={**blend, "stacking": 1.0}), small_corpus)
    texts = [*small_corpus.texts, "股市球队学校", ""]
    scores = np.column_stack([plain.scores(texts), np.ones(len(texts))])
    coupling, *_ = np.linalg.lstsq(scores, stacked.scores(texts), rcond=None)
    np.testing.assert_allclose(scores @ coupling, stacked.scores(texts), atol=5e-6)
    assert np.abs(stacked.scores(texts).sum(axis=1)).max() < 1e-5
    assert stacked.weights.shape == plain.weights.shape


def test_what_a_row_is_promised_is_stacked_without_its_fold() -> None:
    random = np.random.default_rng(0)
    config = config_of(
        classifier={"kind": "blend", "members": [{"kind": "ridge"}, {"kind": "linear_svc"}], "stacking": 5.0}
    )
    folds, gold, scores = np.arange(300) % 3, random.integers(3, size=300), random.normal(size=(300, 3))
    scores[7, 1] = -np.inf  # a topic that its split never saw
    first = pipeline._stack_apart(config.classifier, scores, gold, folds)
    other = np.where(folds == 1, (gold + 1) % 3, gold)
    second = pipeline._stack_apart(config.classifier, scores, other, folds)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first[folds == 1], second[folds == 1])
    assert np.abs(first - second)[folds != 1].max() > 1e-3


def test_a_shared_scale_is_the_root_mean_square_of_the_ratios(small_corpus: Corpus) -> None:
    X, y = TermVectorizer().fit_transform(small_corpus.texts), np.array(small_corpus.topics)
    plain, shared = NaiveBayesSVM(random_state=0).fit(X, y), NaiveBayesSVM(shared=True, random_state=0).fit(X, y)
    scale = np.sqrt(np.mean(plain._ratios(X, y) ** 2, axis=0))
    svm = LinearSVC(random_state=0, max_iter=10_000).fit(X.multiply(scale).tocsr(), y)
    np.testing.assert_allclose(shared.decision_function(X), svm.decision_function(X.multiply(scale).tocsr()), atol=1e-3)


def test_a_low_rank_classifier_takes_the_steps_written_out() -> None:
    random = np.random.default_rng(0)
    dense, y = random.random((6, 5)) * (random.random((6, 5)) < 0.6), np.array([*"abcabc"])
    fitted = LowRankClassifier(rank=3, epochs=1, rate=0.3, dropout=0.0, random_state=7)
    fitted.fit(sparse.csr_matrix(dense), y)
    embedding, output, bias = np.random.default_rng(7).uniform(-1 / 3, 1 / 3, (5, 3)), np.zeros((3, 3)), np.zeros(3)
    order = np.arange(6)
    np.random.RandomState(7).shuffle(order)
    for step, text in enumerate(order):
        x, rate = dense[text], 0.3 * (1 - step / 6)
        hidden = x @ embedding
        error = (np.array([*"abc"]) == y[text]) - softmax(hidden @ output + bias)
        back = output @ error
        output += rate * np.outer(hidden, error)
        bias += rate * error
        embedding += rate * np.outer(x, back)
    np.testing.assert_allclose(fitted.coef_, (embedding @ output).T, atol=1e-5)
    np.testing.assert_allclose(fitted.intercept_, bias, atol=1e-5)


def test_terms_may_count_by_their_length_and_rare_ones_not_at_all(small_corpus: Corpus) -> None:
    settings = {"min_df": 2, "length_weights": {"characters": [1.0, 0.5], "prefixes": [0.25]}}
    config = config_of(features={"prefixes": [1, 2]}, classifier={"kind": "linear_svc", **settings})
    model = fit_topic_model(config, small_corpus)
    vectorizer = pipeline.make_vectorizer(config)
    X = vectorizer.fit_transform(small_corpus.texts)
    words, characters, prefixes = vectorizer.spaces_
    by_length = np.where(characters.lengths == 1, 1.0, 0.5)
    factors = np.concatenate([np.ones(len(words)), by_length, np.full(len(prefixes), 0.25)])
    frequent = np.concatenate([space.document_frequency for space in vectorizer.spaces_]) >= 2
    svm = LinearSVC(random_state=0, max_iter=10_000).fit(X.multiply(factors * frequent).tocsr(), small_corpus.topics)
    expected = svm.decision_function(X.multiply(factors * frequent).tocsr())
    expected -= expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(model.scores(small_corpus.texts), expected, atol=1e-3)
    frequent = np.concatenate([space.document_frequency for space in model.spaces]) >= 2
    assert not model.weights[~frequent].any()


def test_damping_divides_a_topics_scores_by_its_rows(small_corpus: Corpus) -> None:
    rows = [row for row, topic in enumerate(small_corpus.topics) if topic != "教育" or row % 2]
    corpus = small_corpus.select(rows)
    plain, damped = (
        fit_topic_model(config_of(classifier={"kind": "ridge", "damping": damping}), corpus) for damping in (0.0, 0.5)
    )
    count = np.array([max(corpus.topic_counts[topic], 5) for topic in plain.topics]) ** 0.5
    expected = plain.scores(corpus.texts) / count
    expected -= expected.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(damped.scores(corpus.texts), expected, atol=1e-5)


def test_a_bundle_may_keep_only_the_largest_weights(small_corpus: Corpus, tmp_path: Any) -> None:
    whole = fit_topic_model(config_of(), small_corpus)
    part = fit_topic_model(config_of(bundle={"keep_weights": 0.3}), small_corpus)
    assert part.weight_rows is not None
    assert len(part.weights) == round(0.3 * whole.n_terms)
    size = np.abs(whole.weights).max(axis=1)
    kept = part.weight_rows >= 0
    assert size[kept].min() >= size[~kept].max()
    np.testing.assert_array_equal(part.weights_of(np.flatnonzero(kept)), whole.weights[kept])
    assert not part.weights_of(np.flatnonzero(~kept)).any()
    # The terms without weights still count for the norm of a text: the scores are those of weights set to nothing.
    thinned = dataclasses.replace(whole, weights=np.where(kept[:, None], whole.weights, 0).astype(np.float32))
    np.testing.assert_array_equal(part.scores(small_corpus.texts), thinned.scores(small_corpus.texts))
    part.save(tmp_path / "part")
    again = TopicModel.load(tmp_path / "part")
    np.testing.assert_array_equal(again.scores(small_corpus.texts), part.scores(small_corpus.texts))
    assert again.top_terms(3) == part.top_terms(3)


@pytest.mark.slow
def test_a_frozen_blend_agrees_with_its_scikit_learn_members_on_every_text_of_a_corpus() -> None:
    corpus = read_corpus(Path(__file__).parent.parent / "data" / "starter" / "test.jsonl")
    kinds: list[dict[str, Any]] = [{"kind": "linear_svc"}, {"kind": "complement_nb"}, {"kind": "logistic_regression"}]
    blend = {"kind": "blend", "members": kinds, "weights": [1.0, 0.5, 0.25]}
    learnt = corpus.select(range(0, len(corpus), 4))
    model = fit_topic_model(config_of(classifier=blend), learnt)
    vectorizer = pipeline.make_vectorizer(config_of()).fit([matter(text) for text in learnt.texts])
    members = pipeline.members_of(config_of(classifier=blend).classifier)
    known = vectorizer.transform([matter(text) for text in learnt.texts])
    fitted = [make_classifier(member, 0).fit(known, learnt.topics) for member in members]
    X = vectorizer.transform([matter(text) for text in corpus.texts])
    scores = [fitted[0].decision_function(X), fitted[1].predict_joint_log_proba(X), fitted[2].decision_function(X)]
    centred = np.stack([each - each.mean(axis=1, keepdims=True) for each in scores])
    flat = centred.reshape(3, -1).T
    ours = model.scores(corpus.texts).ravel()
    scales, *_ = np.linalg.lstsq(flat, ours, rcond=None)
    np.testing.assert_allclose(flat @ scales, ours, atol=5e-6)


def test_the_number_of_processes_changes_nothing(small_corpus: Corpus) -> None:
    one = fit_topic_model(config_of(), small_corpus)
    two = fit_topic_model(config_of(n_jobs=2), small_corpus)
    np.testing.assert_array_equal(one.weights, two.weights)
    np.testing.assert_array_equal(one.bias, two.bias)
    assert one.temperature == two.temperature


def test_paragraphs_of_a_document_are_never_on_both_sides(
    small_corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every fit of a fold is watched: the documents it learns from and those it is asked about have none in common."""
    original, seen = pipeline._fit_split, []

    def watched(learner: Any, counts: Any, y: Any, split: pipeline.Split) -> Any:
        groups = np.asarray(small_corpus.groups)
        if split.held_out is not None:
            assert sorted([*split.training, *split.held_out]) == list(range(len(y)))
            seen.append(set(groups[split.training]) & set(groups[split.held_out]))
        return original(learner, counts, y, split)

    monkeypatch.setattr(pipeline, "_fit_split", watched)
    monkeypatch.setattr(pipeline, "Parallel", lambda **_: lambda calls: [f(*a, **k) for f, a, k in calls])
    fit_topic_model(config_of(), small_corpus)
    assert len(seen) == 5
    assert seen == [set()] * 5


def test_one_topic_is_refused_in_one_line() -> None:
    corpus = Corpus("one", ["一", "二"], ["财经", "财经"], [None, None])
    with pytest.raises(DataError, match=r"all 2 rows have the topic '财经'\. Training needs two or more") as caught:
        fit_topic_model(config_of(), corpus)
    assert "\n" not in str(caught.value)


def test_two_topics_and_two_rows_are_enough() -> None:
    corpus = Corpus("two", ["股市大涨", "球队输了"], ["财经", "体育"], [None, None])
    model = fit_topic_model(config_of(), corpus)
    assert [p.topic for p in model.predict(["股市", "球队"])] == ["财经", "体育"]


def test_a_topic_that_stands_in_one_document_only_still_trains(small_corpus: Corpus) -> None:
    corpus = Corpus(
        "rare",
        [*small_corpus.texts, "台风登陆", "暴雨预警"],
        [*small_corpus.topics, "天气", "天气"],
        [*small_corpus.documents, "alone", "alone"],
    )
    assert "天气" in fit_topic_model(config_of(), corpus).topics


def test_the_manifest_holds_no_path_or_time(small_corpus: Corpus) -> None:
    text = repr(fit_topic_model(config_of(output="/elsewhere"), small_corpus).provenance)
    assert "given" not in text
    assert "elsewhere" not in text
    assert "n_jobs" not in text
