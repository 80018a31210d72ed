"""Corpora: one content in every format, every fault with its place, splits that keep documents whole."""

import csv
import gzip
import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duanti import Corpus, DataError, read_corpus
from duanti.corpus import decode, scan_corpus, string_fault

TOPICS = ("财经", "体育", "教育", "Science & 技术", "房产")
ROWS = [
    (f'第{number}段:{"股市大涨," * (number % 7 + 1)}"引号"与逗号,GDP增长{number}.5%😂', TOPICS[number % 5])
    for number in range(50)
]


def digest_of(rows: list[tuple[str, str]], documents: list[str | None] | None = None) -> str:
    texts, topics = zip(*rows, strict=True)
    return Corpus("by hand", texts, topics, documents or [None] * len(rows)).digest


def json_lines(rows: list[tuple[str, str]] = ROWS) -> str:
    return "".join(json.dumps({"text": t, "topic": c}, ensure_ascii=False) + "\n" for t, c in rows)


def write_json(path: Path) -> None:
    path.write_text(json_lines(), encoding="utf-8")


def write_json_with_bom(path: Path) -> None:
    path.write_text(json_lines(), encoding="utf-8-sig")


def write_json_with_windows_line_ends(path: Path) -> None:
    path.write_bytes(json_lines().replace("\n", "\r\n").encode())


def write_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(json_lines().encode()))


def write_zstandard(path: Path) -> None:
    path.write_bytes(pa.compress(json_lines().encode(), codec="zstd", asbytes=True))


def write_zstandard_stream(path: Path) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(json_lines().encode())


def write_table(path: Path, delimiter: str, encoding: str = "utf-8") -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([("topic", "text"), *((c, t) for t, c in ROWS)])


def write_csv(path: Path) -> None:
    write_table(path, ",")


def write_csv_as_excel_does(path: Path) -> None:
    write_table(path, ",", "utf-8-sig")


def write_tsv(path: Path) -> None:
    write_table(path, "\t")


def write_parquet(path: Path) -> None:
    texts, topics = zip(*ROWS, strict=True)
    pq.write_table(pa.table({"topic": topics, "text": texts, "other": range(50)}), path, row_group_size=7)


def write_parquet_with_dictionary(path: Path) -> None:
    texts, topics = zip(*ROWS, strict=True)
    columns = {"text": pa.array(texts, pa.large_string()), "topic": pa.array(topics).dictionary_encode()}
    pq.write_table(pa.table(columns), path)


WRITERS: list[tuple[str, Callable[[Path], None]]] = [
    ("rows.jsonl", write_json),
    ("rows.ndjson", write_json),
    ("rows.JSONL", write_json),
    ("bom.jsonl", write_json_with_bom),
    ("crlf.jsonl", write_json_with_windows_line_ends),
    ("rows.jsonl.gz", write_gzip),
    ("rows.jsonl.zst", write_zstandard),
    ("stream.jsonl.zst", write_zstandard_stream),
    ("rows.csv", write_csv),
    ("bom.csv", write_csv_as_excel_does),
    ("rows.tsv", write_tsv),
    ("rows.parquet", write_parquet),
    ("dictionary.parquet", write_parquet_with_dictionary),
]


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[name for name, _ in WRITERS])
def test_the_same_rows_are_the_same_corpus_in_every_format(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / name)
    corpus = read_corpus(tmp_path / name)
    assert list(zip(corpus.texts, corpus.topics, strict=True)) == ROWS
    assert corpus.documents == [None] * 50
    assert corpus.digest == digest_of(ROWS)


