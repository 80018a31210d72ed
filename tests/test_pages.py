"""Pages: complete in one file, nothing from anywhere else, and what comes from data is text."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from duanti import Corpus, TopicModel, fit_topic_model
from duanti.cli import main
from duanti.config import RunConfig
from duanti.overview import LabelledParagraph, Overview, view_document
from duanti.pages import explanation_page, try_page
from duanti.terminal import draw_overview

if TYPE_CHECKING:
    from browser import Browser

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
CLOSING = "</script><script>document.title='taken'</script>&lt;b&gt;{{ 7*7 }}"
ARTICLE = f"股市大涨，基金收益上升\n球队赢了比赛{HOSTILE}\n{CLOSING}学校开学\n责任编辑：张三\n"


@pytest.fixture(scope="module")
def hostile_model(small_corpus: Corpus) -> TopicModel:
    """A model with markup for topics."""
    names = {"财经": HOSTILE, "体育": CLOSING, "教育": "a & b"}
    corpus = Corpus("hostile", small_corpus.texts, [names[topic] for topic in small_corpus.topics], [None] * 24)
    config = RunConfig.model_validate({"name": "small", "data": {"train": "given"}, "n_jobs": 1})
    return fit_topic_model(config, corpus)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from browser import Browser

    with Browser() as opened:
        yield opened


def page_of(model: TopicModel, article: str = ARTICLE, document: str = HOSTILE) -> str:
    told = view_document(model, article, document=document, explain=True).as_dict()
    return explanation_page([told], model.topics, HOSTILE)


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_a_page_is_complete_and_asks_nobody(small_model: TopicModel) -> None:
    for page in (page_of(small_model), try_page(small_model.topics, "m", knows_context=False, explain_up_to=9)):
        assert page.startswith("<!doctype html>")
        assert not re.search(r"""(?:src|href)=["']?(?!data:)[a-z/]""", page.replace("src=x", ""))
        assert not re.search(r"url\(|@import|https?://", page)
        assert "default-src 'none'" in page.replace("&#39;", "'")


def test_what_comes_from_data_is_never_markup(hostile_model: TopicModel) -> None:
    page = page_of(hostile_model)
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img" not in page
    told = data_of(page)
    assert told["documents"][0]["document"] == HOSTILE
    assert told["topics"] == list(hostile_model.topics)


def test_the_same_document_gives_the_same_page(small_model: TopicModel) -> None:
    assert page_of(small_model) == page_of(small_model)


def test_lone_surrogates_do_not_break_a_page(small_model: TopicModel) -> None:
    page = page_of(small_model, "股市\ud800大涨", "\udcff")
    assert data_of(page.encode().decode())["documents"][0]["paragraphs"][0]["text"] == "股市\ud800大涨"


def test_segments_and_shares_tell_what_a_document_is_about(small_model: TopicModel) -> None:
    overview = view_document(
        small_model, "股市大涨\n基金收益上升\n责任编辑：张三\n球队赢了比赛\n球队主场失利了\n股市跌\n"
    )
    assert [(s.topic, s.first, s.last) for s in overview.segments] == [("财经", 0, 1), ("体育", 3, 4), ("财经", 5, 5)]
    assert overview.segments[1].start == overview.paragraphs[3].start
    assert overview.segments[1].end == overview.paragraphs[4].end
    assert overview.summary.shares == {"财经": 13 / 26, "体育": 13 / 26}
    assert overview.summary.topic == "财经"
    assert sum(overview.summary.shares.values()) == pytest.approx(1)


def test_a_segment_goes_on_past_what_has_no_topic(small_model: TopicModel) -> None:
    overview = view_document(small_model, "股市大涨\n龘靐\n基金收益上升\n")
    assert [(s.topic, s.first, s.last) for s in overview.segments] == [("财经", 0, 2)]


