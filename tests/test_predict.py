"""From inputs to output rows."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duanti import TopicModel
from duanti.predict import PredictOptions, label_source, label_texts
from duanti.readers import ReadOptions, find_sources

ARTICLE = "\u3000\u3000中新网4月9日电 股市大涨，基金收益上升。\r\n\r\n球队赢了比赛\r\n责任编辑：张三\r\n"


def rows_of(
    model: TopicModel, *names: str | Path, unit: str | None = None, n_jobs: int | None = None, **reading: Any
) -> list[dict[str, Any]]:
    """The output rows of some inputs."""
    return [
        row
        for source in find_sources([str(name) for name in names])
        for part in label_source(model, source, ReadOptions(**reading), PredictOptions(unit, n_jobs=n_jobs))
        for row in part.batch.to_pylist()
    ]


def write_jsonl(path: Path, rows: list[Any]) -> Path:
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
    assert ARTICLE[rows[0]["start"] : rows[0]["end"]] == "股市大涨，基金收益上升。"
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


def test_rows_are_what_the_model_predicts(small_model: TopicModel) -> None:
    texts = ["股市大涨", "球队,赢了比赛", None, "学校开学", "无𠀀"]
    rows = label_texts(small_model, texts, list("abcde"), PredictOptions("text")).to_pylist()
    for row, prediction in zip(rows, small_model.predict(texts), strict=True):
        assert (row["topic"], row["probability"]) == (prediction.topic, prediction.probability)
        assert [(a["topic"], a["probability"]) for a in row["alternatives"]] == [*prediction.alternatives]


def test_rows_of_one_document_are_its_paragraphs(small_model: TopicModel, tmp_path: Path) -> None:
    table = [
        {"text": "股市", "document": "a"},
        {"text": "球队", "document": "a"},
        {"text": "学校", "document": "b"},
        {"text": "学校", "document": ""},
        {"text": "学校", "document": None},
        {"text": "学校", "document": 7},
        {"text": "学校", "document": "7"},
    ]
    rows = rows_of(small_model, write_jsonl(tmp_path / "t.jsonl", list(table)))
    places = [(r["document"], r["paragraph"]) for r in rows]
    assert places == [("a", 0), ("a", 1), ("b", 0), ("3", 0), ("4", 0), ("7", 0), ("7", 1)]


def test_documents_of_the_same_name_are_not_one(small_model: TopicModel, tmp_path: Path) -> None:
    for year in ("2008", "2009"):
        (tmp_path / year).mkdir()
        (tmp_path / year / "news.txt").write_text("股市大涨\n球队赢了", encoding="utf-8")
    rows = rows_of(small_model, tmp_path)
    assert [(r["document"], r["paragraph"]) for r in rows] == [("news", 0), ("news", 1)] * 2


@pytest.mark.parametrize("name", ["t.jsonl", "t.jsonl.gz", "t.jsonl.zst", "t.csv", "t.tsv", "t.parquet"])
def test_every_table_format_gives_the_same_rows(small_model: TopicModel, tmp_path: Path, name: str) -> None:
    texts = ["股市大涨", '球队,赢了"比赛"', "学校\n开学", "😂\t球"]
    expected = label_texts(small_model, texts, [*"0123"], PredictOptions("text")).to_pylist()
    path = tmp_path / name
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    if name.endswith("parquet"):
        pq.write_table(pa.table({"text": texts}), path)
    elif name.endswith("gz"):
        path.write_bytes(gzip.compress(lines))
    elif name.endswith("zst"):
        path.write_bytes(pa.Codec("zstd").compress(lines, asbytes=True))
    elif name.endswith("jsonl"):
        path.write_bytes(lines)
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


def test_the_unit_may_be_asked_for(small_model: TopicModel, tmp_path: Path) -> None:
    table = write_jsonl(tmp_path / "t.jsonl", [{"text": ARTICLE}, {"text": ARTICLE}])
    rows = rows_of(small_model, table, unit="paragraph")
    assert [(r["document"], r["paragraph"]) for r in rows] == [
        ("0", 0),
        ("0", 1),
        ("0", 2),
        ("1", 0),
        ("1", 1),
        ("1", 2),
    ]
    (tmp_path / "news.txt").write_bytes(ARTICLE.encode())
    assert [r["end"] for r in rows_of(small_model, tmp_path / "news.txt", unit="text")] == [len(ARTICLE)]


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "txt"])
def test_neither_blocks_nor_threads_change_a_row(
    small_model: TopicModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, ending: str
) -> None:
    table = [
        {"text": text, "document": document}
        for text, document in [("股市\n球队", "a"), ("学校", "a"), ("", "b"), ("股市，\r\n学校", "b"), ("球队", None)]
        * 9
    ]
    path = tmp_path / f"t.{ending}"
    if ending == "jsonl":
        write_jsonl(path, list(table))
    elif ending == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["document", "text"])
            writer.writeheader()
            writer.writerows(table)
    elif ending == "parquet":
        pq.write_table(pa.Table.from_pylist(table), path, row_group_size=4)
    else:
        path = tmp_path / "folder"
        path.mkdir()
        for number, row in enumerate(table):
            (path / f"{number:02}.txt").write_text(str(row["text"]), encoding="utf-8")
    expected = rows_of(small_model, path, unit="paragraph", n_jobs=1)
    assert len(expected) == 6 * 9
    monkeypatch.setattr("duanti.readers._BLOCK_BYTES", size)
    assert rows_of(small_model, path, unit="paragraph", n_jobs=3) == expected


def test_a_million_characters_in_one_line_are_one_paragraph(small_model: TopicModel, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("股市大涨" * 250_000, encoding="utf-8")
    rows = rows_of(small_model, tmp_path / "long.txt")
    assert [(row["start"], row["end"], row["topic"]) for row in rows] == [(0, 1_000_000, "财经")]
