"""Inputs block by block: what is a row, and why one cannot be used."""

import gzip
import json
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duanti import DataError
from duanti.readers import ReadOptions, check_encoding, find_sources, one_by_one


class Read(NamedTuple):
    texts: list[str | None]
    rows: list[int]
    rejects: list[tuple[int, int | None, str]]
    n_rows: int


def read(path: Path | str, input_format: str | None = None, **options: Any) -> Read:
    """Everything an input holds, rows and lines numbered through."""
    texts, rows, rejects = [], [], []
    n_rows = n_lines = 0
    for source in find_sources([str(path)], input_format):
        for work in source.blocks(ReadOptions(**options)):
            block = work.parse()
            texts += block.texts.to_pylist()
            rows += (n_rows + block.rows).tolist()
            rejects += [
                (n_rows + r.row, None if r.line is None else n_lines + r.line + 1, r.reason) for r in block.rejects
            ]
            n_rows += block.n_rows
            n_lines += block.n_lines
    assert sorted(rows + [row for row, *_ in rejects]) == list(range(n_rows))
    return Read(texts, rows, rejects, n_rows)


JSON_FAULTS = [
    (b"{bad", "not valid JSON (Expecting property name enclosed in double quotes"),
    (b"[1]", "a list, not an object. A row looks like"),
    (b'{"txt": 1}', "no column 'text'; it has 'txt'. Did you mean 'txt'?"),
    (b'{"text": 1.5}', "'text' is a number with a fraction, not a string"),
    (b'{"text": true}', "'text' is true or false, not a string"),
    (b'{"text": "a\\u0000b"}', "'text' holds a NUL character"),
    (b'{"text": "\\ud800"}', "'text' holds a lone surrogate"),
    (b'{"text": "\xff"}', "byte 0xff cannot be decoded"),
    (b'{"text": "a"} {"text": "b"}', "not valid JSON (Extra data"),
    (b'{"text": NaN}', "not valid JSON (NaN is no JSON)"),
    (b'{"text": "a", "document": [1]}', "'document' is a list, not a string"),
    (b'{"text": "' + "长".encode() * 101 + b'"}', "'text' has more than 100 characters"),
    (b'{"x": "' + b"a" * 1000 + b'", "text": "b"}', "a line of more than 600 bytes"),
    (b"[" * 100_000, "not valid JSON"),
]


@pytest.mark.parametrize("size", [8, 1 << 22])
def test_each_unusable_line_is_rejected_with_its_number_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("duanti.readers._BLOCK_BYTES", size)
    lines = ['{"text": "好"}'.encode()]
    for line, _ in JSON_FAULTS[:-1]:
        lines += [line, b"", b'{"text": "\xe5\xa5\xbd", "n": 1}']
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(lines))
    found = read(tmp_path / "t.jsonl", max_chars=100)
    assert found.texts == ["好"] * len(JSON_FAULTS)
    assert [(row, line) for row, line, _ in found.rejects] == [
        (2 * n + 1, 3 * n + 2) for n in range(len(JSON_FAULTS) - 1)
    ]
    for (_, _, reason), (_, expected) in zip(found.rejects, JSON_FAULTS, strict=False):
        assert reason.startswith(expected)


@pytest.mark.parametrize(("line", "reason"), JSON_FAULTS)
def test_a_reason_is_one_short_line(tmp_path: Path, line: bytes, reason: str) -> None:
    (tmp_path / "t.jsonl").write_bytes(line)
    found = read(tmp_path / "t.jsonl", max_chars=100)
    assert len(found.rejects) == 1
    assert "\n" not in found.rejects[0][2]
    assert len(found.rejects[0][2]) < 200


def test_numbers_are_their_digits_and_null_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": 12}\n{"text": null}\n{"text": -0}\n{"text": ""}\n', encoding="utf-8")
    assert read(tmp_path / "t.jsonl").texts == ["12", None, "0", ""]


