"""The report of a run: its figures are the evaluation's, its size has bounds, and what comes from data is text."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from duanti import Corpus, Report, TopicModel, fit_topic_model
from duanti.audit import KINDS, leakage
from duanti.config import RunConfig
from duanti.corpus import join_topics
from duanti.evaluation import MultiLabelReport, compare, compare_sets
from duanti.model import NO_TOPIC, Prediction
from duanti.pages import report_page
from duanti.report import Examination, describe_run, examine

if TYPE_CHECKING:
    from browser import Browser

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
CLOSING = "</script><script>document.title='taken'</script>&lt;b&gt;{{ 7*7 }}"
CONFIG = RunConfig.model_validate(
    {"name": "small", "data": {"train": "given"}, "n_jobs": 1, "evaluation": {"resamples": 100}}
)
PROVENANCE = {"training_seconds": 1.5, "bundle_bytes": 1234, "commit": "", "run": None}


@pytest.fixture(scope="module")
def held_out() -> Corpus:
    """Two right, two wrong, one without a topic, one of a topic that the model does not know."""
    rows = [
        ("股市大涨", "财经"),
        ("球队赢了比赛", "体育"),
        ("学校食堂涨价，股市大跌", "财经"),
        ("球队的股票", "财经"),
        ("龘靐", "教育"),
        ("比赛", "占星"),
    ]
    texts, topics = zip(*rows, strict=True)
    return Corpus("held out", texts, topics, [None] * len(rows))


@pytest.fixture(scope="module")
def found(small_model: TopicModel, small_corpus: Corpus, held_out: Corpus) -> Examination:
    return examine(CONFIG, small_model, small_corpus, held_out)


@pytest.fixture(scope="module")
def told(small_model: TopicModel, small_corpus: Corpus, found: Examination) -> dict[str, Any]:
    return describe_run(CONFIG, small_model, small_corpus, found, PROVENANCE)


@pytest.fixture(scope="module")
def large(small_model: TopicModel, small_corpus: Corpus) -> tuple[Report, dict[str, Any]]:
    """Sixty thousand rows of 1,200 topics, each of a long text; every tenth is told a topic close by, some none."""
    random = np.random.default_rng(5)
    numbers = random.integers(1200, size=60_000)
    gold = [f"主题{number}" for number in numbers]
    wrong, none = random.random(len(gold)) < 0.1, random.random(len(gold)) < 0.01
    chosen = [f"主题{(n + random.integers(1, 9)) % 1200 if w else n}" for n, w in zip(numbers, wrong, strict=True)]
    probability = random.uniform(0.2, 1, len(gold))
    predictions = [
        NO_TOPIC if nothing else Prediction(topic, float(p), (), 3)
        for topic, p, nothing in zip(chosen, probability, none, strict=True)
    ]
    test = Corpus("large", ["股市大涨" * 300] * len(gold), gold, [None] * len(gold))
    report = compare(test, predictions, resamples=2)
    found = Examination(test, report, None, leakage(small_corpus, small_corpus))
    return report, describe_run(CONFIG, small_model, small_corpus, found, PROVENANCE)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from browser import Browser

    with Browser() as opened:
        yield opened


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def show(browser: "Browser", folder: Path, run: dict[str, Any]) -> None:
    (folder / "report.html").write_text(report_page(run), encoding="utf-8")
    browser.open((folder / "report.html").as_uri())


def test_the_figures_are_those_of_the_evaluation(told: dict[str, Any], found: Examination) -> None:
    figures, report = told["tested"]["figures"]["only"], found.report
    assert (figures["accuracy"], figures["accuracy_interval"]) == (report.accuracy, report.accuracy_interval)
    assert report.accuracy == 2 / 6
    assert figures["without_topic"] == 1
    assert {row["topic"]: row["f1"] for row in told["tested"]["per_topic"]} == {
        topic: figures.f1 for topic, figures in report.topics.items()
    }
    assert told["leakage"] == vars(found.leakage)
    assert found.headline()["leakage.exact"] == found.leakage.exact / 6


def test_the_drawn_matrix_is_the_reports(told: dict[str, Any], found: Examination) -> None:
    drawn = told["tested"]["confusion"]
    assert drawn["labels"] == list(found.report.labels)
    assert drawn["counts"] == found.report.confusion.tolist()
    assert drawn["folded"] == 0


def test_examples_stand_in_their_cells_the_most_certain_first(told: dict[str, Any], found: Examination) -> None:
    drawn, seen = told["tested"]["confusion"], 0
    for cell, examples in drawn["examples"].items():
        gold, column = map(int, cell.split(","))
        names = (drawn["labels"][gold], [*drawn["labels"], None][column])
        assert {(example["gold"], example["told"]) for example in examples} == {names}
        assert len(examples) == drawn["counts"][gold][column]
        assert [e["probability"] for e in examples] == sorted((e["probability"] for e in examples), reverse=True)
        seen += len(examples)
    assert seen == found.report.rows


def test_the_matrix_of_a_thousand_topics_is_folded_and_adds_up(large: tuple[Report, dict[str, Any]]) -> None:
    report, told = large
    drawn = told["tested"]["confusion"]
    counts, labels = np.array(drawn["counts"]), drawn["labels"]
    assert labels.count(None) == 1
    assert labels[-1] is None
    assert drawn["folded"] == 1200 - (len(labels) - 1)
    assert counts.sum() == report.rows
    for row, topic in enumerate(labels[:-1]):
        place = report.labels.index(topic)
        assert counts[row].sum() == report.confusion[place].sum()
        assert counts[row, row] == report.confusion[place, place]
        assert counts[row, -1] == report.confusion[place, -1]
    errors = Counter({topic: figures.rows for topic, figures in report.topics.items()})
    for place, topic in enumerate(report.labels):
        errors[topic] += int(report.confusion[:, place].sum() - 2 * report.confusion[place, place])
    least = min(errors[topic] for topic in labels[:-1]) + report.confusion[:, -1].max()
    assert all(errors[topic] <= least for topic in report.labels if topic not in labels)


def test_the_report_of_a_large_test_set_is_small(large: tuple[Report, dict[str, Any]]) -> None:
    told = large[1]["tested"]
    assert len(report_page(large[1]).encode()) < 3_000_000
    assert len(told["per_topic"]) == 1000 < told["n_topics"] == 1200
    assert max(map(len, told["confusion"]["examples"].values())) == told["confusion"]["kept"]
    assert len(told["coverage"]["points"]) <= 200
    assert len(told["errors"]) < told["n_errors"]
    assert told["errors"][0]["explanation"] is None
    assert len(told["errors"][0]["text"]) < 1200


def test_reliability_and_coverage_speak_of_all_rows(told: dict[str, Any]) -> None:
    tested = told["tested"]
    assert sum(bin["rows"] for bin in tested["reliability"]) == 5  # one has no topic
    gap = sum(bin["rows"] * abs(bin["claimed"] - bin["correct"]) for bin in tested["reliability"]) / 5
    assert gap == pytest.approx(tested["figures"]["only"]["expected_calibration_error"])
    last = tested["coverage"]["points"][-1]
    assert (last["coverage"], last["precision"]) == pytest.approx((5 / 6, 2 / 5))
    for asked in tested["coverage"]["asked"]:
        assert asked["precision"] >= asked["asked"]


def test_errors_are_explained_as_the_model_explains_them(told: dict[str, Any], small_model: TopicModel) -> None:
    errors = told["tested"]["errors"]
    assert told["tested"]["n_errors"] == len(errors) == 4
    certain = [error["probability"] for error in errors[:-1]]
    assert certain == sorted(certain, reverse=True)
    assert errors[-1] == {"text": "龘靐", "gold": "教育", "told": None, "probability": None, "explanation": None}
    for error in errors[:-1]:
        topics = list(error["explanation"]["scores"])
        assert topics[0] == error["told"]
        assert (error["gold"] in topics) == (error["gold"] in small_model.topics)
        assert error["explanation"] == small_model.explain(error["text"]).as_dict(topics, 80)


def test_figures_without_context_stand_beside_those_with_it(
    small_model: TopicModel, small_corpus: Corpus, found: Examination
) -> None:
    alone = compare(found.test, [NO_TOPIC] * 6, resamples=2)
    both = Examination(found.test, found.report, alone, found.leakage)
    tested = describe_run(CONFIG, small_model, small_corpus, both, {})["tested"]
    assert list(tested["figures"]) == ["together", "alone"]
    assert tested["figures"]["alone"]["without_topic"] == 6
    assert {row["f1_alone"] for row in tested["per_topic"]} == {0.0}
    assert both.headline()["alone.accuracy"] == 0.0


def test_a_run_without_a_test_set_tells_what_it_learnt_from(small_model: TopicModel, small_corpus: Corpus) -> None:
    told = describe_run(CONFIG, small_model, small_corpus, None, PROVENANCE)
    assert told["tested"] is told["leakage"] is None
    assert told["data"]["training"]["digest"] == small_corpus.digest
    assert told["data"]["training"]["rows"] == 24
    assert list(told["terms"]) == list(small_model.topics)
    assert "球队" in told["terms"]["体育"]
    assert all(len(set(terms)) == len(terms) > 5 for terms in told["terms"].values())
    assert {"python", "duanti", "scikit-learn"} <= set(told["versions"])


def test_every_kind_of_finding_has_a_name_in_both_languages() -> None:
    script = (Path(report_page.__globals__["__file__"]).parent / "templates" / "report.js").read_text(encoding="utf-8")
    across = {"unusable", "exact_across", "near_across", "shared_document"}
    assert len(KINDS) > len(across)
    assert {kind: script.count(f"{kind}: ") for kind in KINDS if kind not in across} == dict.fromkeys(
        KINDS.keys() - across, 2
    )


def test_a_report_is_complete_and_asks_nobody(told: dict[str, Any]) -> None:
    page = report_page(told)
    assert page.startswith("<!doctype html>")
    assert not re.search(r"""(?:src|href)=["']?(?!data:)[a-z/]""", page)
    assert not re.search(r"url\(|@import|https?://", page.replace("http://www.w3.org/2000/svg", ""))
    assert "default-src 'none'" in page.replace("&#39;", "'")
    assert page == report_page(told)


