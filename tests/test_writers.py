"""Arrow batches into files, against Python's json and csv."""

import csv
import datetime
import io
import json
import math
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duanti.writers import OUTPUT_ENDINGS, as_json, write_batches

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("n", pa.int64()),
        ("p", pa.float64()),
        ("others", pa.list_(pa.struct([("topic", pa.string()), ("probability", pa.float64())]))),
        ("topics", pa.list_(pa.string())),
    ]
)
texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(['"', "\\", "\n,"])
rows = st.fixed_dictionaries(
    {
        "text": texts,
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "p": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "others": st.none()
        | st.lists(st.fixed_dictionaries({"topic": texts, "probability": st.floats(0, 1)}), max_size=3),
        "topics": st.none() | st.lists(texts, max_size=3),
    }
)


def written(kind: str, schema: pa.Schema, *batches: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    write_batches(kind, file, schema, [pa.RecordBatch.from_pylist(batch, schema=schema) for batch in batches])
    return file.getvalue()


@given(st.lists(rows, max_size=5), st.lists(rows, max_size=3))
@settings(max_examples=300, deadline=None)
def test_json_reads_what_was_written(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    lines = written("jsonl", SCHEMA, first, second).decode().split("\n")
    assert lines.pop() == ""
    assert [json.loads(line) for line in lines] == first + second
    assert all(list(json.loads(line)) == SCHEMA.names for line in lines)


@given(st.lists(rows, max_size=5), st.sampled_from(["csv", "tsv"]))
@settings(max_examples=300, deadline=None)
def test_csv_reads_what_was_written(table: list[dict[str, Any]], kind: str) -> None:
    text = written(kind, SCHEMA, table).decode()
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter="," if kind == "csv" else "\t", strict=True)
    assert reader.fieldnames == SCHEMA.names
    for ours, row in zip(reader, table, strict=True):
        assert ours["text"] == (row["text"] or "")
        assert ours["n"] == ("" if row["n"] is None else str(row["n"]))
        assert (float(ours["p"]) if ours["p"] else None) == row["p"]
        for name in ("others", "topics"):
            assert (json.loads(ours[name]) if ours[name] else None) == row[name]


@given(st.lists(rows, max_size=5), st.lists(rows, max_size=3))
@settings(max_examples=50, deadline=None)
def test_parquet_reads_what_was_written(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    table = pq.read_table(io.BytesIO(written("parquet", SCHEMA, first, second)))
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist() == first + second


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([1.5, math.nan, math.inf, None, 1e300]), [1.5, None, None, None, 1e300]),
        (pa.array([True, False, None]), [True, False, None]),
        (pa.array(["a", None, "b"]).dictionary_encode(), ["a", None, "b"]),
        (pa.array(["é", "\x00\x1f\u2028"], pa.string_view()), ["é", "\x00\x1f\u2028"]),
        (pa.array([[1, 2], None, []]), [[1, 2], None, []]),
        (pa.array([{"a": 1}, None]), [{"a": 1}, None]),
        (pa.array([datetime.date(2008, 8, 8)]), ["2008-08-08"]),
        (pa.nulls(2), [None, None]),
        (
            pa.ExtensionArray.from_storage(pa.json_(pa.large_string()), pa.array(['{"a": 1.0}'], pa.large_string())),
            [{"a": 1.0}],
        ),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
def test_every_kind_of_column_is_json(array: pa.Array, expected: list[Any]) -> None:
    assert [json.loads(text) for text in as_json(array).to_pylist()] == expected
    assert [json.loads(text) for text in as_json(array.slice(1)).to_pylist()] == expected[1:]


@pytest.mark.parametrize("kind", sorted(OUTPUT_ENDINGS))
def test_every_kind_of_column_can_be_kept(kind: str) -> None:
    table = pa.table(
        {
            "d": pa.array(["a", None]).dictionary_encode(),
            "v": pa.array(["a", "b"], pa.string_view()),
            "l": [[1], None],
            "b": [b"x", None],
            "t": [datetime.datetime(2008, 8, 8), None],
            "f": pa.array([0.5, None], pa.float32()),
        }
    )
    file = io.BytesIO()
    write_batches(kind, file, table.schema, table.to_batches())
    assert len(file.getvalue()) > 20


def test_nothing_is_a_header_or_no_bytes() -> None:
    assert written("jsonl", SCHEMA) == b""
    assert written("csv", SCHEMA) == b"text,n,p,others,topics\n"
    assert pq.read_table(io.BytesIO(written("parquet", SCHEMA))).num_rows == 0