@pytest.mark.parametrize("size", [1, 5, 1 << 22])
def test_csv_rows_keep_their_numbers_and_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("duanti.readers._BLOCK_BYTES", size)
    content = 'x,text\r\n1,"好\r\n好"\r\n\r\n2\r\n3,"开\r\n4,"a"b\r\n5,\r\n6,"说 ""好"""\r\n'
    (tmp_path / "t.csv").write_bytes(content.encode())
    found = read(tmp_path / "t.csv")
    assert found.texts == ["好\r\n好", "", '说 "好"']
    assert found.rows == [0, 4, 5]
    assert [(row, line, reason.split(" (")[0]) for row, line, reason in found.rejects] == [
        (1, 5, "1 cells where the header has 2. Is a quote missing?"),
        (2, 6, "not valid CSV"),
        (3, 7, "not valid CSV"),
    ]


def test_a_quote_that_is_never_closed_takes_one_row(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('text\n"好\n' + "好\n" * 1000, encoding="utf-8")
    found = read(tmp_path / "t.csv", max_chars=100)
    assert len(found.texts) == 1000
    assert [row for row, *_ in found.rejects] == [0]


def test_a_row_of_a_million_cells_is_one_reject(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,n\n好,1\n" + ",".join(["a"] * 1_000_000) + "\n好,2\n", encoding="utf-8")
    found = read(tmp_path / "t.csv")
    assert found.texts == ["好", "好"]
    assert found.rejects == [(1, 3, "1,000,000 cells where the header has 2. Is a quote missing?")]


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv"])
def test_a_line_longer_than_any_text_is_passed_over_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("duanti.readers._BLOCK_BYTES", 64)
    rows = ['{"text": "%s"}' if name.endswith("jsonl") else "%s"] * 3
    content = "\n".join(row % text for row, text in zip(rows, ["好", "长" * 5000, "好"], strict=True))
    (tmp_path / name).write_text(("text\n" if name.endswith("csv") else "") + content + "\n", encoding="utf-8")
    found = read(tmp_path / name, max_chars=20)
    assert found.texts == ["好", "好"]
    assert [row for row, *_ in found.rejects] == [1]
    assert "--max-chars" in found.rejects[0][2]


# Without being told, an encoding cannot be guessed from a byte.
@pytest.mark.parametrize(("encoding", "size"), [("gb18030", 1), ("gb18030", 3), ("gb18030", 1 << 22), (None, 1 << 22)])
def test_gb18030_is_decoded_across_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, encoding: str | None
) -> None:
    monkeypatch.setattr("duanti.readers._BLOCK_BYTES", size)
    (tmp_path / "t.jsonl").write_bytes('{"text": "股市大涨，基金"}\n{"text": "球队𠀀"}\n'.encode("gb18030"))
    assert read(tmp_path / "t.jsonl", encoding=encoding).texts == ["股市大涨，基金", "球队𠀀"]


def test_a_line_of_another_encoding_is_rejected_and_the_rest_is_read(tmp_path: Path) -> None:
    lines = ['{"text": "股市大涨"}'.encode(), '{"text": "球队赢了"}'.encode("gb18030"), '{"text": "学校"}'.encode()]
    (tmp_path / "t.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\n".join(lines))
    found = read(tmp_path / "t.jsonl")
    assert found.texts == ["股市大涨", "学校"]
    assert found.rejects == [(1, 2, "byte 0xc7 cannot be decoded")]


def test_an_unknown_encoding_is_named() -> None:
    with pytest.raises(DataError, match="unknown encoding 'utf-9'"):
        check_encoding("utf-9")
    with pytest.raises(DataError, match="unknown encoding 'base64'"):
        check_encoding("base64")


def test_strings_of_parquet_that_are_no_utf8_are_rejected(tmp_path: Path) -> None:
    binary = pa.array(["好".encode(), b"\xff\xfe", None], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, binary.buffers())
    pq.write_table(pa.table({"text": text}), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    assert found.texts == ["好", None]
    assert found.rejects == [(1, None, "'text' holds byte 0xff, which cannot be decoded")]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["好", None, "市"], pa.large_string()),
        pa.array(["好", None, "市"], pa.string_view()),
        pa.array(["好", None, "市"]).dictionary_encode(),
        pa.array([1, None, 3]),
        pa.nulls(3),
    ],
    ids=lambda column: str(column.type),
)
def test_every_type_of_parquet_that_can_be_text_is(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"text": column}), tmp_path / "t.parquet")
    expected = [None if value is None else str(value) for value in column.to_pylist()]
    assert read(tmp_path / "t.parquet").texts == expected