@pytest.fixture(scope="module")
def hostile(small_corpus: Corpus) -> dict[str, Any]:
    """A run whose corpora, topics, texts and documents are markup."""
    names = {"财经": HOSTILE, "体育": CLOSING, "教育": "a & b"}
    texts = [f"{text}{HOSTILE if row % 2 else CLOSING}" for row, text in enumerate(small_corpus.texts)]
    corpus = Corpus(HOSTILE, texts, [names[topic] for topic in small_corpus.topics], small_corpus.documents)
    model = fit_topic_model(CONFIG, corpus)
    test = Corpus(CLOSING, [*texts, f"股市{HOSTILE}"], [*corpus.topics[1:], HOSTILE, CLOSING], [HOSTILE] * 25)
    config = CONFIG.model_copy(update={"name": HOSTILE})
    return describe_run(config, model, corpus, examine(config, model, corpus, test), {"commit": CLOSING})


def test_what_comes_from_data_is_never_markup(hostile: dict[str, Any]) -> None:
    page = report_page(hostile)
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img" not in page
    assert data_of(page.encode().decode())["data"]["training"]["name"] == HOSTILE


def test_markup_in_data_shows_as_text_in_a_browser(hostile: dict[str, Any], browser: "Browser", tmp_path: Path) -> None:
    show(browser, tmp_path, hostile)
    assert browser.driver.title == f"duanti 段题 · {HOSTILE}"
    assert browser.one("#model-name").text == HOSTILE
    assert HOSTILE in [cell.text for cell in browser.find(".topics th")]
    assert CLOSING in browser.one("#corpora").text
    assert CLOSING in browser.one("#provenance").text
    browser.one(".matrix .wrong").click()
    assert HOSTILE in browser.one("#cell").text or CLOSING in browser.one("#cell").text
    assert any(HOSTILE in words.text or CLOSING in words.text for words in browser.find("#errors .words"))
    assert browser.find("img") == []
    assert browser.complaints() == []
    assert browser.asked() == {"file://"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_works_in_a_browser(told: dict[str, Any], browser: "Browser", tmp_path: Path, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    show(browser, tmp_path, told)
    drawn = [int(cell.text) for cell in browser.find(".matrix button")]
    assert sum(drawn) == 6
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) > 380) == (scheme == "light")
    assert len(browser.find("#errors .paragraph")) == 4
    assert len(browser.find(".reliability .dot")) == len(told["tested"]["reliability"])
    assert browser.complaints() == []
    assert browser.asked() == {"file://"}


