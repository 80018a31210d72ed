"""Odd texts: each kind on a text that has it, and none on texts that have none."""

import pytest

from duanti.oddities import ODDITIES, describe, find_oddities

PLAIN = "沪指大涨，券商板块领涨，两市成交额突破一万亿元。"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("冯德伦徐若\ufffd隔空传情", "replacement_character"),
        ("内容锟斤拷锟斤拷显示不出来", "mojibake"),
        ("烫烫烫烫", "mojibake"),
        (PLAIN.encode().decode("gbk", "replace"), "mojibake"),
        (PLAIN.encode().decode("gb18030", "replace"), "mojibake"),
        (PLAIN.encode().decode("latin-1"), "mojibake"),
        (PLAIN.encode().decode("cp1252", "replace"), "mojibake"),
        (PLAIN.encode("gbk").decode("latin-1"), "mojibake"),
        ("Ã¤hnlich 中文", "mojibake"),
        ("身高低于1\ue0104米的儿童", "private_use"),
        ("水滴清单\x08来到了安卓平台", "control_character"),
        ("体重指数 &lt; 35", "markup"),
        ("第一段<br/>第二段", "markup"),
        ("Breaking news", "no_han"),
        ("2018-5-10 12:30 早报", "mostly_signs"),
        ("正文\n分享到微博\n分享到微博\n分享到微博\n", "repeated_lines"),
    ],
)
def test_each_kind_is_found(text: str, kind: str) -> None:
    assert kind in dict(describe(text))
    assert kind in ODDITIES


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "联通",
        "咖啡馆 café crème、Zürich 与“引号”——都不是乱码…",
        "注册证号中的××××3和××××6为流水号，这就是······",
        "标题\n正文第一段\n正文第二段",
        "血红蛋白<90且血小板>100，研发R&D；",
        "A股三大指数集体收涨 GDP增长5%",
        "全角ＡＢＣ，㈠㈡㈢，①②③的文字也没有问题",
        "繁體中文：國務院總理會見記者，臺灣與香港",
    ],
)
def test_sound_texts_are_not_odd(text: str) -> None:
    assert list(describe(text)) == []


def test_lengths_far_from_the_rest_are_odd() -> None:
    texts = [*(PLAIN[: 16 + number % 8] for number in range(1000)), "股", PLAIN * 10]
    assert [(row, kind) for row, kind, _ in find_oddities(texts)] == [(1000, "very_short"), (1001, "very_long")]


def test_headlines_beside_paragraphs_are_not_odd() -> None:
    texts = [*(["沪指今日大涨收红"] * 900), *([PLAIN * 8] * 100)]
    assert list(find_oddities(texts)) == []


@pytest.mark.long
def test_real_corpora_are_hardly_odd(corpora: object) -> None:
    from duanti import read_corpus

    for name in ("thucnews", "tnews", "law_chapters", "csldcp"):
        texts = read_corpus(f"{corpora}/{name}/train.jsonl.gz").texts
        kinds = [kind for _, kind, _ in find_oddities(texts) if kind != "replacement_character"]
        assert len(kinds) < 0.002 * len(texts), name
        assert kinds.count("mojibake") <= 1, name
