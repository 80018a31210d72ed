"""Exactly jieba: random strings, and real texts where there are some.

A sample by default; DUANTI_FUZZ_STRINGS and DUANTI_FUZZ_TEXTS (texts per corpus) ask for more, as `make fuzz` does.
"""

import os
import random
from pathlib import Path
from typing import Any

import jieba
import pytest

from duanti import Segmenter, read_corpus

STRINGS = int(os.environ.get("DUANTI_FUZZ_STRINGS", "8000"))
TEXTS = int(os.environ.get("DUANTI_FUZZ_TEXTS", "150"))
PARTS = 8
USER_WORDS = ("大涨", "网易杭研", "GDP增长", "云计算", "A股", "的了", "八一双鹿", "第一百二十条", "C++", "x-y_z")

SPECIAL = "+#&._%-"
KINDS: list[Any] = [
    lambda r: chr(r.randint(0x4E00, 0x9FA5)),
    lambda r: r.choice(
        "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产"
    ),
    lambda r: chr(r.choice([0x3400, 0x4DBF, 0x9FD5, 0x9FD6, 0x9FFF, 0x20000, 0x2A6D6, 0x30000, 0xF900])),
    lambda r: chr(r.randint(0x61, 0x7A)) if r.random() < 0.7 else chr(r.randint(0x41, 0x5A)),
    lambda r: chr(r.randint(0x30, 0x39)),
    lambda r: r.choice(SPECIAL),
    lambda r: r.choice([" ", "\t", "\n", "\r\n", "\r", "\u3000", "\u2028", "\xa0"]),
    lambda r: r.choice(["😂", "👨‍👩‍👧", "🇨🇳", "é", "ß", "Σ", "İ", "ǅ"]),
    lambda r: chr(r.randint(0xFF01, 0xFF5E)),
    lambda r: r.choice(["\ud800", "\udfff", "\ud83d\ude00"]),
    lambda r: chr(r.choice([0, 1, 7, 0x1B, 0x7F, 0x85, 0x200B, 0x200D, 0xFEFF])),
    lambda r: r.choice(
        ["研究生命起源", "南京市长江大桥", "3.14%", "v2.0-rc1", "北京大学生", "乒乓球拍卖完了", *USER_WORDS]
    ),
]


def random_string(source: random.Random) -> str:
    """Runs of a few kinds of characters, because what is hard stands at their borders."""
    kinds = source.sample(KINDS, source.randint(1, 4))
    pieces = []
    for _ in range(source.randint(1, 8)):
        kind = source.choice(kinds)
        pieces += [kind(source) for _ in range(source.randint(1, 6))]
    return "".join(pieces)


def tokenizer(user_words: tuple[str, ...]) -> Any:
    """A jieba of our own, by its public methods."""
    jieba.setLogLevel(60)
    own = jieba.Tokenizer()
    own.initialize()
    for word in user_words:
        own.add_word(word)
    return own


@pytest.mark.parametrize("user_words", [(), USER_WORDS], ids=["plain", "user words"])
@pytest.mark.parametrize("hmm", [True, False], ids=["hmm", "no hmm"])
@pytest.mark.parametrize("part", range(PARTS))
def test_random_strings_are_cut_as_jieba_cuts_them(part: int, hmm: bool, user_words: tuple[str, ...]) -> None:
    source = random.Random(part)
    strings = [random_string(source) for _ in range(STRINGS // PARTS)]
    theirs, ours = tokenizer(user_words), Segmenter(user_words=user_words, hmm=hmm)
    assert len(strings) > 100
    for text, tokens in zip(strings, ours.cut_all(strings), strict=True):
        assert tokens == theirs.lcut(text, HMM=hmm), ascii(text)


@pytest.mark.slow
@pytest.mark.parametrize("user_words", [(), USER_WORDS], ids=["plain", "user words"])
@pytest.mark.parametrize("hmm", [True, False], ids=["hmm", "no hmm"])
def test_real_texts_are_cut_as_jieba_cuts_them(corpora: Path, hmm: bool, user_words: tuple[str, ...]) -> None:
    files = sorted(corpora.glob("*/*.jsonl.gz"))
    assert len(files) >= 6
    theirs, ours = tokenizer(user_words), Segmenter(user_words=user_words, hmm=hmm)
    article = (corpora / "article.txt").read_text(encoding="utf-8")
    for texts in [[article], *(read_corpus(path).texts[:TEXTS] for path in files)]:
        for text, tokens in zip(texts, ours.cut_all(texts), strict=True):
            assert tokens == theirs.lcut(text, HMM=hmm), text
