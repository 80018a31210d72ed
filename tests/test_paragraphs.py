"""Paragraphs: what is cut from a document, what it is, and where it stands, by tables worked by hand."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from duanti import read_corpus, split_paragraphs
from duanti.paragraphs import WITHOUT_TOPIC, matter

NEWS = "国务院召开会议,部署下一阶段工作。"
LONG = (
    "国务院召开常务会议,部署下一阶段经济工作,听取有关部门汇报,讨论并原则通过有关条例的草案,"
    "决定对现行规定作出修改,并提请审议。"
)


def kinds(text: str) -> list[str]:
    return [paragraph.kind for paragraph in split_paragraphs(text)]


@pytest.mark.parametrize(
    "dateline",
    [
        "新华社北京4月9日电 ",
        "新华社北京4月9日电(记者 徐灿)",
        "新华社北京4月9日电 (记者 徐灿) ",
        "新华社北京4月9日电(记者徐灿、王五)",
        "新华社北京4月9日专电 ",
        "新华社北京2009年4月9日电 ",
        "新华社北京4月9日电——",
        "新华社华盛顿4月9日电 ",
        "新华社北京４月９日电　",
        "新华社北京４月９日电（记者　徐灿）",
        "新华\u200b社北京4月9\u200d日\ufeff电 ",
        "据新华社北京4月9日电 ",
        "(新华社北京4月9日电)",
        "中新网4月9日电 ",
        "中新网北京4月9日电 ",
        "中新网4月9日电 题:",
        "中新社北京4月9日电 ",
        "人民网北京4月9日电 ",
        "路透社4月9日电 ",
        "本报讯 ",
        "本报讯(记者 徐灿)",
        "本报讯(记者徐灿 通讯员王五)",
        "本报讯 记者徐灿报道:",
        "本报北京4月9日讯 ",
        "【本报讯】",
        "[本报讯]",
        "新京报讯(记者 徐灿)",
        "新浪科技讯 北京时间4月9日消息,",
        "新浪财经讯 4月9日消息,",
        "新浪体育讯 ",
        "央视网消息:",
    ],
)
def test_a_dateline_is_kept_out_of_the_text(dateline: str) -> None:
    (paragraph,) = split_paragraphs(dateline + NEWS)
    assert (paragraph.kind, paragraph.text, paragraph.start) == ("lead", NEWS, len(dateline))
    assert matter(dateline + NEWS) == NEWS


@pytest.mark.parametrize(
    "text",
    [
        "本报告期内,公司实现净利润5亿元。",
        "4月9日,国务院召开会议。",
        "公司公告称电讯盈科拟收购旗下资产。",
        "电讯盈科4月9日公告。",
        "本报记者徐灿报道了此事。",
        "本报电话已更换。",
        "本报消息灵通。",
        "本网站使用须知如下。",
        "新华社记者在现场看到。",
        "新华社北京分社成立。",
        "据新华社报道,国务院召开会议。",
        "据报道,国务院召开会议。",
        "媒体报道,国务院召开会议。",
        "上网电价4月9日起下调。",
        "北京时间4月9日,国务院召开会议。",
        "会议4月9日在北京召开,新华社北京4月9日电作了报道。",
    ],
)
def test_what_only_looks_like_a_dateline_is_text(text: str) -> None:
    assert [(paragraph.kind, paragraph.text) for paragraph in split_paragraphs(text)] == [("body", text)]
    assert matter(text) == text


@pytest.mark.parametrize(
    "byline",
    [
        "(徐灿)",
        "（徐灿）",
        "(徐灿)。",
        "【徐灿】",
        "[徐灿]",
        "(记者 徐灿)",
        "(本报记者 徐灿)",
        "(编辑:王五)",
        "(责任编辑:王五)",
        "(实习生 徐灿)",
        "(张三 李四)",
        "(张三、李四)",
        "(欧阳修文)",
        "(徐\u200b灿)",
        "(本报记者 徐灿 通讯员 王五 赵六 实习生 张三 李四 摄影 欧阳修 司马光)",
        " (徐灿)",
        "(徐灿)(责任编辑:王五)",
    ],
)
def test_a_byline_is_kept_out_of_the_text(byline: str) -> None:
    (paragraph,) = split_paragraphs(LONG + byline)
    assert (paragraph.kind, paragraph.text, paragraph.end) == ("body", LONG, len(LONG))
    assert matter(LONG + byline) == LONG


@pytest.mark.parametrize(
    "bracket",
    [
        "(组图)",
        "(附图)",
        "(图)",
        "(视频)",
        "(全文)",
        "(以下简称条例)",
        "(以下简称《条例》)",
        "(2009年4月9日)",
        "(WTO)",
        "(试行)",
    ],
)
def test_a_bracket_that_names_nobody_is_text(bracket: str) -> None:
    (paragraph,) = split_paragraphs(LONG + bracket)
    assert paragraph.text == LONG + bracket
    assert matter(LONG + bracket) == LONG + bracket


@pytest.mark.parametrize("length", [59, 60])
def test_a_byline_is_looked_for_from_sixty_code_points_on(length: int) -> None:
    text = "会" * (length - 4) + "(徐灿)"
    assert (matter(text) == text) == (length < 60)


def test_dateline_and_byline_go_together() -> None:
    assert matter(f"中新网4月9日电 {LONG}(徐灿)") == LONG
    assert matter(f"据新华社北京4月9日电 本报讯(记者 徐灿){LONG}(徐灿)(王五)") == LONG


@pytest.mark.parametrize("indentation", ["", "　　", "\ufeff", " \t"])
def test_matter_sees_a_dateline_behind_indentation(indentation: str) -> None:
    assert matter(f"{indentation}中新网4月9日电 {NEWS}") == NEWS


@pytest.mark.parametrize("text", ["", " ", "\n", "　", "(徐灿)", NEWS, "新华社", "电"])
def test_matter_of_what_has_neither_is_the_text(text: str) -> None:
    assert matter(text) == text


@pytest.mark.parametrize(
    "line",
    [
        "Copyright ©1999-2024 chinanews.com. All Rights Reserved",
        "ＣＯＰＹＲＩＧＨＴ　©２０２４",
        "© 2024 Sina",
        "版权所有",
        "版权所有 不得转载",
        "版权所有,未经许可不得转载",
        "版权声明:本文为原创。",
        "免责声明:本文仅供参考。",
        "责任编辑:王五",
        "(责任编辑:王五)",
        "【责任编辑:王五】",
        "编辑:王五 校对:李四 审核:赵六",
        "未经本网授权,不得转载",
        "未经本网书面授权,禁止转载、镜像",
        "未经授权禁止转载",
        "转载请注明出处",
        "转载请注明来源:新华网",
        "京ICP备12345678号",
        "京公网安备 11010102000000号",
        "互联网新闻信息服务许可证:10120170038",
        "增值电信业务经营许可证京B2-20090191",
        "增值电信业务经营许可证",
    ],
)
def test_a_footer_is_boilerplate(line: str) -> None:
    (paragraph,) = split_paragraphs(f"  {line}\n")
    assert (paragraph.kind, paragraph.text) == ("boilerplate", line)
    assert paragraph.kind in WITHOUT_TOPIC


@pytest.mark.parametrize(
    "text",
    [
        "第十条 未经著作权人许可,不得复制、转载其作品。",
        "未经著作权人许可,复制、发行、通过信息网络向公众传播其作品的,应当承担民事责任。",
        "版权所有人应当依法登记。",
        "版权所有者享有下列权利:",
        "著作权人享有版权。",
        "国家版权局负责全国的版权工作。",
        "引用他人作品应当指明作者姓名、作品名称。",
        "转载者应当注明出处。",
        "报刊转载应当支付报酬。",
        "编辑:制作节目的人员应当持证上岗。",
        "未经专利权人许可,任何单位不得实施其专利。",
        "网站取得ICP备案后方可经营。",
        "从事经营的,须取得《增值电信业务经营许可证》。",
        "互联网新闻信息服务许可证的有效期为三年。",
    ],
)
def test_a_statute_that_speaks_of_rights_is_body(text: str) -> None:
    assert kinds(text) == ["body"]


@pytest.mark.parametrize(
    "line",
    ["(徐灿)", "记者 徐灿", "本报记者徐灿摄", "文/徐灿 图/王五", "作者:徐灿", "来源:新华网", "中新网4月9日电"],
)
def test_a_line_that_only_names_the_source_is_a_byline(line: str) -> None:
    assert [(paragraph.kind, paragraph.text) for paragraph in split_paragraphs(line)] == [("byline", line)]
    assert "byline" in WITHOUT_TOPIC


@pytest.mark.parametrize("line", ["记者节到了", "第一章 总则", "一、总体要求", "国务院召开会议", "“大走访”", "(组图)"])
def test_a_short_line_without_a_closing_mark_is_a_heading(line: str) -> None:
    assert kinds(line) == ["heading"]


@pytest.mark.parametrize(
    "line", ["会议召开。", "会议召开了吗?", "会议召开！", "如下:", "会议召开。”", "会议召开…", "会" * 41]
)
def test_a_closed_or_long_line_is_no_heading(line: str) -> None:
    assert kinds(line) == ["body"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r", "\n\n", "\n \t　\n", "\u2028", "\u2029", "\x85"])
def test_each_line_that_is_not_blank_is_a_paragraph(line_end: str) -> None:
    document = f"甲段。{line_end}　　乙段。{line_end}\ufeff丙段。 {line_end}"
    assert [paragraph.text for paragraph in split_paragraphs(document)] == ["甲段。", "乙段。", "丙段。"]


@pytest.mark.parametrize("edge", ["　　", "\ufeff", "\u200b", " \t", "\u00a0", "\u200b　\u200b"])
def test_indentation_and_invisible_marks_at_the_edges_are_left_out(edge: str) -> None:
    (paragraph,) = split_paragraphs(f"{edge}会议召开。{edge}")
    assert (paragraph.text, paragraph.start, paragraph.end) == ("会议召开。", len(edge), len(edge) + 5)


@pytest.mark.parametrize("document", ["", " ", "\n\n", "\r\n　\r\n", "\ufeff", "\u200b\n\u200b"])
def test_a_blank_document_has_no_paragraphs(document: str) -> None:
    assert split_paragraphs(document) == []


def test_offsets_count_code_points_beyond_the_bmp_as_one() -> None:
    document = "😂𠮷。\n会议召开。"
    assert [(p.start, p.end) for p in split_paragraphs(document)] == [(0, 3), (4, 9)]


PIECES = [
    *"会议国务院徐灿王五张三aZ09 　.。,:;!?()（）【】[]“”/-—©%４９月日年",
    *["\n", "\r\n", "\u2028", "\u200b", "\ufeff", "㎡", "ﷺ", "😂", "\x1c", "\t"],
    *[
        "新华社",
        "中新网",
        "北京",
        "4月9日",
        "电",
        "专电",
        "讯",
        "本报",
        "记者",
        "消息",
        "报道",
        "题:",
        "据",
        "北京时间",
    ],
    *[
        "版权所有",
        "责任编辑:",
        "编辑",
        "转载",
        "未经",
        "授权",
        "Copyright",
        "组图",
        "来源:",
        "记者 徐灿",
        "文/",
        LONG,
        "会议" * 30,
    ],
]
LIKE_NEWS = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


@settings(deadline=None, max_examples=500)
@given(LIKE_NEWS | st.text())
@example("中新网4月9日电\n" * 3)
@example("ﷺ" * 70 + "(徐灿)")
def test_paragraphs_are_disjoint_spans_of_single_lines_in_order(document: str) -> None:
    paragraphs = split_paragraphs(document)
    assert all(document[p.start : p.end] == p.text for p in paragraphs)
    assert all(p.text and len(p.text.splitlines()) == 1 for p in paragraphs)
    assert all(not re.search(r"[\n\r\u2028\u2029]", p.text) for p in paragraphs)
    assert all(p.text == p.text.strip() for p in paragraphs)
    ends = [0, *(p.end for p in paragraphs)]
    assert all(end <= p.start for end, p in zip(ends, paragraphs, strict=False))


@settings(deadline=None, max_examples=500)
@given(LIKE_NEWS | st.text())
def test_every_line_with_visible_text_has_its_paragraph(document: str) -> None:
    visible = [line for line in document.splitlines() if line.strip(" \t　\u200b\ufeff")]
    assert len(split_paragraphs(document)) <= len(visible)
    plain = [line for line in visible if re.search(r"[\u4e00-\u9fffa-zA-Z0-9]", line)]
    assert len(split_paragraphs(document)) >= len(plain)


@settings(deadline=None, max_examples=500)
@given(LIKE_NEWS | st.text())
def test_matter_is_part_of_the_text_and_final(text: str) -> None:
    once = matter(text)
    assert once in text
    assert matter(once) == once


@pytest.mark.parametrize(
    "line",
    [
        "编辑:a,," * 28 + ":",
        "编辑:a责任编辑:b " * 12 + ":",
        "驻" * 60,
        "记者 " + "张 " * 28,
        "(" + "张 " * 24 + "1)",
        "报社" * 60,
    ],
)
def test_a_hostile_line_comes_to_an_end(line: str) -> None:
    # A pattern that tries every way to part these would take hours.
    assert [paragraph.text for paragraph in split_paragraphs(line)] == [line.strip()]


def test_a_crawled_article_is_taken_apart(corpora: Path) -> None:
    document = (corpora / "article.txt").read_text(encoding="utf-8")
    paragraphs = split_paragraphs(document)
    assert [p.kind for p in paragraphs] == ["lead", "body", "body", "body", "body", "boilerplate"]
    assert document.startswith("中新网4月9日电 据公安部网站消息")
    assert paragraphs[0].text.startswith("据公安部网站消息")
    assert document[paragraphs[4].end :].startswith("(徐灿)")
    assert paragraphs[4].text.endswith("向心力。")
    assert paragraphs[5].text.startswith("Copyright")


def test_headlines_are_nearly_never_changed(corpora: Path) -> None:
    texts = read_corpus(corpora / "thucnews" / "dev.jsonl.gz").texts
    assert len(texts) >= 10_000
    assert sum(matter(text) != text for text in texts) < len(texts) / 1000


def test_no_statute_is_boilerplate(corpora: Path) -> None:
    texts = read_corpus(corpora / "law_chapters" / "dev.jsonl.gz").texts[:5000]
    assert len(texts) == 5000
    assert [p.text for text in texts for p in split_paragraphs(text) if p.kind in WITHOUT_TOPIC] == []
    assert sum(matter(text) != text for text in texts) < len(texts) / 1000