def test_a_click_on_a_cell_shows_its_texts(told: dict[str, Any], browser: "Browser", tmp_path: Path) -> None:
    show(browser, tmp_path, told)
    for cell in browser.find(".matrix button"):
        cell.click()
        shown = [text.text for text in browser.find("#cell .text")]
        assert shown == [
            example["text"] for example in told["tested"]["confusion"]["examples"][cell.get_attribute("data-cell")]
        ]
        assert len(shown) == int(cell.text)
        assert [pressed.text for pressed in browser.find(".matrix [aria-pressed=true]")] == [cell.text]
    browser.find(".confusions button")[-1].click()
    assert browser.complaints() == []


def test_a_click_on_a_heading_sorts_and_a_second_turns_it_round(
    told: dict[str, Any], browser: "Browser", tmp_path: Path
) -> None:
    show(browser, tmp_path, told)

    def topics() -> list[str]:
        return [cell.text for cell in browser.find(".topics tbody th")]

    rows = sorted(told["tested"]["per_topic"], key=lambda row: -row["f1"])
    browser.find(".sorter")[4].click()
    assert browser.find(".topics thead th")[4].get_attribute("aria-sort") == "descending"
    assert topics() == [row["topic"] for row in rows]
    was = browser.one("#perTopic h2").text
    browser.one("#language").click()
    assert browser.one("#perTopic h2").text != was
    assert topics() == [row["topic"] for row in rows]
    browser.find(".sorter")[4].click()
    assert set(topics()[:2]) == {row["topic"] for row in rows if row["f1"] == 0}


