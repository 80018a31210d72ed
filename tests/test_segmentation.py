"""Segmentation: jieba's tokens, token for token, whatever the text and the number of processes."""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import jieba
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duanti import DataError, Segmenter, read_corpus, segmentation
from duanti.segmentation import CodePoints

STARTER = Path(__file__).parents[1] / "data" / "starter" / "test.jsonl"
USER_WORDS = ("大走访", "段题", "爱民实践活动", "C++语言")

TEXTS = [
    "",
    " ",
    "他来到了网易杭研大厦",
    "A股大涨,GDP增长5.2%,iPhone 15 Pro售价9999.00元",
    "C++语言和C#语言,node.js_v2-beta&co",
    "第一行\r\n第二行\n\n第三行\r第四行\t完",
    "版本1.2.3.4%%..5%",
    "笑😂哭👨‍👩‍👧‍👦旗🇨🇳",
    "𠀀𠮷野家𪚥beyond the BMP",
    "中\u200b华\ufeff人民　共和国",
    "ＧＤＰ增长５％，全角",
    "各级公安机关深化“大走访”爱民实践活动",
    "段题是什么意思?段题!",
    "孟建柱徐灿欧阳修阿不都热西提",
    "，。！？；：“”",
    "a" * 300 + "的" * 300,
    "ñandú café İstanbul ΣΊΣΥΦΟΣ",
    "鿿龥㐀",
]

# Letters that bite: the edges of jieba's blocks, its HMM's ASCII runs, line ends, astral characters.
ALPHABET = "中国人民的是一了大学生会议鿿㐀𠀀aZ09+#&._%-,。 \t\r\n　é😂\u200b"


@cache
def oracle(words: tuple[str, ...] = ()) -> jieba.Tokenizer:
    """A tokenizer of jieba's own making that knows these words too."""
    tokenizer = jieba.Tokenizer()
    for word in words:
        tokenizer.add_word(word)
    return tokenizer


def starter_texts() -> list[str]:
    lines = STARTER.read_text(encoding="utf-8").splitlines()
    assert len(lines) > 1000
    return [json.loads(line)["text"] for line in lines]


@pytest.mark.parametrize("hmm", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_jiebas(text: str, hmm: bool) -> None:
    assert Segmenter(hmm=hmm).cut(text) == oracle().lcut(text, HMM=hmm)


@pytest.mark.parametrize("hmm", [True, False])
@pytest.mark.parametrize("text", TEXTS)
def test_tokens_with_user_words_are_jiebas(text: str, hmm: bool) -> None:
    assert Segmenter(user_words=USER_WORDS, hmm=hmm).cut(text) == oracle(USER_WORDS).lcut(text, HMM=hmm)


def test_a_user_word_is_one_token() -> None:
    assert Segmenter(hmm=False).cut("学习段题") == ["学习", "段", "题"]
    assert Segmenter(hmm=False, user_words=["段题"]).cut("学习段题") == ["学习", "段题"]


def test_tokens_of_real_texts_are_jiebas() -> None:
    texts = starter_texts()
    assert Segmenter(n_jobs=1).cut_all(texts) == [oracle().lcut(text) for text in texts]


def test_tokens_of_real_headlines_are_jiebas(corpora: Path) -> None:
    texts = read_corpus(corpora / "thucnews" / "dev.jsonl.gz").texts[:2000]
    assert Segmenter(n_jobs=1).cut_all(texts) == [oracle().lcut(text) for text in texts]


@settings(deadline=None)
@given(st.text(ALPHABET), st.booleans())
def test_tokens_of_any_text_are_jiebas(text: str, hmm: bool) -> None:
    assert Segmenter(hmm=hmm).cut(text) == oracle().lcut(text, HMM=hmm)


@settings(deadline=None)
@given(st.lists(st.sampled_from([*USER_WORDS, "段", "题", "大", "走", "访", "C++", "语言", " ", "x"])).map("".join))
def test_tokens_of_any_text_with_user_words_are_jiebas(text: str) -> None:
    assert Segmenter(user_words=USER_WORDS).cut(text) == oracle(USER_WORDS).lcut(text)


@settings(deadline=None)
@given(st.text(), st.booleans())
def test_joined_tokens_are_the_text(text: str, hmm: bool) -> None:
    assert "".join(Segmenter(hmm=hmm).cut(text)) == text


def test_the_number_of_threads_never_changes_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "_CODE_POINTS_PER_THREAD", 5)
    alone = Segmenter(user_words=USER_WORDS, n_jobs=1).cut_all(TEXTS)
    assert alone == [oracle(USER_WORDS).lcut(text) for text in TEXTS]
    for n_jobs in (2, 3, None):
        assert Segmenter(user_words=USER_WORDS, n_jobs=n_jobs).cut_all(TEXTS) == alone


ARROW = pa.array([text if text else None for text in TEXTS])


@pytest.mark.parametrize(
    "array",
    [
        ARROW,
        ARROW.cast(pa.large_string()),
        ARROW.cast(pa.string_view()),
        ARROW.dictionary_encode(),
        pa.concat_arrays([pa.array(["前", "𠮷"]), ARROW, pa.array(["后"])]).slice(2, len(ARROW)),
        pa.chunked_array([ARROW[:3], ARROW[3:3], ARROW[3:]]),
        pa.chunked_array([ARROW[:3], ARROW[3:]]).dictionary_encode(),
    ],
    ids=["string", "large", "view", "dictionary", "sliced", "chunked", "chunked dictionary"],
)
def test_arrow_arrays_of_any_kind_are_texts(array: pa.Array | pa.ChunkedArray) -> None:
    assert Segmenter().cut_all(array) == [oracle().lcut(text) for text in TEXTS]


@settings(deadline=None)
@given(st.lists(st.text() | st.none()))
def test_code_points_of_an_array_are_those_of_its_strings(texts: list[str | None]) -> None:
    ours, expected = CodePoints.of(pa.array(texts, pa.string())), CodePoints.of([text or "" for text in texts])
    assert ours.values.tolist() == expected.values.tolist()
    assert ours.offsets.tolist() == expected.offsets.tolist()
    assert ours.texts() == [text or "" for text in texts]


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (pa.array([1, 2]), "an Arrow array of int64 where texts are expected. Cast it to strings."),
        (pa.array([b"a"]), "an Arrow array of binary where texts are expected. Cast it to strings."),
        (pa.array([1]).dictionary_encode(), "an Arrow array of dictionary<values=int64"),
        (pa.array([b"ok", b"\xe4\xb8"]).view(pa.string()), "an Arrow array of texts is damaged: Invalid UTF8"),
    ],
)
def test_arrow_arrays_that_hold_no_texts_are_told(array: pa.Array, told: str) -> None:
    with pytest.raises(DataError) as fault:
        Segmenter().cut_all(array)
    assert str(fault.value).startswith(told)


def test_an_array_of_nulls_is_empty_texts() -> None:
    assert Segmenter().cut_all(pa.nulls(3)) == [[], [], []]


def test_no_texts_have_no_tokens() -> None:
    assert Segmenter().cut_all([]) == []


def test_jiebas_own_tokenizer_stays_uninitialised() -> None:
    program = (
        "import jieba; from duanti import Segmenter; "
        "Segmenter(user_words=['段题']).cut('段题好用'); Segmenter(hmm=False).cut_all(['段题好用']); "
        "assert not jieba.dt.initialized; assert not jieba.dt.FREQ; assert jieba.finalseg.Force_Split_Words == set()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_at_least_one_core_is_available() -> None:
    assert segmentation.available_cores() >= 1
