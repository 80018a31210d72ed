"""Many texts at once, against the rules for one: ``split_paragraphs`` and ``matter`` are the oracles."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duanti import read_corpus, split_paragraphs
from duanti.paragraphs import matter
from duanti.segmentation import CodePoints
from duanti.splitting import KINDS, matter_spans, split_texts

LONG = "会议指出，要坚持稳中求进的工作总基调，全面贯彻新发展理念，着力推动高质量发展，确保各项任务落到实处。" * 2

# What datelines, bylines, footers and headings are made of, and what stands beside them.
PIECES = [
    *("中新网", "4月9日", "电", "讯", "本报", "据", "记者", "徐灿", "图/", "来源:", "摄影", LONG),
    *("责编", "编辑：", "责任", "校对:", "审", "核", "终", "监制", "未经", "授权", "不得转载", "请注明", "出处"),
    *(
        "版权",
        "所有",
        "声明：",
        "Copyright",
        "copy",
        "right",
        "©",
        "(c) 2024",
        "ＩＣＰ备",
        "icp",
        "证1",
        "公网安备 3",
        "All Rights",
    ),
    *(" reserved", "增值电信业务经营", "许可证"),
    *(" ", "\u3000", "\u200b", "\ufeff", "\n", "\r\n", "\x1e", "\u2028", "\x1f"),
    *("（", "）", "(", ")", "】", "”", "…", "。", ".", "！", ",", ":", "㍿", "⑴", "⒞", "㏄", "𠀀", "𝐜", "ſ", "\ud800"),
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)

FOOTERS = [
    "Copyright 某某网",
    "COPYRIGHT © 2024 某某网",
    "(C) 2019 某某公司",
    "版权所有",
    "免责声明：本文仅代表作者本人",
    "本站 All Rights Reserved",
    "责任编辑：方汝宁",
    "【编辑:李四】",
    "校对：王五 终审：赵六",
    "未经本网授权不得转载",
    "转载请注明出处",
    "京ICP备12345678号",
    "京公网安备 110102000001号",
    "互联网新闻信息服务许可证",
]


def paragraphs_of(texts: list[str]) -> list[list[tuple[int, int, str]]]:
    """Start, end and kind of the paragraphs of each text, all found at once."""
    batch = CodePoints.of(texts)
    lines = split_texts(*batch)
    found: list[list[tuple[int, int, str]]] = [[] for _ in texts]
    for number, begin, end, kind in zip(*(part.tolist() for part in lines), strict=True):
        found[number].append((begin - int(batch.offsets[number]), end - int(batch.offsets[number]), KINDS[kind]))
    return found


def oracle(texts: list[str]) -> list[list[tuple[int, int, str]]]:
    return [[(p.start, p.end, p.kind) for p in split_paragraphs(text)] for text in texts]


def matters_of(texts: list[str]) -> list[str]:
    batch = CodePoints.of(texts)
    return batch.narrowed(*matter_spans(*batch)).texts()


@given(st.lists(TEXTS, max_size=5))
@settings(max_examples=1000, deadline=None)
def test_what_news_is_made_of_is_split_as_one_by_one(texts: list[str]) -> None:
    assert paragraphs_of(texts) == oracle(texts)
    assert matters_of(texts) == [matter(text) for text in texts]


@given(st.lists(st.text(max_size=80), max_size=5))
@settings(max_examples=300, deadline=None)
def test_anything_is_split_as_one_by_one(texts: list[str]) -> None:
    assert paragraphs_of(texts) == oracle(texts)
    assert matters_of(texts) == [matter(text) for text in texts]


@pytest.mark.parametrize("footer", FOOTERS)
def test_the_sieve_lets_no_footer_pass_however_it_is_written(footer: str) -> None:
    wide = "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in footer)
    split = [f"{footer[:n]}\u200b{footer[n:]}" for n in range(1, len(footer))]
    ways = [footer, footer.upper(), footer.lower(), wide, *split]
    assert {kind for ((_, _, kind),) in paragraphs_of(ways)} == {"boilerplate"}


def test_each_character_ends_a_heading_or_not_as_the_rules_have_it() -> None:
    lines = [f"某地举行会议{chr(c)}" for c in range(1, 0x11000) if not 0xD800 <= c < 0xE000]
    lines += [f"{line}”" for line in lines]
    assert paragraphs_of(lines) == oracle(lines)


@pytest.mark.parametrize("name", ["law_chapters/dev", "thucnews/dev", "csldcp/dev", "iflytek/dev", "tnews/train"])
def test_a_real_corpus_is_split_as_text_by_text(corpora: Path, name: str) -> None:
    texts = list(read_corpus(corpora / f"{name}.jsonl.gz").texts)[:20_000]
    assert paragraphs_of(texts) == oracle(texts)
    assert matters_of(texts) == [matter(text) for text in texts]
    whole = ["\n".join(texts[n : n + 8]) for n in range(0, len(texts), 8)]
    assert paragraphs_of(whole) == oracle(whole)


def test_the_article_of_the_starter_corpus_is_split_as_alone() -> None:
    folder = Path(__file__).parent.parent / "data" / "starter"
    texts = [(folder / "article.txt").read_text(encoding="utf-8")]
    texts += [json.loads(line)["text"] for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    assert paragraphs_of(texts) == oracle(texts)
