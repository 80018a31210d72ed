"""A document as it was crawled, into its paragraphs.

Owns what a line of a document is (body, lead, heading, byline, boilerplate) and which part of it speaks about
the matter: a dateline at the head and a byline at the end name the source, not the topic, and are left outside.
Refuses to know words, models and files.

    document ─ lines ─ trimmed ─┬─ boilerplate   "Copyright ©1999-2024 ... All Rights Reserved."
                                ├─ byline        "(记者 徐灿)"
                                ├─ heading       short, without a closing mark
                                ├─ lead          opened with a dateline: "中新网4月9日电"
                                └─ body
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["body", "lead", "heading", "byline", "boilerplate"]

#: Kinds that say nothing about a topic and get none.
WITHOUT_TOPIC: frozenset[str] = frozenset({"byline", "boilerplate"})


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One paragraph of a document.

    ``text`` is what speaks about the matter: the line without indentation, dateline and byline. ``start`` and
    ``end`` are its offsets in the document, in code points, half open: ``document[start:end] == text``.
    """

    text: str
    start: int
    end: int
    kind: Kind


# A line ends where an editor or a browser would end it.
_LINE_ENDS = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
LINE_END = re.compile(rf"[{_LINE_ENDS}]")
_LINE = re.compile(rf"[^{_LINE_ENDS}]+")
_ZERO_WIDTH = "\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff"
EDGE = re.compile(rf"[\s{_ZERO_WIDTH}]")
_EDGES = re.compile(rf"^{EDGE.pattern}+|{EDGE.pattern}+$")
INVISIBLE = re.compile(rf"[{_ZERO_WIDTH}]")

# How far into a line a dateline may reach, and how far from its end a byline may begin.
HEAD, TAIL = 120, 60
BYLINE_MIN_LENGTH = 60
HEADING_MAX_LENGTH = 40
FOOTER_MAX_LENGTH = 200
# What closes a sentence, and what may stand behind it.
CLOSING_MARKS, AFTER_CLOSING_MARK = frozenset("。.!?;:…,"), "”’\"')》】] "

_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\u3007"
_DATE = r"(?:(?:\d{4}年)?\d{1,2}月(?:\d{1,2}日)?|\d{1,2}日|今日|今天|昨日|昨天)"
_MEDIUM = (
    rf"(?:[{_HAN}]{{0,8}}?(?:通讯社|新社|华社|社|新闻网|日报|晚报|晨报|早报|时报|商报|快报|都市报|周报|周刊|电视台|电台|央视|报|网|台|刊|"
    r"新浪[体财科娱教汽房游军]\S?|(?:新浪|搜狐|网易|腾讯|凤凰)(?:财经|科技|体育|娱乐|教育|汽车|房产|游戏|军事|新闻|网)?))"
)
_PLACE = rf"(?:[{_HAN}·]{{2,12}}?)"
_REPORTER = (
    r"(?:[(【\[](?:[^()【】\[\]]{0,30}(?:记者|通讯员|实习生|编辑|编译|作者|摄影)[^()【】\[\]]{0,40}"
    rf"|[{_HAN}·]{{2,4}}(?:[ 、,][{_HAN}·]{{2,4}})*)[)】\]])"
)
# Three shapes: "新华社北京4月9日电", "新浪科技讯 北京时间4月9日消息,", "【本报讯】" or "新京报讯(记者 …)".
_DATELINE = re.compile(
    rf"^\s*[(【\[]?(?:据)?(?:{_MEDIUM}{_PLACE}?\s?{_DATE}\s?(?:专?电|讯|消息|报道)"
    rf"|(?:{_MEDIUM}讯|{_MEDIUM})[\s,]{{1,2}}(?:{_PLACE}\s?)?(?:北京时间)?{_DATE}(?:消息|讯|电)"
    rf"|{_MEDIUM}(?:综合)?(?:讯|电|消息)(?=[\s:,)】\]([—]|$)"
    rf"|本(?:报|网|台|刊|社)(?:综合)?{_PLACE}?(?:讯|电|消息)(?=[\s:,)】\]([—]|$))"
    rf"[)】\]]?(?:\s?{_REPORTER}){{0,2}}(?:\s?(?:本报)?记者\s?[{_HAN}·]{{2,4}}?(?:摄影)?报道(?=[\s:,]))?(?:\s*(?:[:,—-]+|题[::])\s*|\s+)?"
)
_PICTURE_WORDS = frozenset(
    {
        "组图",
        "附图",
        "草案",
        "暂行",
        "修订",
        "万元",
        "亿元",
        "英文",
        "中文",
        "节选",
        "摘要",
        "全文完",
        "略",
        "车票",
        "图",
        "视频",
        "全文",
        "多图",
        "图文",
        "附表",
        "下同",
        "待续",
        "试行",
        "未完",
    }
)
_CLOSING_BRACKET = re.compile(r"[(【\[]([^()【】\[\]]{2,50})[)】\]][.。]?$")
_NAME = rf"[{_HAN}](?:\s?[{_HAN}·]){{1,3}}"
_NAMES_INLINE = rf"{_NAME}(?:[\s、,/]+(?:(?:记者|通讯员|图|文|摄|摄影)[/:\s]?\s*)?{_NAME})*"
_NAMES = re.compile(rf"{_NAME}(?:[\s、,/]+{_NAME})*$")
_ROLE = re.compile(r"(?:记者|编辑|通讯员|特约撰稿|实习生)")

