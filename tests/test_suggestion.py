"""What to label next: the most uncertain, far apart, nothing twice, and a page that hands out a corpus."""

import gzip
import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from duanti import Corpus, TopicModel, fit_topic_model, read_corpus
from duanti.cli import main
from duanti.config import RunConfig
from duanti.features import Rows
from duanti.jobs import Account, stream_job
from duanti.model import Decision
from duanti.pages import labelling_page
from duanti.predict import PredictOptions
from duanti.readers import ReadOptions, find_sources
from duanti.suggestion import RANKED, Shortlist, Suggestion, always_deciding, spread, suggest

if TYPE_CHECKING:
    from browser import Browser

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
WORDS = [
    text[at : at + 2]
    for text in ("股市基金银行债券分红大涨", "球队比赛门将换人冠军失利", "学校考试老师学生开学公布")
    for at in range(0, 12, 2)
]


def some_texts(n: int, seed: int = 0) -> list[str]:
    """Different texts of known words, of one topic or between several."""
    rng = random.Random(seed)
    return [f"{'，'.join(rng.sample(WORDS, rng.randint(1, 5)))}{number}号" for number in range(n)]


def write_rows(path: Path, texts: list[str], **columns: list[Any]) -> Path:
    rows = [{"text": text, **{name: values[at] for name, values in columns.items()}} for at, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def suggested(model: TopicModel, path: Path, n: int, known: tuple[str, ...] = (), jobs: int = 1) -> list[Suggestion]:
    options = PredictOptions(top=RANKED, n_jobs=jobs)
    labelled = stream_job(
        always_deciding(model), find_sources([str(path)]), ReadOptions(), options, Account(), lambda *_: None
    )
    return suggest(model, labelled, n, known, jobs)


def as_rows(matrix: NDArray[np.float64]) -> Rows:
    indptr = np.concatenate([[0], np.cumsum((matrix > 0).sum(axis=1))])
    return Rows(indptr, np.nonzero(matrix)[1].astype(np.int32), matrix[matrix > 0])


def spread_slowly(matrix: NDArray[np.float64], uncertainty: NDArray[np.float64], n: int) -> list[int]:
    """Take the row with the largest uncertainty times distance to the nearest taken, again and again."""
    unit = [row / np.linalg.norm(row) if row.any() else row for row in matrix]
    chosen: list[int] = []
    while len(chosen) < min(n, len(unit)):
        gains = {
            row: uncertainty[row] * min([np.sqrt(2.0), *(np.sqrt(2 - 2 * (unit[row] @ unit[at])) for at in chosen)])
            for row in range(len(unit))
            if row not in chosen
        }
        chosen.append(max(gains, key=lambda row: (round(gains[row], 9), -row)))
    return chosen


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_that_of_its_slow_and_obvious_twin(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.random((40, 12)) * (rng.random((40, 12)) < 0.3)
    uncertainty = rng.random(40)
    assert spread(as_rows(matrix), uncertainty, 25) == spread_slowly(matrix, uncertainty, 25)


def test_the_most_uncertain_comes_first_and_its_copy_last() -> None:
    matrix = np.array([[1.0, 0, 0], [2.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    assert spread(as_rows(matrix), np.array([0.8, 0.9, 0.5, 0.6]), 4) == [1, 3, 2, 0]


def test_more_than_there_is_gives_all_once() -> None:
    assert sorted(spread(as_rows(np.eye(3)), np.zeros(3), 10)) == [0, 1, 2]
    assert spread(as_rows(np.zeros((0, 2))), np.zeros(0), 3) == []


def test_the_shortlist_holds_the_least_margins_of_all_rows(small_model: TopicModel, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", some_texts(300))
    everything = Shortlist(300)
    short = Shortlist(7)
    options = PredictOptions(top=RANKED, n_jobs=1)
    for part in stream_job(small_model, find_sources([str(path)]), ReadOptions(), options, Account(), print):
        everything.add(part)
        short.add(part)
        assert len(short._kept) <= 14
    expected = sorted(everything.candidates())[:7]
    assert short.candidates() == expected
    probabilities = np.sort(small_model.probabilities([each.text for each in expected]), axis=1)
    assert [each.margin for each in expected] == pytest.approx(probabilities[:, -1] - probabilities[:, -2])


def test_the_same_texts_give_the_same_suggestions(small_model: TopicModel, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", some_texts(400))
    first = suggested(small_model, path, 20)
    assert len({each.text for each in first}) == 20
    assert suggested(small_model, path, 20, jobs=2) == first


def test_near_duplicates_are_never_suggested_twice(small_model: TopicModel, tmp_path: Path) -> None:
    story = "股市大涨的同一天，本地球队主场失利，学校的老师和学生都在谈论这场比赛和基金经理减仓的消息"
    copies = [f"{story}{end}" for end in ("", "。", "！", "。。", "……", "？") * 50]
    path = write_rows(tmp_path / "rows.jsonl", [*copies, *some_texts(30), story.replace("，", " ")])
    found = [each.text for each in suggested(small_model, path, 25)]
    assert len([text for text in found if text.startswith("股市大涨的同一天")]) == 1
    assert len(set(found)) == 25


def test_what_is_labelled_is_not_suggested_again(small_model: TopicModel, tmp_path: Path) -> None:
    texts = some_texts(40)
    path = write_rows(tmp_path / "rows.jsonl", texts)
    first = {each.text for each in suggested(small_model, path, 10)}
    second = {each.text for each in suggested(small_model, path, 30, known=tuple(f"{text}。" for text in first))}
    assert first | second == set(texts)
    assert not first & second


def test_a_promise_does_not_hide_what_is_uncertain(small_model: TopicModel, tmp_path: Path) -> None:
    careful = replace(small_model, decision=Decision(min_probability=0.999))
    path = write_rows(tmp_path / "rows.jsonl", some_texts(30))
    assert suggested(careful, path, 5) == suggested(small_model, path, 5)


def test_only_rows_that_name_a_document_have_one(small_model: TopicModel, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ["股市学校", "球队银行", "学生冠军"], document=["a", None, ""])
    documents = {each.text: each.document for each in suggested(small_model, path, 3)}
    assert documents == {"股市学校": "a", "球队银行": None, "学生冠军": None}


@pytest.fixture
def bundle(small_model: TopicModel, tmp_path: Path) -> str:
    small_model.save(tmp_path / "model" / "small")
    return str(tmp_path / "model" / "small")


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_command_tells_texts_and_what_the_model_makes_of_them(
    bundle: str, small_model: TopicModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_rows(tmp_path / "rows.jsonl", some_texts(50))
    assert main(["suggest", bundle, str(path), "-n", "7"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "duanti: 7 of 50 texts suggested\n"
    told = [json.loads(line) for line in captured.out.splitlines()]
    assert len(told) == 7
    for each in told:
        (prediction,) = small_model.predict([each["text"]])
        assert (each["predicted"], each["probability"]) == (prediction.topic, prediction.probability)
        assert each["margin"] == pytest.approx(prediction.probability - prediction.alternatives[0].probability)
        assert each["alternatives"] == [other._asdict() for other in prediction.alternatives]
        assert "topic" not in each
    assert main(["suggest", bundle, str(path), "-n", "7", "-o", str(tmp_path / "next.jsonl")]) == 0
    assert [json.loads(line) for line in (tmp_path / "next.jsonl").read_text("utf-8").splitlines()] == told


def test_every_kind_of_input_is_read(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("股市学校\n球队银行\n责任编辑：张三\n", encoding="utf-8")
    (tmp_path / "rows.csv").write_text('body\n学生冠军\n""\n', encoding="utf-8")
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress('{"body": "基金考试"}\n{"body": 7}\n{'.encode()))
    inputs = [str(tmp_path / name) for name in ("texts", "rows.csv", "packed.jsonl.gz")]
    assert main(["suggest", bundle, *inputs, "--text-column", "body"]) == 0
    captured = capsys.readouterr()
    told = {each["text"]: each for each in map(json.loads, captured.out.splitlines())}
    assert set(told) >= {"股市学校", "球队银行", "学生冠军", "基金考试"}
    assert not {"责任编辑：张三", ""} & set(told)
    assert (told["球队银行"]["document"], told["球队银行"]["paragraph"]) == ("a", 1)
    assert "packed.jsonl.gz, line 3" in captured.err
    assert captured.err.endswith("6 rows read = 5 labelled + 1 rejected\n")


def test_a_labelled_corpus_is_left_out(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_rows(tmp_path / "rows.jsonl", ["股市学校", "球队银行"])
    labelled = write_rows(tmp_path / "mine.jsonl", ["股市 学校"], topic=["财经"])
    assert main(["suggest", bundle, str(path), "--labelled", str(labelled)]) == 0
    assert [each["text"] for each in lines_of(capsys)] == ["球队银行"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["rows.jsonl"], 1, "the input holds no text with a known term that has no label yet: nothing to suggest."),
        (["empty.jsonl"], 1, "nothing to suggest."),
        (["none.jsonl"], 1, "none.jsonl: no such file or folder."),
        (["rows.jsonl", "-o", "page.pdf"], 2, "page.pdf: cannot tell what to write from its ending. Use .html or "),
        (["rows.jsonl", "--labelled", "none.csv"], 1, "none.csv"),
    ],
)
def test_a_fault_is_one_line(
    bundle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"text": null}\n{"text": "龘靐"}\n', encoding="utf-8")
    (tmp_path / "empty.jsonl").write_text("", encoding="utf-8")
    assert main(["suggest", bundle, *arguments]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "page.pdf").exists()


@pytest.mark.long
def test_suggested_labels_teach_more_than_random_ones(corpora: Path, tmp_path: Path) -> None:
    """500 random headlines and 500 suggested ones against 1,000 random ones, on 10,000 others; three times."""
    everything = read_corpus(corpora / "thucnews" / "train.jsonl.gz")
    test = read_corpus(corpora / "thucnews" / "dev.jsonl.gz")
    features = {"words": [1, 1], "characters": [1, 2], "sublinear_tf": True}
    settings = {
        "name": "next",
        "data": {"train": "given"},
        "features": features,
        "classifier": {"kind": "linear_svc", "C": 0.5},
    }
    config = RunConfig.model_validate(settings)

    def accuracy(rows: list[int]) -> float:
        model = fit_topic_model(config, everything.select(rows))
        return float(np.mean([p.topic == t for p, t in zip(model.predict(test.texts), test.topics, strict=True)]))

    gains = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(everything)).tolist()
        first, pool = order[:500], order[500:]
        model = fit_topic_model(config, everything.select(first))
        path = write_rows(tmp_path / "pool.jsonl", [everything.texts[row] for row in pool])
        chosen = [pool[each.position] for each in suggested(model, path, 500)]
        assert len(set(chosen)) == 500
        gains.append((accuracy(first), accuracy(first + pool[:500]), accuracy(first + chosen)))
        print("before, random, suggested:", *(f"{share:.4f}" for share in gains[-1]))
    _, at_random, by_suggestion = np.mean(gains, axis=0)
    assert by_suggestion > at_random + 0.005


# The page


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    from browser import Browser

    with Browser() as opened:
        yield opened


def as_suggestion(text: str, position: int, **more: Any) -> dict[str, Any]:
    told = {"document": None, "paragraph": 0, "predicted": "财经", "probability": 0.5, "margin": 0.1}
    alternatives = [{"topic": "体育", "probability": 0.4}, {"topic": "教育", "probability": 0.1}]
    return {"text": text, "position": position, **told, "alternatives": alternatives, **more}


ASKED = [
    as_suggestion("球队赢了", 5, document="b", paragraph=2),
    as_suggestion("股市大涨\n基金", 3),
    as_suggestion("学校开学", 4, document="b", paragraph=1),
    as_suggestion("看不懂", 1),
    as_suggestion("新的卫星", 0),
]
TOPICS = ["财经", "体育", "教育", "Science", "法治"]


def open_page(browser: "Browser", tmp_path: Path, page: str) -> None:
    downloads = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    (tmp_path / "label.html").write_text(page, encoding="utf-8")
    browser.open((tmp_path / "label.html").as_uri())
    browser.run("localStorage.clear()")
    browser.open((tmp_path / "label.html").as_uri())


def press(browser: "Browser", *keys: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    for key in keys:
        ActionChains(browser.driver).send_keys(key).perform()


def downloaded(browser: "Browser", tmp_path: Path) -> Path:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.one("#download").click()

    def whole(_: object) -> Path | None:
        """The file; the browser makes an empty one first, to keep its name."""
        return next((path for path in tmp_path.glob("labels-*.jsonl") if path.stat().st_size), None)

    return WebDriverWait(browser.driver, 60).until(whole)


def test_labelling_by_keyboard_gives_a_corpus(browser: "Browser", tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    open_page(browser, tmp_path, labelling_page(ASKED, TOPICS, "m"))
    assert browser.one("#text").text == "球队赢了"
    assert browser.one("#place").text == "b · ¶2"
    assert [name.text for name in browser.find("#topics .name")] == TOPICS
    press(browser, "1", "u")  # the wrong digit, taken back
    assert browser.one("#text").text == "球队赢了"
    press(browser, "2")
    assert browser.one("#text").text == "股市大涨\n基金"
    press(browser, Keys.ENTER)
    press(browser, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER)
    assert browser.one("#text").text == "看不懂"
    press(browser, " ")
    press(browser, "c", "i")  # letters look for a topic
    assert browser.find("#topics .name")[0].text == "Science"
    press(browser, Keys.ESCAPE, "/", "航天")
    assert browser.one("#topics .add .name").text.endswith("航天")
    press(browser, Keys.ENTER)
    assert browser.one("#finished").is_displayed()
    assert browser.one("#count").text.startswith("5 / 5 · 4 ")
    browser.driver.refresh()
    browser.wait("#finished")
    assert browser.one("#count").text.startswith("5 / 5 · 4 ")
    press(browser, Keys.ARROW_LEFT)
    assert browser.one("#text").text == "新的卫星"
    assert "航天" in [name.text for name in browser.find("#topics .name")]
    press(browser, "5", "u", "6")
    corpus = read_corpus(downloaded(browser, tmp_path))
    assert list(zip(corpus.texts, corpus.topics, corpus.documents, strict=True)) == [
        ("新的卫星", "航天", None),
        ("股市大涨\n基金", "财经", None),
        ("学校开学", "教育", "b"),
        ("球队赢了", "体育", "b"),
    ]
    assert browser.complaints() == []
    assert browser.asked() <= {"file://", "blob://"}


def test_skipped_texts_can_be_seen_again_and_buttons_do_what_keys_do(browser: "Browser", tmp_path: Path) -> None:
    open_page(browser, tmp_path, labelling_page(ASKED[:3], TOPICS, "m"))
    browser.one("#skip").click()
    press(browser, " ")
    browser.find("#topics .chip")[1].click()
    browser.one("#again").click()
    assert browser.one("#text").text == "球队赢了"
    browser.one("#undo").click()  # the last thing done, which is the label of the third
    assert browser.one("#text").text == "学校开学"
    assert browser.one("#count").text.startswith("0 / 3")
    assert not browser.one("#download").is_enabled()
    assert browser.complaints() == []


def test_pages_keep_their_own_progress_and_their_corpora_join(browser: "Browser", tmp_path: Path) -> None:
    open_page(browser, tmp_path, labelling_page(ASKED, TOPICS, "m"))
    press(browser, "2")
    first = downloaded(browser, tmp_path)
    together = first.read_bytes()
    first.unlink()
    (tmp_path / "label.html").write_text(labelling_page(ASKED[1:], TOPICS, "m"), encoding="utf-8")
    browser.open((tmp_path / "label.html").as_uri())
    assert browser.one("#count").text.startswith("0 / 4")
    press(browser, "1")
    second = downloaded(browser, tmp_path)
    assert second.name != first.name
    (tmp_path / "all.jsonl").write_bytes(together + second.read_bytes())
    assert read_corpus(tmp_path / "all.jsonl").topics == ["体育", "财经"]


def test_of_very_many_topics_typing_finds_one(browser: "Browser", tmp_path: Path) -> None:
    open_page(browser, tmp_path, labelling_page(ASKED, [*TOPICS, *(f"topic {n:03}" for n in range(300))], "m"))
    assert len(browser.find("#topics .chip")) == 60
    assert browser.find("#topics li")[-1].text.startswith("245 ")
    press(browser, *"topic 299")
    assert [name.text for name in browser.find("#topics .name")] == ["topic 299"]
    press(browser, "\ue007")  # Enter
    assert read_corpus(downloaded(browser, tmp_path)).topics == ["topic 299"]


def test_a_browser_that_keeps_nothing_is_told_of(browser: "Browser", tmp_path: Path) -> None:
    refuse = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no'); } });"
    open_page(browser, tmp_path, labelling_page(ASKED, TOPICS, "m"))
    added = browser.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": refuse})
    try:
        browser.open((tmp_path / "label.html").as_uri())
        press(browser, "2")
        assert browser.one("#unkept").is_displayed()
        assert read_corpus(downloaded(browser, tmp_path)).topics == ["体育"]
    finally:
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)


def test_markup_in_texts_and_topics_shows_as_text(browser: "Browser", tmp_path: Path) -> None:
    asked = as_suggestion(f"</script>{HOSTILE}", 0, document=HOSTILE, predicted=HOSTILE)
    page = labelling_page([asked], [*TOPICS, HOSTILE], HOSTILE)
    assert page.count("<script") == page.count("</script>") == 2
    assert "<img" not in page
    open_page(browser, tmp_path, page)
    assert browser.driver.title.startswith("duanti")
    assert browser.one("#text").text == f"</script>{HOSTILE}"
    assert browser.one("#place").text == f"{HOSTILE} · ¶0"
    assert browser.find("#topics .name")[0].text == browser.one("#model-name").text == HOSTILE
    assert browser.find("img") == []
    press(browser, "1")
    assert read_corpus(downloaded(browser, tmp_path)).topics == [HOSTILE]
    assert browser.complaints() == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_has_both_languages_and_both_schemes(browser: "Browser", tmp_path: Path, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    open_page(browser, tmp_path, labelling_page(ASKED, TOPICS, "m"))
    paper = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper))) > 380) == (scheme == "light")
    said = {browser.one("h1").text, browser.one("#skip").text}
    browser.one("#language").click()
    assert not said & {browser.one("h1").text, browser.one("#skip").text}
    assert all(node.text for node in browser.find("[data-say]") if node.is_displayed())


def test_a_page_comes_from_the_command(bundle: str, tmp_path: Path, small_corpus: Corpus) -> None:
    path = write_rows(tmp_path / "rows.jsonl", list(small_corpus.texts))
    assert main(["suggest", bundle, str(path), "-n", "5", "-o", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?://", page)
    told = json.loads(re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[0])
    assert len(told["suggestions"]) == 5
    assert told["model"] == "small"
