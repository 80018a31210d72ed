"""What is wrong with a corpus: everything planted is found, and nothing else of its kind."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from duanti import Corpus, read_corpus
from duanti.audit import KINDS, Audit, audit, count_findings, leakage
from duanti.corpus import Scan, scan_corpus

WORDS = {
    "财经": ["股市", "基金", "利率", "债券", "银行", "分红", "央行", "券商", "汇率", "成交"],
    "体育": ["球队", "比赛", "门将", "前锋", "教练", "冠军", "联赛", "主场", "点球", "复出"],
    "教育": ["学校", "高考", "考试", "老师", "学生", "录取", "考研", "课程", "校园", "招生"],
}
COMMON = [
    "上涨",
    "公布",
    "昨日",
    "今年",
    "北京",
    "上海",
    "消息",
    "成为",
    "之后",
    "宣布",
    "开始",
    "下降",
    "记者",
    "表示",
]


def made(per_topic: int, seed: int = 0) -> Corpus:
    """Texts of words of their topic and of none, hardly two of them alike."""
    random = Random(seed)
    topics = [topic for topic in WORDS for _ in range(per_topic)]
    random.shuffle(topics)
    texts = []
    for topic in topics:
        words = [*random.sample(WORDS[topic], 3), *random.sample(COMMON, 4)]
        random.shuffle(words)
        texts.append("".join(words))
    return Corpus("made", texts, topics, [None] * len(topics))


def as_scan(corpus: Corpus, name: str = "made.jsonl") -> Scan:
    return Scan(corpus, [f"{name}, line {row + 1}" for row in range(len(corpus))], [])


def mislabelled(corpus: Corpus, share: float) -> tuple[Corpus, set[int]]:
    """The corpus with so many topics exchanged for others, and the rows of these."""
    random = Random(0)
    rows = random.sample(range(len(corpus)), round(share * len(corpus)))
    topics, names = list(corpus.topics), sorted(set(corpus.topics))
    for row in rows:
        topics[row] = random.choice([topic for topic in names if topic != topics[row]])
    return replace(corpus, topics=topics), set(rows)


def rows_of(found: Audit, kind: str) -> list[int]:
    return [finding.as_dict()["line"] - 1 for finding in found.by_kind.get(kind, [])]


def share_found(ranked: Sequence[int], planted: set[int], n_rows: int) -> float:
    """Share of the planted rows within the first 6 % of as many."""
    return len(planted & set(ranked[: round(0.06 * n_rows)])) / len(planted)


def test_planted_label_errors_come_first() -> None:
    corpus, planted = mislabelled(made(200), 0.03)
    found = audit(as_scan(corpus), n_jobs=1)
    assert share_found(rows_of(found, "label_error"), planted, len(corpus)) >= 0.9
    first = found.by_kind["label_error"][0]
    assert first.detail["suggested"] == made(200).topics[first.as_dict()["line"] - 1]
    margins = [finding.detail["margin"] for finding in found.by_kind["label_error"]]
    assert margins == sorted(margins)
    assert all(margin <= 0 for margin in margins)
    assert all(0 < finding.detail["probability"] <= 1 for finding in found.by_kind["label_error"])


@pytest.mark.long
def test_planted_label_errors_come_first_on_real_headlines(corpora: Path) -> None:
    corpus, planted = mislabelled(read_corpus(corpora / "thucnews" / "train.jsonl.gz"), 0.03)
    found = audit(as_scan(corpus))
    assert share_found(rows_of(found, "label_error"), planted, len(corpus)) >= 0.9


def test_a_copy_with_a_wrong_topic_does_not_vouch_for_itself() -> None:
    """Five copies of a text with the wrong topic, in different folds, are still called errors."""
    corpus = made(60)
    wrong = "股市基金利率上涨公布昨日消息"
    corpus = Corpus("made", [*corpus.texts, *[wrong] * 5], [*corpus.topics, *["体育"] * 5], [None] * 185)
    assert set(rows_of(audit(as_scan(corpus), n_jobs=1), "label_error")) >= set(range(180, 185))


def test_planted_duplicates_and_contradictions_are_found() -> None:
    corpus = made(60)
    texts, topics = list(corpus.texts), list(corpus.topics)
    long = "".join(COMMON) + texts[5]
    texts[5] = long
    texts += [texts[3], f"{long}！", f" {texts[3]}"]
    topics += [topics[3], topics[5], "别的" if topics[3] != "别的" else "财经"]
    found = audit(as_scan(Corpus("made", texts, topics, [None] * 183)), n_jobs=1)
    [exact] = found.by_kind["exact_duplicates"]
    assert exact.as_dict()["line"] == 4
    assert [other["place"] for other in exact.detail["others"]] == ["made.jsonl, line 181", "made.jsonl, line 183"]
    [near] = found.by_kind["near_duplicates"]
    assert near.as_dict()["line"] == 6
    assert [other["place"] for other in near.detail["others"]] == ["made.jsonl, line 182"]
    assert near.detail["others"][0]["similarity"] > 0.9
    [contradiction] = found.by_kind["contradicting_topics"]
    assert contradiction.as_dict()["line"] == 4
    assert contradiction.detail["topics"] == {topics[3]: 2, "别的": 1}


def test_what_a_test_set_shares_with_the_training_set_is_counted() -> None:
    training, other = made(60), made(20, seed=1)
    documents = ["d1" if row < 3 else None for row in range(180)]
    training = replace(training, documents=documents)
    wrong = next(topic for topic in WORDS if topic != training.topics[9])
    test = Corpus(
        "test",
        [*other.texts, training.texts[7], f"{training.texts[8]}！", training.texts[9]],
        [*other.topics, training.topics[7], training.topics[8], wrong],
        [*["d2", "d1", None, *[None] * 57], None, None, None],
    )
    shared = leakage(training, test)
    assert (shared.rows, shared.exact, shared.near, shared.contradicting, shared.documents) == (63, 2, 3, 1, 1)
    assert shared.as_metrics() == {
        "leakage.exact": 2 / 63,
        "leakage.near": 3 / 63,
        "leakage.contradicting": 1 / 63,
        "leakage.documents": 1,
    }
    found = audit(as_scan(training), as_scan(test, "test.jsonl"), n_jobs=1)
    assert found.leakage == shared
    assert rows_of(found, "exact_across") == [60, 62]
    assert rows_of(found, "near_across") == [61]
    assert rows_of(found, "contradicting_topics") == [62]
    assert rows_of(found, "shared_document") == [1]
    assert found.by_kind["exact_across"][0].detail["others"][0]["place"] == "made.jsonl, line 8"
    assert found.reliance is not None
    assert (found.reliance.rows, found.reliance.duplicated_rows) == (63, 3)
    assert found.reliance.duplicated_accuracy == 2 / 3
    hits = round(found.reliance.other_accuracy * 60) + 2  # type: ignore[operator]
    assert found.reliance.accuracy == hits / 63


def test_accuracy_that_rests_on_copies_is_told_apart() -> None:
    """Topics drawn by lot cannot be learnt, only remembered: each text stands there twice."""
    random = Random(0)
    texts = ["".join(random.choices("的一是了不在有人我他这中大来上国个到说们", k=20)) for _ in range(150)]
    topics = [random.choice("甲乙丙") for _ in texts]
    reliance = audit(as_scan(Corpus("copies", texts * 2, topics * 2, [None] * 300)), n_jobs=1).reliance
    assert reliance is not None
    assert reliance.duplicated_rows > 200
    assert reliance.duplicated_accuracy > 0.9  # type: ignore[operator]
    assert reliance.accuracy > 0.7  # type: ignore[operator]
    assert reliance.apart_accuracy < 0.5  # type: ignore[operator]


def test_rare_topics_are_named() -> None:
    corpus = made(20)
    corpus = Corpus(
        "made",
        [*corpus.texts, "台风登陆", "暴雨预警", "云", "雾", "雪", "霜"],
        [*corpus.topics, *["天气"] * 6],
        [*corpus.documents, *["d"] * 6],
    )
    found = audit(as_scan(corpus), n_jobs=1)
    [rare] = found.by_kind["rare_topic"]
    assert (rare.topic, rare.detail) == ("天气", {"rows": 6, "documents": 1})
    assert found.as_dict(3)["corpora"][0]["imbalance"] == 20 / 6


def test_the_number_of_processes_changes_nothing() -> None:
    corpus, _ = mislabelled(made(40), 0.05)
    one, two = (audit(as_scan(corpus), as_scan(made(10, 3)), n_jobs=n_jobs) for n_jobs in (1, 2))
    assert one.findings == two.findings
    assert one.as_dict(9) == two.as_dict(9)


@pytest.mark.parametrize(
    ("texts", "topics"),
    [
        (["股市大涨"], ["财经"]),
        (["股市大涨"] * 5000, ["财经"] * 5000),
        (["股市大涨"] * 50, ["财经", "体育"] * 25),
        (["股市大涨", "球队输了"], ["财经", "体育"]),
        (["!", "?"], ["财经", "体育"]),
    ],
)
def test_corpora_that_nothing_can_be_learnt_from_are_looked_at_too(texts: list[str], topics: list[str]) -> None:
    found = audit(as_scan(Corpus("poor", texts, topics, [None] * len(texts))), n_jobs=1)
    assert (found.reliance is None) == (len(set(topics)) == 1)
    assert ("exact_duplicates" in found.by_kind) == (len(texts) > 2)
    json.dumps(found.as_dict(5), allow_nan=False)


def test_every_kind_found_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    rows = [{"text": text, "topic": topic} for text, topic in zip(made(9).texts, made(9).topics, strict=True)]
    rows += [{"text": "", "topic": "财经"}, {"text": "若\ufffd隔空传情", "topic": "体育"}]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = audit(scan_corpus(path), n_jobs=1)
    assert {finding.kind for finding in found.findings} <= set(KINDS)
    [unusable] = found.by_kind["unusable"]
    assert unusable.as_dict()["file"] == str(path)
    assert unusable.as_dict()["line"] == 28
    assert unusable.what == "'text' is empty. Give it a value or remove the row."
    assert "replacement_character" in found.by_kind


def test_what_is_counted_is_what_is_found_without_classifiers() -> None:
    corpus = made(8)
    texts = [*corpus.texts, corpus.texts[0], f"{corpus.texts[1]}，", "<b>股市</b>"]
    topics = [*corpus.topics, "教育" if corpus.topics[0] != "教育" else "财经", corpus.topics[1], "罕见"]
    doubtful = Corpus("doubtful", texts, topics, [None] * len(texts))
    found = audit(as_scan(doubtful), n_jobs=1).by_kind
    counts = count_findings(doubtful, n_jobs=1)
    assert {"exact_duplicates", "near_duplicates", "contradicting_topics", "rare_topic", "markup"} <= set(counts)
    assert counts == {kind: len(findings) for kind, findings in found.items() if kind != "label_error"}