def test_less_is_told_and_more_of_it_is_right_where_the_slider_says(
    told: dict[str, Any], browser: "Browser", tmp_path: Path
) -> None:
    show(browser, tmp_path, told)
    points = told["tested"]["coverage"]["points"]
    for place, point in enumerate(points):
        browser.run(
            "const slider = document.querySelector('.coverage input'); slider.value = arguments[0];"
            "slider.dispatchEvent(new Event('input'))",
            place,
        )
        assert f"{point['probability']:.3f}" in browser.one("output").text


def test_the_report_of_a_large_test_set_can_be_read_on_a_phone(
    told: dict[str, Any], large: tuple[Report, dict[str, Any]], browser: "Browser", tmp_path: Path
) -> None:
    small = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", small)
    try:
        for run in (told, large[1]):
            show(browser, tmp_path, run)
            assert browser.run("return document.documentElement.scrollWidth") <= 390
            assert browser.complaints() == []
        assert "1,160" in browser.one("#confusion .note").text
        browser.find(".confusions button")[0].click()
        assert browser.find("#cell .text")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_report_without_a_test_set_has_only_what_there_is(
    small_model: TopicModel, small_corpus: Corpus, browser: "Browser", tmp_path: Path
) -> None:
    show(browser, tmp_path, describe_run(CONFIG, small_model, small_corpus, None, PROVENANCE))
    assert [section.get_attribute("id") for section in browser.find("section") if section.is_displayed()] == [
        "terms",
        "corpora",
        "provenance",
    ]
    assert browser.complaints() == []