def test_a_column_of_numbers_with_fractions_is_no_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [0.5]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="column 'text' holds double, not strings"):
        read(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 9999)[:99], "damaged or cut short"),
        ("t.jsonl.gz", b"no gzip", "damaged or cut short"),
        ("t.jsonl.zst", b"no zstd", "cannot be read"),
        ("t.parquet", b"PAR1 and no more", "not a sound Parquet file"),
        ("t.csv", b"", "holds no header"),
        ("t.csv", b"a,a\n1,2\n", "line 1: the column 'a' stands there twice"),
        ("t.csv", b"txt\n1\n", "line 1: no column 'text'; it has 'txt'. Did you mean 'txt'?"),
        ("t.csv", b"\xff\n1\n", "line 1: byte 0xff cannot be decoded"),
    ],
)
def test_an_input_that_is_wrong_as_a_whole_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message.replace("(", r"\(")) as caught:
        read(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_parquet_file_cut_in_its_middle_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["好" * n for n in range(2000)]}), tmp_path / "t.parquet")
    data = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(data[:100] + b"\0" * (len(data) - 1000) + data[-900:])
    with pytest.raises(DataError, match="not a sound Parquet file"):
        read(tmp_path / "t.parquet")


def test_missing_and_empty_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        find_sources([str(tmp_path / "nowhere.txt")])
    with pytest.raises(DataError, match="an empty folder"):
        find_sources([str(tmp_path)])
    (tmp_path / "picture.png").write_bytes(b"x")
    with pytest.raises(DataError, match="cannot tell its format"):
        find_sources([str(tmp_path)])
    with pytest.raises(DataError, match="stdin cannot be Parquet"):
        find_sources(["-"], "parquet")


def test_documents_of_a_folder_may_be_taken_one_by_one(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "sub/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("好", encoding="utf-8")
    (source,) = find_sources([str(tmp_path)])
    assert [single.name for single in one_by_one(source)] == ["a.txt", "b.txt", "sub/c.txt"]


def test_a_document_that_cannot_be_used_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("好\n坏".encode() + b"\xff")
    (tmp_path / "b.txt").write_text("好", encoding="utf-8")
    (tmp_path / "c.txt").write_text("长" * 99, encoding="utf-8")
    (source,) = find_sources([str(tmp_path)])
    (work,) = source.blocks(ReadOptions(max_chars=50))
    block = work.parse()
    assert block.texts.to_pylist() == ["好"]
    assert [(Path(r.file or "").name, r.reason) for r in block.rejects] == [
        ("a.txt", "line 2: byte 0xff is not valid UTF-8. Mend the file, or declare its encoding"),
        ("c.txt", "'text' has more than 50 characters (--max-chars)"),
    ]


def test_stdin_may_be_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO('text\n"好"\n'.encode())))
    assert read("-", "csv").texts == ["好"]


@pytest.mark.parametrize("raw", [False, True])
def test_kept_columns_come_along(tmp_path: Path, raw: bool) -> None:
    rows = [{"text": "a", "k": "x\n"}, {"text": "b", "k": [1, {"y": None}]}, {"text": "c"}, {"text": "d", "k": None}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (source,) = find_sources([str(tmp_path / "t.jsonl")])
    (work,) = source.blocks(ReadOptions(keep=("k",), raw_json=raw))
    kept = work.parse().kept["k"]
    if raw:
        assert kept.storage.to_pylist() == ['"x\\n"', '[1, {"y": null}]', None, "null"]
    else:
        assert kept.to_pylist() == ["x\n", '[1, {"y": null}]', None, None]


def test_bytes_that_were_read_add_up_to_the_file(tmp_path: Path) -> None:
    content = '{"text": "好"}\n'.encode() * 1000
    (tmp_path / "t.jsonl").write_bytes(content)
    (source,) = find_sources([str(tmp_path / "t.jsonl")])
    assert sum(work.n_bytes for work in source.blocks(ReadOptions())) == len(content)
    pq.write_table(pa.table({"text": [str(n) for n in np.arange(100_000)]}), tmp_path / "t.parquet")
    (source,) = find_sources([str(tmp_path / "t.parquet")])
    size = (tmp_path / "t.parquet").stat().st_size
    assert sum(work.n_bytes for work in source.blocks(ReadOptions())) == pytest.approx(size, rel=0.01)
