"""From inputs to output rows."""

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duanti import DataError, TopicModel, UsageError
from duanti.predict import Unit, find_inputs, output_format, predict_inputs, predict_units, write_rows

ARTICLE = "\u3000\u3000中新网4月9日电 股市大涨，基金收益上升。\r\n\r\n球队赢了比赛\r\n责任编辑：张三\r\n"


def rows_of(model: TopicModel, *names: str | Path, **settings: str) -> list[dict[str, object]]:
    inputs = find_inputs([str(name) for name in names], **settings)
    return [row for row, _ in predict_inputs(model, inputs)]


def write_jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_document_gives_a_row_per_paragraph(small_model: TopicModel, tmp_path: Path) -> None:
    (tmp_path / "news.txt").write_bytes(ARTICLE.encode())
    rows = rows_of(small_model, tmp_path / "news.txt")
    assert [(r["document"], r["paragraph"], r["kind"]) for r in rows] == [
        ("news", 0, "lead"),
        ("news", 1, "heading"),
        ("news", 2, "boilerplate"),
    ]
    assert [r["topic"] for r in rows] == ["财经", "体育", None]
    assert ARTICLE[rows[0]["start"] : rows[0]["end"]] == "股市大涨，基金收益上升。"  # type: ignore[misc]
    assert rows[2]["probability"] is None
    assert rows[2]["alternatives"] == []


def test_a_table_gives_a_row_per_row(small_model: TopicModel, tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "t.jsonl", [{"text": "股市大涨\n球队赢了"}, {"text": None}, {"text": ""}, {"text": "球"}]
    )
    rows = rows_of(small_model, path)
    assert [(r["document"], r["paragraph"], r["start"], r["end"], r["kind"]) for r in rows] == [
        ("0", 0, 0, 9, "body"),
        ("1", 0, 0, 0, "body"),
        ("2", 0, 0, 0, "body"),
        ("3", 0, 0, 1, "body"),
    ]
    assert [r["topic"] is None for r in rows] == [False, True, True, False]


def test_rows_of_one_document_are_its_paragraphs(small_model: TopicModel, tmp_path: Path) -> None:
    table = [{"text": "股市", "document": "a"}, {"text": "球队", "document": "a"}, {"text": "学校", "document": "b"}]
    rows = rows_of(small_model, write_jsonl(tmp_path / "t.jsonl", list(table)))
    assert [(r["document"], r["paragraph"]) for r in rows] == [("a", 0), ("a", 1), ("b", 0)]


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.csv", "t.tsv", "t.parquet"])
def test_every_table_format_gives_the_same_rows(small_model: TopicModel, tmp_path: Path, name: str) -> None:
    texts = ["股市大涨", '球队,赢了"比赛"', "学校开学"]
    expected = [
        row for row, _ in predict_units(small_model, [Unit(str(n), t) for n, t in enumerate(texts)], unit="text")
    ]
    path = tmp_path / name
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    if name.endswith("parquet"):
        pq.write_table(pa.table({"text": texts}), path)
    elif name.endswith("gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    elif name.endswith("jsonl"):
        path.write_text(lines, encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter="," if name.endswith("csv") else "\t").writerows(
                [["text"], *([t] for t in texts)]
            )
    assert rows_of(small_model, path) == expected


def test_a_folder_is_all_its_files_in_order(small_model: TopicModel, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_text("股市", encoding="utf-8")
    (tmp_path / "sub" / "a.txt").write_text("球队", encoding="utf-8")
    (tmp_path / ".hidden").write_text("x", encoding="utf-8")
    assert [row["document"] for row in rows_of(small_model, tmp_path)] == ["b", "a"]


def test_columns_may_have_other_names(small_model: TopicModel, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "t.jsonl", [{"body": "股市大涨", "id": 7}])
    rows = rows_of(small_model, path, text_column="body", document_column="id")
    assert (rows[0]["document"], rows[0]["topic"]) == ("7", "财经")


@pytest.mark.parametrize("chunk", [1, 2, 3, 1000])
def test_the_size_of_a_chunk_changes_nothing(
    small_model: TopicModel, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    units = [Unit("a", "股市\n球队"), Unit("a", "学校"), Unit("b", ""), Unit("b", "股市\n学校")]
    expected = list(predict_units(small_model, units, unit="paragraph"))
    monkeypatch.setattr("duanti.predict._CHUNK", chunk)
    assert list(predict_units(small_model, units, unit="paragraph")) == expected
    assert [(r["document"], r["paragraph"]) for r, _ in expected] == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1)]


def test_every_output_format_holds_the_same(small_model: TopicModel, tmp_path: Path) -> None:
    (tmp_path / "news.txt").write_text(ARTICLE, encoding="utf-8")
    rows = rows_of(small_model, tmp_path / "news.txt")
    for kind in ("jsonl", "csv", "parquet"):
        assert write_rows(rows, str(tmp_path / f"out.{kind}"), kind) == 3
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()] == rows
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == rows
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        from_csv = list(csv.DictReader(file))
    assert [row["topic"] for row in from_csv] == ["财经", "体育", ""]
    assert float(from_csv[0]["probability"]) == rows[0]["probability"]
    assert json.loads(from_csv[0]["alternatives"]) == rows[0]["alternatives"]
    assert from_csv[2]["probability"] == ""


def test_an_output_that_fails_half_way_is_not_there(small_model: TopicModel, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "股市"}\n' * 5000 + "broken\n", encoding="utf-8")
    with pytest.raises(DataError, match="line 5001"):
        write_rows(
            iter(row for row, _ in predict_inputs(small_model, find_inputs([str(path)]))),
            str(tmp_path / "o.csv"),
            "csv",
        )
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.jsonl"]


def test_an_output_that_cannot_be_written_is_one_line(small_model: TopicModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        write_rows([], str(tmp_path / "nowhere" / "o.jsonl"), "jsonl")


def test_the_output_format_follows_request_then_ending_then_terminal() -> None:
    assert output_format("csv", "x.parquet", is_terminal=True) == "csv"
    assert output_format(None, "x.parquet", is_terminal=True) == "parquet"
    assert output_format(None, None, is_terminal=True) == "table"
    assert output_format(None, None, is_terminal=False) == "jsonl"
    with pytest.raises(UsageError, match="cannot tell the format"):
        output_format(None, "x.doc", is_terminal=False)
    with pytest.raises(UsageError, match="for the terminal"):
        output_format("table", "x.txt", is_terminal=True)


def test_missing_and_empty_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        find_inputs([str(tmp_path / "nowhere.txt")])
    with pytest.raises(DataError, match="an empty folder"):
        find_inputs([str(tmp_path)])
    (tmp_path / "picture.png").write_bytes(b"x")
    with pytest.raises(DataError, match="cannot tell its format"):
        find_inputs([str(tmp_path)])


def test_a_million_characters_in_one_line_are_one_paragraph(small_model: TopicModel, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("股市大涨" * 250_000, encoding="utf-8")
    rows = rows_of(small_model, tmp_path / "long.txt")
    assert [(row["start"], row["end"], row["topic"]) for row in rows] == [(0, 1_000_000, "财经")]