def test_a_document_without_topics_has_no_main_topic() -> None:
    assert Overview("d", []).as_dict() == {
        "document": "d",
        "main_topic": None,
        "shares": {},
        "segments": [],
        "paragraphs": [],
    }


def test_the_topics_of_a_paragraph_without_one_are_those_that_score_highest(small_model: TopicModel) -> None:
    from duanti.model import NO_TOPIC

    undecided = LabelledParagraph(0, 0, 2, "body", "股市", NO_TOPIC, small_model.explain("股市"))
    assert undecided.topics[0] == "财经"
    assert undecided.as_dict()["explanation"]["scores"].keys() == set(undecided.topics)
    assert LabelledParagraph(0, 0, 2, "body", "股市", NO_TOPIC).topics == ()


@pytest.fixture
def bundle(small_model: TopicModel, tmp_path: Path) -> str:
    small_model.save(tmp_path / "model" / "small")
    return str(tmp_path / "model" / "small")


@pytest.fixture
def article(tmp_path: Path) -> str:
    (tmp_path / "news.txt").write_text("新华社北京4月9日电 股市大涨，学校\n球队赢了\n编辑：张三\n", encoding="utf-8")
    return str(tmp_path / "news.txt")


def test_explain_tells_contributions_that_add_up(bundle: str, article: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", bundle, article, "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert [part["topic"] for part in told["paragraphs"]] == ["财经", "体育", None]
    assert "explanation" not in told["paragraphs"][2]
    for part in told["paragraphs"][:2]:
        explanation = part["explanation"]
        for topic, score in explanation["scores"].items():
            added = sum(term["contributions"][topic] for term in explanation["terms"])
            assert explanation["bias"][topic] + added == pytest.approx(score, abs=1e-9)
        assert len(explanation["terms"]) == part["known_terms"] > 0


def test_explain_shows_terms_for_and_against(bundle: str, article: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", bundle, article]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"for 财经: .*股市 \+0\.\d{3}", shown)
    assert "against 财经: " in shown
    assert "no topic" in shown


def test_terms_of_every_kind_can_be_told_apart(small_corpus: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    features = {"prefixes": [2, 2], "text_length": True, "opening": 2}
    config = RunConfig.model_validate({"name": "m", "data": {"train": "given"}, "features": features, "n_jobs": 1})
    text = small_corpus.texts[0]
    overview = view_document(fit_topic_model(config, small_corpus), text, document="d", explain=True)
    Console(width=400).print(draw_overview(overview, n_terms=1000))
    shown = capsys.readouterr().out
    assert all(
        f" {term} " in shown
        for term in (
            text[:2],
            f"[{text[:2]}]",
            f"^{text[:2]}",
            f"length={len(text)}",
            f"opening={text[:2]}",
            f"opening=[{text[:2]}]",
        )
    )


def test_explain_takes_tables_row_by_row(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "rows.jsonl"
    rows = [("a", "股市"), ("a", "球队"), ("b", "学校"), ("b", None)]
    lines = [json.dumps({"document": document, "text": text}, ensure_ascii=False) for document, text in rows]
    table.write_text("\n".join(lines), encoding="utf-8")
    assert main(["explain", bundle, str(table), "--json", "--no-context", "--top", "1"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["document"], len(each["paragraphs"])) for each in told] == [("a", 2), ("b", 2)]
    assert list(told[0]["paragraphs"][0]["explanation"]["scores"]) == ["财经"]
    assert told[1]["paragraphs"][1]["topic"] is None


def test_explain_writes_a_page_or_says_why_not(
    bundle: str, article: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", bundle, article, "-o", str(tmp_path / "page.html")]) == 0
    told = data_of((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert told["model"] == "small"
    assert told["documents"][0]["document"] == "news"
    assert main(["explain", bundle, article, "-o", str(tmp_path / "none" / "page.html")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "page.html: cannot be written (No such file or directory)" in error


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_works_in_a_browser(small_model: TopicModel, browser: "Browser", tmp_path: Path, scheme: str) -> None:
    (tmp_path / "page.html").write_text(page_of(small_model, document="新闻"), encoding="utf-8")
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.open((tmp_path / "page.html").as_uri())
    assert [chip.text.split()[0] for chip in browser.find(".chip.told")][:2] == ["财经", "体育"]
    assert browser.one(".words").text == "股市大涨，基金收益上升"
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) > 380) == (scheme == "light")
    assert browser.complaints() == []
    assert browser.asked() == {"file://"}


def test_choosing_another_topic_shows_what_speaks_for_it(
    small_model: TopicModel, browser: "Browser", tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(page_of(small_model), encoding="utf-8")
    browser.open((tmp_path / "page.html").as_uri())
    before = browser.one(".terms").text
    browser.find(".paragraph")[0].find_elements("css selector", ".chip")[1].click()
    assert browser.one(".terms").text != before
    browser.run("document.querySelector('.words .for, .words .against').dispatchEvent(new Event('pointerenter'))")
    assert browser.one("#hover").is_displayed()
    was = browser.one("h1").text
    browser.one("#language").click()
    assert browser.one("h1").text != was
    assert browser.complaints() == []


def test_the_page_shades_what_the_explanation_says(small_model: TopicModel, browser: "Browser", tmp_path: Path) -> None:
    text = "股市😀大涨，球队没有赢"
    (tmp_path / "page.html").write_text(page_of(small_model, text), encoding="utf-8")
    browser.open((tmp_path / "page.html").as_uri())
    shares = small_model.explain(text).characters(browser.one(".chip.told .name").text)
    strongest = browser.run(
        "const spans = [...document.querySelectorAll('.words span')];"
        "const strength = (span) => Number(span.style.getPropertyValue('--strength') || 0);"
        "return [spans.length, spans.reduce((a, b) => (strength(b) > strength(a) ? b : a)).textContent]"
    )
    assert strongest == [len(text), text[abs(shares).argmax()]]


def test_a_paragraph_shows_all_its_topics(small_corpus: Corpus, browser: "Browser", tmp_path: Path) -> None:
    texts, topics = list(small_corpus.texts), list(small_corpus.topics)
    nothing = ["今天下雨", "记者看了看", "这是第二次"]
    corpus = Corpus("sets", [*texts, *nothing], [*topics, *[""] * 3], [None] * 27, multi_label=True)
    given = {"name": "sets", "multi_label": True, "data": {"train": "given"}, "n_jobs": 1}
    model = fit_topic_model(RunConfig.model_validate(given), corpus)
    article = "股市大涨，球队赢了比赛\n今天下雨\n学校开学，学生参加考试\n"
    (tmp_path / "page.html").write_text(page_of(model, article), encoding="utf-8")
    browser.open((tmp_path / "page.html").as_uri())
    told = [
        {name.text for name in part.find_elements("css selector", ".chip.told .name")}
        for part in browser.find(".paragraph")
    ]
    assert told == [{"财经", "体育"}, set(), {"教育"}]
    assert len(browser.find(".summary > .quiet")) == 1
    for chip in browser.find(".chip.told"):
        chip.click()
        assert chip.get_attribute("aria-pressed") == "true"
    assert browser.complaints() == []
    assert browser.asked() == {"file://"}


def test_markup_in_data_shows_as_text_in_a_browser(
    hostile_model: TopicModel, browser: "Browser", tmp_path: Path
) -> None:
    (tmp_path / "page.html").write_text(page_of(hostile_model), encoding="utf-8")
    browser.open((tmp_path / "page.html").as_uri())
    assert browser.driver.title.startswith("duanti")
    assert browser.one("h2").text == HOSTILE
    assert browser.one("#model-name").text == HOSTILE
    assert HOSTILE in browser.find(".words")[1].text
    names = {name.text for name in browser.find(".chip .name")}
    assert names == set(hostile_model.topics)
    assert browser.find("img") == []
    assert browser.complaints() == []
