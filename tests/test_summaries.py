"""What is said of a document as a whole."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duanti import TopicModel
from duanti.cli import main
from duanti.summaries import Segment, summarize

ARTICLE = "股市大涨，基金上升\n责任编辑：张三\n股票跌停\n球队赢了比赛\n"


def test_segments_are_runs_of_one_topic_and_shares_are_of_characters() -> None:
    summary = summarize(["财", "财", None, "财", "体", "财"], [10, 10, 99, 10, 10, 10], [0, 1, 2, 3, 4, 5])
    assert summary.topic == "财"
    assert summary.shares == {"财": 0.8, "体": 0.2}
    assert summary.segments == (Segment(0, 3, "财"), Segment(4, 4, "体"), Segment(5, 5, "财"))


def test_a_document_without_topics_has_no_main_topic() -> None:
    assert summarize([None, None], [5, 5], [0, 1]) == (None, {}, ())
    assert summarize([], [], []) == (None, {}, ())


@pytest.fixture
def bundle(small_model: TopicModel, tmp_path: Path) -> str:
    small_model.save(tmp_path / "m" / "small")
    return str(tmp_path / "m" / "small")


def test_each_document_gets_a_row_behind_its_paragraphs(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text(ARTICLE, encoding="utf-8")
    (tmp_path / "in" / "b.txt").write_text("学校开学\n", encoding="utf-8")
    assert main(["predict", bundle, str(tmp_path / "in"), "--summary"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["document"], row["paragraph"], row["kind"]) for row in rows[-3:]] == [
        ("a", None, "document"),
        ("b", 0, "heading"),
        ("b", None, "document"),
    ]
    assert (rows[4]["topic"], rows[4]["segments"]) == (
        "财经",
        [{"first": 0, "last": 2, "topic": "财经"}, {"first": 3, "last": 3, "topic": "体育"}],
    )
    assert [share["topic"] for share in rows[4]["shares"]] == ["财经", "体育"]
    assert ARTICLE[rows[4]["start"] : rows[4]["end"]] == ARTICLE.rstrip("\n")
    assert rows[0]["segments"] is None
    assert rows[0]["shares"] is None


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("size", [1, 1 << 22])
def test_summaries_are_of_whole_documents_in_every_format(
    bundle: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, size: int
) -> None:
    monkeypatch.setattr("duanti.readers._BLOCK_BYTES", size)
    rows_in = [("a", "股市"), ("a", "球队"), ("b", "学校")] * 2
    lines = [{"document": document, "text": text, "id": number} for number, (document, text) in enumerate(rows_in)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    out, report = tmp_path / f"o.{ending}", tmp_path / "r.json"
    command = ["predict", bundle, str(tmp_path / "t.jsonl"), "-o", str(out), "--summary", "--keep", "id"]
    assert main([*command, "--report", str(report)]) == 0
    if ending == "parquet":
        rows = pq.read_table(out).to_pylist()
    elif ending == "jsonl":
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        with out.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    kinds = [row["kind"] for row in rows]
    assert kinds == ["body", "body", "document", "body", "document"] * 2
    assert [row["document"] for row in rows if row["kind"] == "document"] == ["a", "b"] * 2
    assert [str(row["id"]) for row in rows if row["kind"] == "body"] == [*"012345"]
    assert {row["id"] for row in rows if row["kind"] == "document"} <= {None, ""}
    counted = json.loads(report.read_text(encoding="utf-8"))
    assert counted["output_rows"] == 6
    assert sum(topic["rows"] for topic in counted["topics"].values()) + counted["without_topic"]["rows"] == 6


def test_an_empty_document_has_no_row(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.txt").touch()
    assert main(["predict", bundle, str(tmp_path / "empty.txt"), "--summary"]) == 0
    assert capsys.readouterr().out == ""
    out = tmp_path / "o.parquet"
    assert main(["predict", bundle, str(tmp_path / "empty.txt"), "--summary", "-o", str(out)]) == 0
    assert pq.read_table(out).schema.field("segments").type == pa.list_(
        pa.struct([("first", pa.int64()), ("last", pa.int64()), ("topic", pa.string())])
    )