# Repetitions are counted, never open: over these open-ended parts, "*" takes exponential time on a hostile line.
_STAFF = r"(?:本报|本网|本刊|本台|见习|实习|特派|特约|驻[^\s:]{2,6}){0,4}(?:记者|通讯员|摄影师)"
_BYLINE_LINE = re.compile(
    rf"^(?:(?:{_STAFF}|作者|撰文|摄影|供稿|编译|整理|策划)[:/\s]\s*{_NAMES_INLINE}\s*(?:[\S]{{2,6}}报道|摄|摄影)?"
    rf"|{_STAFF}{_NAMES_INLINE}\s*(?:摄影报道|摄|报道|文/图|文并摄)"
    rf"|(?:文|图|图文)/{_NAMES_INLINE}"
    r"|(?:来源|稿源|原标题|文章来源|稿件来源|信息来源)\s?:\s*\S{1,40})$"
)
_EDITOR = r"(?:责任编辑|责编|值班编辑|网络编辑|本文编辑|编辑|校对|审校|审核|监制|终审)"
# Who must be asked, in a footer: "未经本网授权", "未经书面许可"; a statute's "未经著作权人许可" is not one.
_WITHOUT_LEAVE = (
    r"未经(?:本[^。;,“”]{1,10}?|我[社网刊报]|[\u4e00-\u9fff]{0,8}(?:[网报社台刊]|公司))?(?:的)?(?:书面|正式|事先|明确|协议|特别)*"
    r"(?:授权|许可|同意|允许)"
)
_LICENCE = r"(?:增值电信业务经营|互联网新闻信息服务)许可证"
_BOILERPLATE = re.compile(
    r"^(?:copyright\b|©|\(c\)\s*\d{4}|版权所有(?![人者权的])|版权声明\s*:|免责声明\s*:|特别声明\s*:)"
    r"|©\s*(?:\d{4}|copyright)|copyright\s*(?:©|\(c\)|\d{4})|all rights reserved"
    r"|版权所有\s*(?:$|[.。©(\d]|[,\s]*(?:不得|严禁|禁止|请勿|未经|违者|侵权|翻印|盗版|copyright))"
    rf"|^[(【\[]?\s*(?:{_EDITOR}\s?:\s*[^\s:]{{1,12}}(?:\s[^\s:]{{1,8}})?[\s,;/|]*){{1,6}}[)】\]]?$"
    rf"|{_WITHOUT_LEAVE}[^。;“”]{{0,12}}?(?:不得|禁止|严禁|请勿|谢绝|勿)[^。;“”]{{0,12}}?(?:转载|镜像)"
    rf"|{_WITHOUT_LEAVE}[^。;“”]{{0,12}}?转载[^。;“”]{{0,12}}?(?:必究|追究|违者|法律责任)"
    r"|(?:转载|引用)(?:本[网报站刊]\S{0,6})?(?:请|须|务必)注明(?:出处|来源)"
    r"|[\u4e00-\u9fff]?icp(?:备|证)\s?\d|公网安备\s?\d"
    # A licence with its number, or alone on its line; statutes say who needs one.
    rf"|{_LICENCE}\s?(?:编?号)?\s?(?::|[\u4e00-\u9fff]?[a-z]?\d)|^{_LICENCE}$",
    re.IGNORECASE,
)


def split_paragraphs(text: str) -> list[Paragraph]:
    r"""Split a document into its paragraphs, one per line that is not blank.

    Offsets count code points of ``text`` as given: ``text[p.start:p.end] == p.text`` for every paragraph.

    >>> [(p.kind, p.text) for p in split_paragraphs("中新网4月9日电 据公安部消息,会议召开。\r\n\r\n版权所有")]
    [('lead', '据公安部消息,会议召开。'), ('boilerplate', '版权所有')]
    """
    lines = [span for span in map(_trim, _LINE.finditer(text)) if span is not None]
    return [_paragraph(text, start, end) for start, end in lines]