# Several topics per text


def joined(corpus: Corpus) -> Corpus:
    """Each text by itself, and with one of the next topic behind it, and some that are about nothing."""
    texts, topics = list(corpus.texts), list(corpus.topics)
    pairs = [f"{a}，{b}" for a, b in zip(texts, [*texts[8:], *texts[:8]], strict=True)]
    of_pairs = [join_topics(pair) for pair in zip(topics, [*topics[8:], *topics[:8]], strict=True)]
    nothing = ["今天下雨", "记者看了看", "这是第二次", "有关负责人作了说明"]
    texts, topics = [*texts, *pairs, *nothing], [*topics, *of_pairs, *[""] * len(nothing)]
    return Corpus(corpus.name, texts, topics, [None] * len(texts), multi_label=True)


CONFIG_OF_SETS = CONFIG.model_copy(update={"multi_label": True})


@pytest.fixture(scope="module")
def corpus_of_sets(small_corpus: Corpus) -> Corpus:
    return joined(small_corpus)


@pytest.fixture(scope="module")
def model_of_sets(corpus_of_sets: Corpus) -> TopicModel:
    return fit_topic_model(CONFIG_OF_SETS, corpus_of_sets)


@pytest.fixture(scope="module")
def found_of_sets(model_of_sets: TopicModel, corpus_of_sets: Corpus) -> Examination:
    """Right; one for another; one missed; one too many; of a topic that the model does not know; rightly nothing."""
    rows = [
        ("股市大涨，球队赢了比赛", "体育|财经"),
        ("股市大涨，基金收益上升", "教育"),
        ("球队赢了比赛", "体育|财经"),
        ("学生参加考试，股票跌停", "教育"),
        ("龘靐", "占星"),
        ("龘靐", ""),
    ]
    texts, topics = zip(*rows, strict=True)
    test = Corpus("held out", texts, topics, [None] * len(rows), multi_label=True)
    return examine(CONFIG_OF_SETS, model_of_sets, corpus_of_sets, test)


@pytest.fixture(scope="module")
def told_of_sets(model_of_sets: TopicModel, corpus_of_sets: Corpus, found_of_sets: Examination) -> dict[str, Any]:
    return describe_run(CONFIG_OF_SETS, model_of_sets, corpus_of_sets, found_of_sets, PROVENANCE)


