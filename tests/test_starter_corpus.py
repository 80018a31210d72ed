"""The starter corpus: schema, counts, no duplicates, no document on both sides."""

import json
import re
import unicodedata
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from duanti import read_corpus, split_paragraphs

FOLDER = Path(__file__).parent.parent / "data" / "starter"
SECTIONS = "时政 法治 国际 军事 财经 房产 科技 教育 体育 娱乐 社会 健康 文化 旅游 汽车 游戏 农业 环境"
TOPICS = set(SECTIONS.split())
LENGTHS = {"headline": (8, 30), "prose": (40, 250), "article": (30, 260)}


@cache
def rows(side: str) -> list[dict[str, Any]]:
    with (FOLDER / f"{side}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def both() -> list[dict[str, Any]]:
    return rows("train") + rows("test")


def test_every_row_has_the_schema() -> None:
    for row in both():
        assert list(row) == ["text", "topic", "document", "register"]
        assert row["topic"] in TOPICS
        shortest, longest = LENGTHS[row["register"]]
        assert shortest <= len(row["text"]) <= longest, row
        assert row["text"] == " ".join(row["text"].split())
        assert row["document"].startswith(row["register"])


@pytest.mark.parametrize("side", ["train", "test"])
def test_each_side_is_a_corpus_of_all_topics_and_registers(side: str) -> None:
    corpus = read_corpus(FOLDER / f"{side}.jsonl")
    assert set(corpus.topics) == TOPICS
    assert {row["register"] for row in rows(side)} == set(LENGTHS)


def test_there_is_enough_of_everything() -> None:
    assert len(both()) >= 1200
    assert len({row["document"] for row in both()}) >= 300
    per_topic = Counter(row["topic"] for row in both())
    assert min(per_topic[topic] for topic in TOPICS) >= 60
    prose = Counter(row["topic"] for row in both() if row["register"] != "headline")
    assert min(prose[topic] for topic in TOPICS) >= 60


def test_articles_change_their_topic() -> None:
    articles = defaultdict(list)
    for row in both():
        if row["register"] == "article":
            articles[row["document"]].append(row["topic"])
    changing = [topics for topics in articles.values() if 4 <= len(topics) <= 9 and len(set(topics)) > 1]
    assert len(changing) >= 60


def test_no_document_is_on_both_sides() -> None:
    assert not {row["document"] for row in rows("train")} & {row["document"] for row in rows("test")}


def plain(text: str) -> str:
    return re.sub(r"\W", "", unicodedata.normalize("NFKC", text).lower())


def test_no_text_stands_twice() -> None:
    texts = Counter(plain(row["text"]) for row in both())
    assert [text for text, count in texts.items() if count > 1] == []


def test_no_two_texts_share_half_of_their_trigrams() -> None:
    holders: dict[str, list[int]] = defaultdict(list)
    sizes: list[int] = []
    alike = []
    for number, row in enumerate(both()):
        text = plain(row["text"])
        trigrams = {text[start : start + 3] for start in range(max(len(text) - 2, 1))}
        shared = Counter(other for trigram in trigrams for other in holders[trigram])
        alike += [
            (text, both()[other]["text"])
            for other, count in shared.items()
            if count / (len(trigrams) + sizes[other] - count) >= 0.5
        ]
        for trigram in trigrams:
            holders[trigram].append(number)
        sizes.append(len(trigrams))
    assert alike == []


def test_inside_a_topic_no_eight_characters_return_often() -> None:
    seen = 0
    for topic in TOPICS:
        texts = [row["text"] for row in both() if row["topic"] == topic]
        grams = Counter(gram for text in texts for gram in {text[n : n + 8] for n in range(len(text) - 7)})
        seen += len(grams)
        gram, count = grams.most_common(1)[0]
        assert count <= max(1, 0.01 * len(texts)), f"{topic}: {gram} stands in {count} of {len(texts)} texts"
    assert seen > 100_000


def runs_of_twelve(text: str) -> NDArray[np.uint64]:
    """A 64-bit hash of every run of twelve characters."""
    code_points = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    hashes = np.zeros(max(len(code_points) - 11, 0), dtype=np.uint64)
    for offset in range(12 if len(hashes) else 0):
        hashes = (hashes ^ code_points[offset : len(hashes) + offset]) * np.uint64(0x9E3779B97F4A7C15)
        hashes ^= hashes >> np.uint64(31)
    return hashes


@pytest.mark.slow
def test_nothing_was_copied_from_the_real_corpora(corpora: Path) -> None:
    ours = np.unique(runs_of_twelve("\0".join(row["text"] for row in both())))
    files = sorted(corpora.glob("*/*.jsonl.gz"))
    assert len(files) >= 6
    texts = ["\n".join(read_corpus(path).texts) for path in files]
    texts.append((corpora / "article.txt").read_text(encoding="utf-8"))
    for text in texts:
        assert not np.isin(runs_of_twelve(text), ours).any()


def test_the_article_has_the_shape_crawlers_deliver() -> None:
    text = (FOLDER / "article.txt").read_text(encoding="utf-8")
    paragraphs = split_paragraphs(text)
    assert [p.kind for p in paragraphs] == ["lead", "body", "body", "body", "body", "boilerplate", "boilerplate"]
    assert "本报青岩" not in paragraphs[0].text
    assert "田小禾" not in paragraphs[4].text
    assert all(len(p.text) > 120 for p in paragraphs[:5])