def matter(text: str) -> str:
    """Return the part of one labelled text, or row of a table, that speaks about the matter.

    The text is taken as body text: only a dateline at its head and a byline at its end are left out. Applying
    it again changes nothing.
    """
    start, end = matter_span(text)
    return text[start:end]


def matter_span(text: str) -> tuple[int, int]:
    """Return where ``matter`` begins and ends."""
    return _narrowed(text, 0, len(text))


def paragraph_of(line: str) -> Paragraph:
    """Return what a line is that is not blank, without line ends and without indentation."""
    return _paragraph(line, 0, len(line))


def _trim(line: re.Match[str]) -> tuple[int, int] | None:
    """Offsets of a line without indentation and invisible marks at its edges; None when nothing is left."""
    content = line.group()
    start, end = 0, len(content)
    for edge in _EDGES.finditer(content):
        if edge.start() == 0:
            start = edge.end()
        if edge.end() == len(content):
            end = edge.start()
    return (line.start() + start, line.start() + end) if start < end else None


def _paragraph(text: str, start: int, end: int) -> Paragraph:
    line = text[start:end]
    if _is_boilerplate(line):
        return Paragraph(line, start, end, "boilerplate")
    if _is_byline(line):
        return Paragraph(line, start, end, "byline")
    matter_start, matter_end = _narrowed(text, start, end)
    if matter_start == matter_end:  # a dateline and nothing behind it
        return Paragraph(line, start, end, "byline")
    kind: Kind = "body"
    if matter_start > start:
        kind = "lead"
    elif _is_heading(line):
        kind = "heading"
    return Paragraph(text[matter_start:matter_end], matter_start, matter_end, kind)


def _narrowed(text: str, start: int, end: int) -> tuple[int, int]:
    """Narrow a span until neither a dateline opens it nor a byline closes it."""
    while True:
        narrower = _after_dateline(text, start, end), _before_byline(text, start, end)
        if narrower == (start, end) or narrower[0] >= narrower[1]:
            return (start, end) if narrower[0] < narrower[1] else (end, end)
        start, end = narrower


def _after_dateline(text: str, start: int, end: int) -> int:
    head, origin = _fold(text[start : min(end, start + HEAD)])
    found = _DATELINE.match(head)
    return start + origin[found.end()] if found else start


def _before_byline(text: str, start: int, end: int) -> int:
    if end - start < BYLINE_MIN_LENGTH:
        return end
    tail_start = end - TAIL
    tail, origin = _fold(text[tail_start:end])
    found = _CLOSING_BRACKET.search(tail.rstrip())
    if found is None or not _holds_name(found.group(1)):
        return end
    kept = tail[: found.start()].rstrip()
    return tail_start + origin[len(kept)]


def _holds_name(words: str) -> bool:
    """Whether the words in a closing bracket name who wrote the text, rather than what goes with it."""
    if _ROLE.search(words):
        return True
    return _NAMES.match(words.strip()) is not None and words.strip() not in _PICTURE_WORDS


def _is_boilerplate(line: str) -> bool:
    return len(line) <= FOOTER_MAX_LENGTH and _BOILERPLATE.search(_fold(line)[0]) is not None


def _is_byline(line: str) -> bool:
    if len(line) > TAIL:
        return False
    folded = _fold(line)[0].strip()
    bracket = _CLOSING_BRACKET.match(folded)
    if bracket is not None:
        return _holds_name(bracket.group(1))
    return _BYLINE_LINE.match(folded) is not None


def _is_heading(line: str) -> bool:
    return len(line) <= HEADING_MAX_LENGTH and _fold(line)[0].rstrip(AFTER_CLOSING_MARK)[-1:] not in CLOSING_MARKS


def _fold(text: str) -> tuple[str, Sequence[int]]:
    """Fold full-width forms and drop zero-width marks, so that the patterns need to know one form only.

    Returns the folded text and, for each of its positions and its end, the position in ``text`` it came from.
    """
    if text.isascii():
        return text, range(len(text) + 1)
    forms = [_FORMS[character] for character in text]
    folded = "".join(forms)
    if len(folded) == len(text) and all(forms):
        return folded, range(len(text) + 1)
    origin = [position for position, form in enumerate(forms) for _ in form]
    return folded, [*origin, len(text)]


class _FormsOfCharacters(dict[str, str]):
    """Each character's NFKC form, none for zero-width marks; those that were asked for are remembered."""

    def __missing__(self, character: str) -> str:
        form = "" if INVISIBLE.match(character) else unicodedata.normalize("NFKC", character)
        self[character] = form
        return form


_FORMS = _FormsOfCharacters()
