"""The lexicon: Unicode's NFKC code point by code point, and jieba's dictionary without jieba's process-wide state."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import jieba
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duanti import Segmenter, lexicon

STARTER = Path(__file__).parents[1] / "data" / "starter" / "test.jsonl"

# A hand-kept twin of the marks that are drawn with no width.
INVISIBLE = (
    "\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2061\u2062\u2063\u2064\ufeff"
)


def jieba_knowing(*words: str) -> jieba.Tokenizer:
    """A tokenizer of jieba's own making that knows these words too."""
    tokenizer = jieba.Tokenizer()
    for word in words:
        tokenizer.add_word(word)
    return tokenizer


def test_every_code_point_but_invisible_marks_becomes_its_nfkc_form() -> None:
    wrong = [
        code_point
        for code_point in range(sys.maxunicode + 1)
        if chr(code_point) not in INVISIBLE
        and lexicon.normalize(chr(code_point)) != unicodedata.normalize("NFKC", chr(code_point))
    ]
    assert wrong == []


def test_invisible_marks_are_removed() -> None:
    assert lexicon.normalize(f"股{INVISIBLE}市") == "股市"
    assert set(INVISIBLE) == lexicon.ZERO_WIDTH


def test_ascii_is_kept() -> None:
    text = "".join(map(chr, range(128)))
    assert lexicon.normalize(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ＧＤＰ增长５．２％", "GDP增长5.2%"),
        ("第①条　㎡", "第1条 m2"),
        ("﷐", "﷐"),
        ("ﷺ", "صلى الله عليه وسلم"),
        ("e\u0301", "e\u0301"),
    ],
)
def test_forms_worked_by_hand(text: str, expected: str) -> None:
    assert lexicon.normalize(text) == expected


def test_real_texts_become_what_nfkc_of_the_whole_text_is() -> None:
    texts = [json.loads(line)["text"] for line in STARTER.read_text(encoding="utf-8").splitlines()]
    assert len(texts) > 1000
    assert [lexicon.normalize(text) for text in texts] == [unicodedata.normalize("NFKC", text) for text in texts]


@given(st.text(), st.text())
def test_normalisation_looks_at_one_code_point_at_a_time(first: str, second: str) -> None:
    assert lexicon.normalize(first + second) == lexicon.normalize(first) + lexicon.normalize(second)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = lexicon.normalize(text)
    assert lexicon.normalize(once) == once


def test_user_words_stay_with_the_segmenter_they_were_given_to() -> None:
    text = "学习段题"
    assert Segmenter(hmm=False).cut(text) == ["学习", "段", "题"]
    assert Segmenter(hmm=False, user_words=["段题"]).cut(text) == ["学习", "段题"]
    assert Segmenter(hmm=False).cut(text) == ["学习", "段", "题"]
    assert Segmenter(hmm=False, user_words=["习段"]).cut(text) == jieba_knowing("习段").lcut(text, HMM=False)


def test_user_words_stay_out_of_jiebas_own_tokenizer() -> None:
    Segmenter(user_words=["学习段题"]).cut("学习段题")
    assert "学习段题" not in jieba.dt.FREQ
    assert jieba_knowing().lcut("学习段题", HMM=False) == ["学习", "段", "题"]


def test_the_digest_is_the_same_in_another_process() -> None:
    program = "from duanti import lexicon; print(lexicon.digest())"
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, env=environment)
    assert other.stdout.strip() == lexicon.digest()
    assert len(bytes.fromhex(lexicon.digest())) == 32


def test_the_version_is_jiebas() -> None:
    assert lexicon.version() == jieba.__version__