def sides(described: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The right topics of an example, and those told."""
    gold, told = ({each["topic"] for each in described["topics"] if each[side]} for side in ("gold", "told"))
    return gold, told


def test_the_figures_of_sets_are_those_of_the_evaluation(
    told_of_sets: dict[str, Any], found_of_sets: Examination, model_of_sets: TopicModel
) -> None:
    tested, report = told_of_sets["tested"], found_of_sets.report
    figures = tested["figures"]["only"]
    assert isinstance(report, MultiLabelReport)
    assert {name: figures[name] for name in report.headline().keys() - {"rows"}} == {
        name: value for name, value in report.headline().items() if name != "rows"
    }
    assert figures["micro_f1_interval"] == report.micro_f1_interval
    assert figures["accuracy"] == 2 / 6
    assert tested["coverage"] is None
    assert {row["topic"]: row["threshold"] for row in tested["per_topic"]} == {
        "占星": None,
        **dict(zip(model_of_sets.topics, model_of_sets.thresholds.tolist(), strict=True)),
    }


def test_the_drawn_matrix_of_sets_is_the_reports_and_examples_stand_in_their_cells(
    told_of_sets: dict[str, Any], found_of_sets: Examination
) -> None:
    drawn = told_of_sets["tested"]["confusion"]
    assert drawn["counts"] == found_of_sets.report.confusion.tolist()
    counts = {cell: len(examples) for cell, examples in drawn["examples"].items()}
    assert sum(counts.values()) == found_of_sets.report.confusion.sum()
    names = [*drawn["labels"], None]
    seen = set()
    for cell, examples in drawn["examples"].items():
        right, instead = (names[int(place)] for place in cell.split(","))
        assert len(examples) == drawn["counts"][names.index(right)][names.index(instead)]
        for gold, told in map(sides, examples):
            assert right in gold
            assert instead in told - gold if instead not in (right, None) else (right in told) == (instead == right)
            assert instead is not None or not told - gold
        seen.add((right, instead))
    assert {("体育", "体育"), ("教育", "财经"), ("财经", None), ("占星", None)} <= seen


def test_the_reliability_of_sets_is_of_all_pairs(told_of_sets: dict[str, Any]) -> None:
    tested = told_of_sets["tested"]
    assert sum(bin["rows"] for bin in tested["reliability"]) == 6 * 4
    gap = sum(bin["rows"] * abs(bin["claimed"] - bin["correct"]) for bin in tested["reliability"]) / (6 * 4)
    assert gap == pytest.approx(tested["figures"]["only"]["expected_calibration_error"])


def test_errors_of_sets_begin_with_what_was_most_certain(
    told_of_sets: dict[str, Any], model_of_sets: TopicModel
) -> None:
    errors, certain = told_of_sets["tested"]["errors"], []
    assert told_of_sets["tested"]["n_errors"] == len(errors) == 4
    for error in errors:
        gold, told = sides(error)
        assert gold != told
        wrong = [abs(each["probability"] - each["gold"]) for each in error["topics"] if each["gold"] != each["told"]]
        assert [each["gold"] != each["told"] for each in error["topics"][: len(wrong)]] == [True] * len(wrong)
        assert wrong == sorted(wrong, reverse=True)
        certain.append(wrong[0])
        known = [each["topic"] for each in error["topics"] if each["topic"] in model_of_sets.topics]
        expected = model_of_sets.explain(error["text"]).as_dict(known, 80) if known else None
        assert error["explanation"] == expected
    assert certain == sorted(certain, reverse=True)
    assert (errors[0]["text"], sides(errors[0])) == ("龘靐", ({"占星"}, set()))


def test_texts_about_nothing_leave_a_matrix_without_cases(
    model_of_sets: TopicModel, corpus_of_sets: Corpus, found_of_sets: Examination
) -> None:
    test = Corpus("nothing", ["龘靐"], [""], [None], multi_label=True)
    likely = np.zeros((1, len(model_of_sets.topics)))
    report = compare_sets(test, [NO_TOPIC._replace(topics=())], model_of_sets.topics, likely, resamples=2)
    found = Examination(test, report, None, found_of_sets.leakage)
    tested = describe_run(CONFIG_OF_SETS, model_of_sets, corpus_of_sets, found, PROVENANCE)["tested"]
    assert np.array(tested["confusion"]["counts"]).sum() == tested["n_errors"] == 0
    assert tested["confusion"]["examples"] == {}
    assert tested["figures"]["only"]["accuracy"] == 1.0


def test_the_report_of_a_large_test_set_of_sets_is_small(
    model_of_sets: TopicModel, corpus_of_sets: Corpus, found_of_sets: Examination
) -> None:
    random = np.random.default_rng(5)
    names = [f"主题{number}" for number in range(1200)]
    gold = random.random((3000, len(names))) < 0.003
    told = gold ^ (random.random(gold.shape) < 0.001)
    likely = np.where(told, random.uniform(0.5, 1, gold.shape), random.uniform(0, 0.5, gold.shape))
    topics = [[names[topic] for topic in np.flatnonzero(row)] for row in gold]
    test = Corpus("large", ["股市大涨" * 300] * len(gold), [*map(join_topics, topics)], [None] * len(gold), True)
    predictions = [NO_TOPIC._replace(topics=tuple(names[topic] for topic in np.flatnonzero(row))) for row in told]
    report = compare_sets(test, predictions, names, likely, resamples=2)
    found = Examination(test, report, None, found_of_sets.leakage)
    run = describe_run(CONFIG_OF_SETS, model_of_sets, corpus_of_sets, found, PROVENANCE)
    drawn = run["tested"]["confusion"]
    assert np.array(drawn["counts"]).sum() == report.confusion.sum()
    for row, topic in enumerate(drawn["labels"][:-1]):
        missed = drawn["examples"].get(f"{row},{len(drawn['labels'])}", [])
        doubts = [each["probability"] for example in missed for each in example["topics"] if each["topic"] == topic]
        assert doubts == sorted(doubts)
        assert len(doubts) == min(drawn["counts"][row][-1], drawn["kept"])
    assert len(run["tested"]["errors"]) < run["tested"]["n_errors"] == np.count_nonzero((gold != told).any(axis=1))
    assert len(report_page(run).encode()) < 3_000_000


def test_the_report_of_sets_works_in_a_browser(
    told_of_sets: dict[str, Any], browser: "Browser", tmp_path: Path
) -> None:
    show(browser, tmp_path, told_of_sets)
    if browser.run("return document.documentElement.lang") != "en":
        browser.one("#language").click()
    assert len(browser.find("#figures .card")) == 10
    assert [head.text for head in browser.find(".topics thead th")][-1] == "threshold"
    assert browser.find(".coverage") == []
    assert len(browser.find(".reliability .dot")) == len(told_of_sets["tested"]["reliability"])
    for cell in browser.find(".matrix button"):
        cell.click()
        shown = [text.text for text in browser.find("#cell .text")]
        assert shown == [
            example["text"]
            for example in told_of_sets["tested"]["confusion"]["examples"][cell.get_attribute("data-cell")]
        ]
    roles = [number.text for number in browser.find("#errors .number")]
    assert {role.rsplit(" ", 1)[0] for role in roles} == {"missed", "wrongly told", "rightly told"}
    chip = browser.find("#errors button.chip[aria-pressed=false]")[0]
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    browser.find(".sorter")[-1].click()
    assert browser.find(".topics tbody th")[-1].text == "占星"
    browser.one("#language").click()
    assert "阈值" in browser.one(".topics thead").text
    assert "undefined" not in browser.one("main").text
    assert browser.complaints() == []
    assert browser.asked() == {"file://"}


def test_markup_in_sets_shows_as_text_in_a_browser(small_corpus: Corpus, browser: "Browser", tmp_path: Path) -> None:
    names = {"财经": HOSTILE, "体育": CLOSING, "教育": "a & b"}
    texts = [f"{text}{HOSTILE if row % 2 else CLOSING}" for row, text in enumerate(small_corpus.texts)]
    corpus = joined(Corpus(HOSTILE, texts, [names[topic] for topic in small_corpus.topics], small_corpus.documents))
    model = fit_topic_model(CONFIG_OF_SETS, corpus)
    test = Corpus(CLOSING, corpus.texts, [*corpus.topics[1:], HOSTILE], [HOSTILE] * len(corpus), multi_label=True)
    found = examine(CONFIG_OF_SETS, model, corpus, test)
    run = describe_run(CONFIG_OF_SETS.model_copy(update={"name": HOSTILE}), model, corpus, found, {"commit": CLOSING})
    page = report_page(run)
    assert page.count("<script") == page.count("</script>") == 2
    show(browser, tmp_path, run)
    assert HOSTILE in [cell.text for cell in browser.find(".topics th")]
    browser.one(".matrix .wrong").click()
    assert HOSTILE in browser.one("#cell").text or CLOSING in browser.one("#cell").text
    assert HOSTILE in browser.one("#errors").text
    assert browser.find("img") == []
    assert browser.complaints() == []
    assert browser.asked() == {"file://"}