def spaceless(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What formats can hold that have no space in a topic."""
    return [(text, topic.replace(" ", "")) for text, topic in rows]


@pytest.mark.parametrize("name", ["rows.txt", "rows.fasttext", "rows.txt.gz"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_fasttext_lines_are_a_corpus(name: str, line_end: str, tmp_path: Path) -> None:
    content = "".join(f"__label__{topic} {text}{line_end}" for text, topic in spaceless(ROWS)).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    corpus = read_corpus(tmp_path / name, text="内容", topic="类别")
    assert corpus.digest == digest_of(spaceless(ROWS))


def test_a_folder_per_topic_is_a_corpus(tmp_path: Path) -> None:
    for number, (text, topic) in enumerate(ROWS):
        (tmp_path / topic).mkdir(exist_ok=True)
        (tmp_path / topic / f"{number}.txt").write_text(text + "\n" * (number % 2), encoding="utf-8")
    (tmp_path / ".DS_Store").touch()
    corpus = read_corpus(tmp_path)
    assert corpus.digest == digest_of(ROWS)
    assert corpus.name == tmp_path.name


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.tsv"])
@pytest.mark.parametrize("encoding", [None, "gb18030"])
def test_gb18030_is_read_declared_or_detected(
    name: str, encoding: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / name
    if name.endswith(".jsonl"):
        path.write_text(json_lines(), encoding="gb18030")
    else:
        write_table(path, "," if name.endswith(".csv") else "\t", "gb18030")
    with caplog.at_level(logging.WARNING):
        assert read_corpus(path, encoding=encoding).digest == digest_of(ROWS)
    warnings = [record.getMessage() for record in caplog.records]
    if encoding:
        assert warnings == []
    else:
        assert len(warnings) == 1
        assert "GB18030" in warnings[0]
        assert str(path) in warnings[0]


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff")))
def test_what_is_encoded_is_decoded(text: str) -> None:
    assert decode(text.encode(), "here") == text
    assert decode(text.encode("gb18030"), "here", "gb18030") == text


@pytest.mark.parametrize("encoding", [None, "utf-8", "utf-8-sig", "gb18030", "utf-16-le"])
def test_a_byte_order_mark_is_not_part_of_the_text(encoding: str | None) -> None:
    data = "\ufeff股市大涨".encode((encoding or "utf-8").removesuffix("-sig"))
    assert decode(data, "here", encoding) == "股市大涨"


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)), min_size=1))
def test_any_text_survives_json_lines(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str]]) -> None:
    path = tmp_path_factory.mktemp("any") / "rows.jsonl"
    expected = [f"会{text}" for (text,) in rows]
    path.write_text(json_lines([(text, "财经") for text in expected]), encoding="utf-8", newline="")
    assert read_corpus(path).texts == expected


def test_the_digest_is_of_texts_topics_and_documents() -> None:
    rows, documents = ROWS[:4], ["a", "a", "b", None]
    digest = digest_of(rows, documents)
    assert digest == digest_of(list(rows), list(documents))
    assert digest != digest_of([("另一段", rows[0][1]), *rows[1:]], documents)
    assert digest != digest_of([(rows[0][0], "另一类"), *rows[1:]], documents)
    assert digest != digest_of([rows[1], rows[0], *rows[2:]], documents)
    assert digest != digest_of(rows[:3], documents[:3])
    assert digest != digest_of(rows, ["a", "b", "b", None])
    assert digest_of([("甲", "乙丙")]) != digest_of([("丙甲", "乙")])


def test_the_digest_does_not_mind_the_order_of_documents() -> None:
    rows, documents = ROWS[:6], ["a", "a", "b", "b", None, None]
    order = [5, 2, 3, 0, 4, 1]
    assert digest_of([rows[i] for i in order], [documents[i] for i in order]) == digest_of(rows, documents)


def one_line(text: str) -> bool:
    return "\n" not in text


BROKEN: list[tuple[str, bytes, list[str]]] = [
    ("rows.doc", b"x", ["cannot tell its format", ".jsonl"]),
    ("rows", b"x", ["cannot tell its format"]),
    ("empty.jsonl", b"", ["holds no rows"]),
    ("empty.csv", b"", ["holds no rows"]),
    ("header.csv", b"text,topic\n", ["holds no rows"]),
    ("blank.jsonl", b'{"text": "a", "topic": "b"}\n{"text": " ", "topic": "b"}\n', ["line 2", "'text' is empty"]),
    ("null.jsonl", b'{"text": null, "topic": "b"}\n', ["line 1", "'text' is empty"]),
    ("topicless.jsonl", b'\n{"text": "a", "topic": ""}\n', ["line 2", "'topic' is empty"]),
    ("column.jsonl", b'{"texts": "a", "topic": "b"}\n', ["line 1", "no column 'text'", "Did you mean 'texts'?"]),
    ("column.csv", b"texts,topic\na,b\n", ["line 1", "no column 'text'", "Did you mean 'texts'?"]),
    ("far.csv", b"a,b\nc,d\n", ["line 1", "no column 'text'; it has 'a', 'b'."]),
    ("later.jsonl", b'{"text": "a", "topic": "b"}\n{"text": "a"}\n', ["line 2", "no column 'topic'"]),
    ("bytes.jsonl", '{"text": "会议", "topic": "b"}\n'.encode() * 2 + b'{"\xff', ["line 3", "0xff", "UTF-8"]),
    ("cut.csv", "text,topic\n国务院召开会议".encode()[:-1], ["line 2", "0xe8", "UTF-8"]),
    ("nul.csv", b"text,topic\na,b\na\0,b\n", ["line 3", "NUL"]),
    ("nul.jsonl", b'{"text": "a\\u0000", "topic": "b"}\n', ["line 1", "'text' holds a NUL"]),
    ("surrogate.jsonl", b'\n\n{"text": "\\ud83d", "topic": "b"}\n', ["line 3", "lone surrogate"]),
    ("cut.jsonl.gz", gzip.compress(json_lines().encode())[:-20], ["damaged or cut short"]),
    ("not.jsonl.gz", b"plain text", ["damaged or cut short"]),
    ("not.jsonl.zst", b"plain text", ["cannot be read"]),
    ("cut.jsonl.zst", pa.compress(json_lines().encode(), codec="zstd", asbytes=True)[:-20], ["Truncated"]),
    ("not.parquet", b"plain text", ["not a sound Parquet file"]),
    ("empty.parquet", b"", ["not a sound Parquet file"]),
    ("array.jsonl", b'["a", "b"]\n', ["line 1", "a list, not an object"]),
    ("number.jsonl", b"1\n", ["line 1", "not an object"]),
    ("syntax.jsonl", b'{"text": "a", "topic": "b"}\n{"text": "a",\n', ["line 2", "not valid JSON"]),
    ("deep.jsonl", b"[" * 100_000, ["line 1", "not valid JSON"]),
    ("long.jsonl", b'{"text": ' + b"1" * 5000 + b', "topic": "b"}', ["line 1", "not valid JSON"]),
    ("type.jsonl", b'{"text": ["a"], "topic": "b"}\n', ["line 1", "'text' is a list, not a string"]),
    ("float.jsonl", b'{"text": "a", "topic": 1.5}\n', ["line 1", "'topic' is a number with a fraction"]),
    ("bool.jsonl", b'{"text": "a", "topic": true}\n', ["line 1", "'topic' is true or false"]),
    ("quote.csv", b'text,topic\na,b\n"a,b\nc,d\n', ["line 3", "not valid CSV"]),
    ("cells.csv", b"text,topic\na,b\na,b,c\n", ["line 3", "3 cells where the header has 2"]),
    ("spread.csv", b'text,topic\n"a\nb",c\na\n', ["line 4", "1 cells where the header has 2"]),
    ("cells.tsv", b"text\ttopic\na\n", ["line 2", "1 cells where the header has 2"]),
    ("labels.txt", b"__label__a x\n__label__a __label__b x\n", ["line 2", "more than one topic"]),
    ("labelless.txt", b"__label__a x\nx\n", ["line 2", "does not begin with __label__"]),
    ("textless.txt", b"__label__a\n", ["line 1", "'text' is empty"]),
]


@pytest.mark.parametrize(("name", "content", "said"), BROKEN, ids=[name for name, _, _ in BROKEN])
def test_a_fault_is_told_in_one_line_with_its_place(name: str, content: bytes, said: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as fault:
        read_corpus(tmp_path / name)
    message = str(fault.value)
    assert message.startswith(str(tmp_path / name))
    assert [words for words in said if words not in message] == []
    assert one_line(message)


def test_a_missing_file_is_told() -> None:
    for name in ("nowhere.jsonl", "nowhere.csv", "nowhere.parquet", "nowhere.txt.gz"):
        with pytest.raises(DataError, match=f"^{name}: no such file"):
            read_corpus(name)


def test_a_parquet_file_cut_short_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    write_parquet(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="not a sound Parquet file") as fault:
        read_corpus(path)
    assert one_line(str(fault.value))


def test_a_parquet_column_and_cell_are_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"txet": ["a"], "topic": ["b"]}), path)
    with pytest.raises(DataError, match=r"no column 'text'.* Did you mean 'txet'"):
        read_corpus(path)
    pq.write_table(pa.table({"text": ["a", None], "topic": ["b", "b"]}), path)
    with pytest.raises(DataError, match="row 1: 'text' is empty"):
        read_corpus(path)


def test_invalid_utf8_inside_parquet_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    broken = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    pq.write_table(pa.table({"text": broken, "topic": ["b"]}), path)
    with pytest.raises(DataError, match="not a sound Parquet file") as fault:
        read_corpus(path)
    assert one_line(str(fault.value))


def test_what_does_not_belong_into_a_folder_per_topic_is_told(tmp_path: Path) -> None:
    (tmp_path / "财经").mkdir()
    (tmp_path / "财经" / "1.txt").write_text("股市大涨", encoding="utf-8")
    stray = tmp_path / "说明.txt"
    stray.touch()
    with pytest.raises(DataError, match="a file between the topic folders"):
        read_corpus(tmp_path)
    stray.rename(tmp_path / "财经" / "rows.csv")
    with pytest.raises(DataError, match=r"rows\.csv: not a \.txt file"):
        read_corpus(tmp_path)
    (tmp_path / "财经" / "rows.csv").rename(tmp_path / "财经" / "2.txt")
    with pytest.raises(DataError, match=r"2\.txt: 'text' is empty"):
        read_corpus(tmp_path)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no rows"):
        read_corpus(tmp_path)


def test_an_unknown_encoding_is_told(tmp_path: Path) -> None:
    write_json(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="unknown encoding 'gbk18030'"):
        read_corpus(tmp_path / "rows.jsonl", encoding="gbk18030")


@pytest.mark.parametrize("encoding", ["base64", "rot13", "hex"])
def test_a_codec_that_is_no_text_encoding_is_told(encoding: str, tmp_path: Path) -> None:
    write_json(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match="unknown encoding"):
        read_corpus(tmp_path / "rows.jsonl", encoding=encoding)


def test_bytes_that_the_declared_encoding_lacks_are_told_with_their_line(tmp_path: Path) -> None:
    write_json(tmp_path / "rows.jsonl")
    with pytest.raises(DataError, match=r"line 1: byte 0x.. is not valid ascii"):
        read_corpus(tmp_path / "rows.jsonl", encoding="ascii")


def test_a_single_bad_byte_does_not_make_utf8_into_gb18030() -> None:
    content = ("国务院召开会议。\n" * 100).encode()
    with pytest.raises(DataError, match="here, line 51: byte 0xff is not valid UTF-8"):
        decode(content[:1250] + b"\xff\xff" + content[1250:], "here")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.txt"])
def test_a_line_of_a_million_characters_is_read(name: str, tmp_path: Path) -> None:
    text = "会" * 1_000_000
    content = {
        "rows.jsonl": json_lines([(text, "财经")]),
        "rows.csv": f"text,topic\n{text},财经\n",
        "rows.txt": f"__label__财经 {text}\n",
    }[name]
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_corpus(tmp_path / name).texts == [text]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c", "\r"])
def test_only_a_line_feed_ends_a_line(mark: str, tmp_path: Path) -> None:
    text = f"股市{mark}大涨"
    path = tmp_path / "rows.jsonl"
    path.write_bytes((json.dumps({"text": text, "topic": "财经"}, ensure_ascii=mark < " ") + "\n").encode())
    assert read_corpus(path).texts == [text]
    if mark != "\r":
        (tmp_path / "rows.txt").write_bytes(f"__label__财经 {text}\n".encode())
        assert read_corpus(tmp_path / "rows.txt").texts == [text]


def test_a_quoted_csv_cell_keeps_its_line_ends(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes('text,topic\r\n"股市\r\n大涨",财经\r\n'.encode())
    assert read_corpus(tmp_path / "rows.csv").texts == ["股市\r\n大涨"]


def test_whole_numbers_are_read_as_their_digits(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "topic": 103, "document": 7}\n', encoding="utf-8")
    corpus = read_corpus(tmp_path / "rows.jsonl")
    assert (corpus.topics, corpus.documents) == (["103"], ["7"])
    pq.write_table(pa.table({"text": ["a"], "topic": [103], "document": [7]}), tmp_path / "rows.parquet")
    assert read_corpus(tmp_path / "rows.parquet").digest == corpus.digest
    (tmp_path / "rows.csv").write_text("text,topic,document\na,103,7\n", encoding="utf-8")
    assert read_corpus(tmp_path / "rows.csv").digest == corpus.digest


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("内容,类别,篇\n股市大涨,财经,a\n基金,财经,\n", encoding="utf-8")
    corpus = read_corpus(path, text="内容", topic="类别", document="篇")
    assert (corpus.texts, corpus.topics, corpus.documents) == (["股市大涨", "基金"], ["财经", "财经"], ["a", None])


def test_nothing_but_strings_and_whole_numbers_is_a_string() -> None:
    assert string_fault("text", None) is None
    assert string_fault("text", -3) is None
    assert string_fault("text", {}) == "'text' is an object, not a string"


def test_topics_are_counted_in_code_point_order() -> None:
    corpus = Corpus("c", ["x"] * 4, ["b", "a", "b", "B"], [None] * 4)
    assert list(corpus.topic_counts.items()) == [("B", 1), ("a", 1), ("b", 2)]
    assert len(corpus) == 4


def test_rows_of_a_document_have_its_number() -> None:
    corpus = Corpus("c", ["x"] * 6, ["t"] * 6, ["a", None, "b", "a", None, "b"])
    assert corpus.groups == [0, 1, 2, 0, 3, 2]


def test_selecting_keeps_the_order_given() -> None:
    corpus = Corpus("c", ["x", "y", "z"], ["1", "2", "3"], ["a", None, "a"])
    assert corpus.select(iter([2, 0])) == Corpus("c", ["z", "x"], ["3", "1"], ["a", "a"])


def paragraphs_of_documents(n_documents: int = 120) -> Corpus:
    """Documents of one to four paragraphs; each is about one of five topics, the first of them the commonest."""
    shape = [(number, TOPICS[min(number % 8, 4)]) for number in range(n_documents) for _ in range(number % 4 + 1)]
    texts = [f"第{row}段" for row in range(len(shape))]
    return Corpus("documents", texts, [topic for _, topic in shape], [f"d{number}" for number, _ in shape])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_split_keeps_documents_whole_and_topics_in_proportion(share: float, seed: int) -> None:
    corpus = paragraphs_of_documents()
    remains, held_out = corpus.split(share, seed)
    assert sorted([*remains.texts, *held_out.texts]) == sorted(corpus.texts)
    assert not set(remains.documents) & set(held_out.documents)
    for topic, count in corpus.topic_counts.items():
        assert abs(held_out.topic_counts[topic] - share * count) <= 4  # as long as the longest document


@given(st.lists(st.tuples(st.sampled_from(TOPICS), st.none() | st.sampled_from("abcdef")), min_size=1), st.data())
def test_any_corpus_is_dealt_by_whole_documents(rows: list[tuple[str, str | None]], data: st.DataObject) -> None:
    corpus = Corpus("any", ["会"] * len(rows), [topic for topic, _ in rows], [document for _, document in rows])
    n_folds = data.draw(st.integers(2, 5))
    folds = corpus.folds(n_folds, data.draw(st.integers(0, 3)))
    assert len({(group, fold) for group, fold in zip(corpus.groups, folds, strict=True)}) == len(set(corpus.groups))
    assert set(folds) <= set(range(n_folds))


def test_a_split_follows_from_its_seed() -> None:
    corpus = paragraphs_of_documents()
    assert corpus.split(0.2, seed=1) == corpus.split(0.2, seed=1)
    assert corpus.split(0.2, seed=1) != corpus.split(0.2, seed=2)


def test_a_split_that_leaves_a_side_empty_is_told() -> None:
    corpus = Corpus("one", ["x"] * 3, ["a", "b", "a"], ["d"] * 3)
    with pytest.raises(DataError, match=r"holding out 0\.5 of 1 documents leaves one side empty"):
        corpus.split(0.5, seed=0)


@pytest.mark.parametrize("seed", range(5))
def test_folds_keep_documents_whole_and_are_balanced(seed: int) -> None:
    corpus = paragraphs_of_documents()
    folds = corpus.folds(5, seed)
    assert len(set(zip(corpus.documents, folds, strict=True))) == len(set(corpus.documents))
    sizes = Counter(folds)
    assert max(sizes.values()) - min(sizes.values()) <= 8
    for topic, count in corpus.topic_counts.items():
        held = Counter(fold for fold, row_topic in zip(folds, corpus.topics, strict=True) if row_topic == topic)
        assert all(abs(held[fold] - count / 5) <= 4 for fold in range(5))


@pytest.mark.parametrize("seed", range(5))
def test_copies_stand_in_one_fold_and_on_one_side(seed: int) -> None:
    texts = [f"text {number % 40}" for number in range(120)]
    documents = [None if number < 80 else f"d{number % 7}" for number in range(120)]
    corpus = Corpus("copies", texts, ["甲", "乙", "丙"] * 40, documents)
    folds = corpus.folds(5, seed)
    of_copies = {(text, fold) for text, fold in zip(texts[:80], folds[:80], strict=True)}
    assert len(of_copies) == 40
    assert len(set(folds)) == 5
    apart = corpus.folds(5, seed, copies_together=False)
    assert len({(text, fold) for text, fold in zip(texts[:80], apart[:80], strict=True)}) > 40
    alone = Corpus("alone", texts[:80], corpus.topics[:80], [None] * 80)
    remains, held_out = alone.split(0.3, seed)
    assert not set(remains.texts) & set(held_out.texts)
    assert len(set(alone.groups)) == 80


@pytest.mark.parametrize("seed", range(5))
def test_short_documents_make_up_for_a_long_one(seed: int) -> None:
    documents = [None] * 10 + ["long"] * 10
    folds = Corpus("uneven", [f"x{row}" for row in range(20)], ["财经"] * 20, documents).folds(2, seed)
    assert len(set(folds[10:])) == 1
    assert Counter(folds) == {0: 10, 1: 10}


def test_folds_of_the_small_corpus_are_balanced(small_corpus: Corpus) -> None:
    folds = small_corpus.folds(4, seed=0)
    assert Counter(folds) == dict.fromkeys(range(4), 6)
    assert Counter(zip(folds, small_corpus.topics, strict=True)) == {
        (fold, topic): 2 for fold in range(4) for topic in small_corpus.topic_counts
    }
    documents = [pair for pair in zip(small_corpus.documents, folds, strict=True) if pair[0] is not None]
    assert len(documents) == 2 * len(set(documents))


def test_real_statutes_are_split_by_statute(corpora: Path) -> None:
    corpus = read_corpus(corpora / "law_chapters" / "dev.jsonl.gz")
    remains, held_out = corpus.split(0.2, seed=0)
    assert not set(remains.documents) & set(held_out.documents)
    assert len(held_out) / len(corpus) == pytest.approx(0.2, abs=0.02)


BAD_JSON = [
    b'{"text": "a", "topic": "A", "document": "d"}',
    b'{"text": "", "topic": "A"}',
    b"",
    b'{"text": "b", "topic": null}',
    b"{not json",
    b"[1]",
    b'{"text": "c"}',
    b'{"text": "d\\u0000", "topic": "A"}',
    b'{"text": "\\ud800", "topic": "A"}',
    b'{"text": 1.5, "topic": "A"}',
    '{"text": "股市'.encode() + b'\xff", "topic": "A"}',
    '{"text": "股市", "topic": "A"}'.encode(),
]


def test_a_scan_tells_every_fault_and_keeps_the_other_rows(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"\n".join(BAD_JSON))
    scan = scan_corpus(path)
    assert list(zip(scan.corpus.texts, scan.corpus.documents, strict=True)) == [("a", "d"), ("股市", None)]
    assert scan.places == [f"{path}, line 1", f"{path}, line 12"]
    assert [fault.place for fault in scan.faults] == [f"{path}, line {n}" for n in (2, 4, 5, 6, 7, 8, 9, 10, 11)]
    assert [fault.what for fault in scan.faults][-4:] == [
        "'text' holds a NUL character.",
        "'text' holds a lone surrogate, which is no character.",
        "'text' is a number with a fraction, not a string.",
        "'text' holds bytes that are no text.",
    ]


@pytest.mark.parametrize("line", [line for line in BAD_JSON[1:-1] if line])
def test_what_a_scan_tells_of_a_row_is_what_reading_stops_at(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(BAD_JSON[0] + b"\n" + line)
    [fault] = scan_corpus(path).faults
    with pytest.raises(DataError) as caught:
        read_corpus(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    if b"\xff" not in line:
        assert str(caught.value) == f"{fault.place}: {fault.what}"


@pytest.mark.parametrize(
    ("name", "content", "faulty"),
    [
        ("a.csv", b"text,topic\na,A\nb,B,3\n\xff,A\nc,\nd,D\n", [3, 4, 5]),
        ("a.tsv", b'text\ttopic\na\tA\nd\tD\n"open\tB\n', [4]),
        (
            "a.txt",
            "__label__A a\n股市\n__label__B __label__C b\n__label__D d\n".encode("gb18030") + b"\xff\n",
            [2, 3, 5],
        ),
    ],
)
def test_other_formats_are_scanned_too(name: str, content: bytes, faulty: list[int], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    scan = scan_corpus(path)
    assert (scan.corpus.texts, scan.corpus.topics) == (["a", "d"], ["A", "D"])
    assert [fault.place for fault in scan.faults] == [f"{path}, line {line}" for line in faulty]


def test_a_folder_is_scanned_too(tmp_path: Path) -> None:
    (tmp_path / "财经").mkdir()
    (tmp_path / "财经" / "1.txt").write_text("股市", encoding="utf-8")
    (tmp_path / "财经" / "2.txt").write_bytes("基金".encode() + b"\xff")
    (tmp_path / "财经" / "3.doc").touch()
    (tmp_path / "财经" / "4.txt.gz").write_bytes(b"no gzip")
    (tmp_path / "README.md").touch()
    scan = scan_corpus(tmp_path)
    assert scan.places == [str(tmp_path / "财经" / "1.txt")]
    assert [Path(fault.place).name for fault in scan.faults] == ["README.md", "2.txt", "3.doc", "4.txt.gz"]


def test_a_scan_of_nothing_that_can_be_used_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"txt": "a", "topic": "A"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: no column 'text'; it has 'txt', 'topic'\. Did you mean 'txt'"):
        scan_corpus(path)
    path.touch()
    with pytest.raises(DataError, match="unknown encoding 'utf-9'"):
        scan_corpus(path, encoding="utf-9")


@pytest.mark.parametrize(("name", "write"), WRITERS, ids=[name for name, _ in WRITERS])
def test_a_scan_of_a_sound_corpus_is_that_corpus(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path / name)
    scan = scan_corpus(tmp_path / name)
    assert scan.corpus == read_corpus(tmp_path / name)
    assert len(set(scan.places)) == 50
    assert scan.faults == []
