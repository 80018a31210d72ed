"""The ``duanti`` command: what it prints where, and how it ends."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from duanti import Corpus, TopicModel
from duanti.cli import main


@pytest.fixture
def bundle(small_model: TopicModel, tmp_path: Path) -> str:
    small_model.save(tmp_path / "model" / "small")
    return str(tmp_path / "model" / "small")


@pytest.fixture
def article(tmp_path: Path) -> str:
    (tmp_path / "news.txt").write_text("股市大涨\n球队赢了比赛\n", encoding="utf-8")
    return str(tmp_path / "news.txt")


def ends_in_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> str:
    """Run the command, check exit code, empty stdout and a single line on stderr, and return that line."""
    assert main(arguments) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "Traceback" not in output.err
    return output.err


def test_predict_prints_json_lines_where_there_is_no_terminal(
    bundle: str, article: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", bundle, article]) == 0
    output = capsys.readouterr()
    assert [json.loads(line)["topic"] for line in output.out.splitlines()] == ["财经", "体育"]
    assert output.err == ""


def test_predict_prints_a_table_on_a_terminal(bundle: str, article: str) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "duanti.cli", "predict", bundle, article]
    subprocess.run(command, stdout=theirs, check=True, env={**os.environ, "COLUMNS": "120"})
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    assert "document" in shown
    assert "股市大涨" in shown
    assert "{" not in shown


def test_predict_writes_the_format_of_the_outputs_ending(bundle: str, article: str, tmp_path: Path) -> None:
    assert main(["predict", bundle, article, "-o", str(tmp_path / "out.csv"), "--top", "1"]) == 0
    assert (tmp_path / "out.csv").read_text(encoding="utf-8").startswith("document,paragraph,start,end,kind,topic")


def test_predict_reads_stdin(bundle: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stdin = io.TextIOWrapper(io.BytesIO("股市大涨\n".encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    assert main(["predict", bundle, "-"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["document"], row["topic"]) == ("-", "财经")


def test_evaluate_prints_one_object(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labelled = tmp_path / "gold.jsonl"
    labelled.write_text('{"text": "股市大涨", "topic": "财经"}\n{"text": "球队", "topic": "财经"}\n', encoding="utf-8")
    assert main(["evaluate", bundle, str(labelled), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["accuracy"] == 0.5
    assert report["rows"] == 2
    assert {"macro_f1", "topics"} <= set(report)
    assert main(["evaluate", bundle, str(labelled)]) == 0
    assert "0.5000" in capsys.readouterr().out


def test_inspect_shows_topics_provenance_and_terms(bundle: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", bundle, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts["topics"]) == {"财经", "体育", "教育"}
    assert facts["corpus"]["rows"] == 24
    assert len(facts["top_terms"]["财经"]) > 0
    assert main(["inspect", bundle]) == 0
    assert "SHA-256" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "\\ud800"}\n', "line 1: 'text' holds a lone surrogate"),
        (b'{"text": "a"}\n{"text": 1.5}\n', "line 2: 'text' is a number with a fraction, not a string"),
        (b'{"text": "a"}\n{"txt": "b"}\n', "line 2: no column 'text'; it has 'txt'. Did you mean 'txt'?"),
        (b"[1, 2]\n", "line 1: a list, not an object"),
    ],
)
def test_a_row_that_cannot_be_used_is_told_and_ends_a_strict_job(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    path, rejects = tmp_path / "bad.jsonl", tmp_path / "out.jsonl.rejects.jsonl"
    path.write_bytes(content)
    arguments = ["predict", bundle, str(path), "-o", str(tmp_path / "out.jsonl")]
    assert f"bad.jsonl, {message}" in ends_in_one_line(capsys, [*arguments, "--strict"], 1)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["bad.jsonl", "model"]
    n_rows = content.count(b"\n")
    said = ends_in_one_line(capsys, arguments, 0)
    assert f"{n_rows} rows read = {n_rows - 1} labelled + 1 rejected ({rejects})" in said
    assert message.partition(": ")[2] in json.loads(rejects.read_text(encoding="utf-8"))["reason"]
    assert main(["predict", bundle, str(path)]) == 0
    output = capsys.readouterr()
    assert output.out.count("\n") == n_rows - 1
    assert f"rejected: {path}, {message}" in output.err
    assert output.err.splitlines()[-1] == f"duanti: {n_rows} rows read = {n_rows - 1} labelled + 1 rejected"
    assert f"bad.jsonl, {message}" in main_says(capsys, ["predict", bundle, str(path), "--strict"], 1)


def main_says(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> str:
    """Run the command, check its exit code, and return the last line on stderr."""
    assert main(arguments) == code
    return capsys.readouterr().err.splitlines()[-1]


def test_kept_columns_and_the_report(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out, report = tmp_path / "t.jsonl", tmp_path / "o.jsonl", tmp_path / "r.json"
    table.write_text('{"text": "股市大涨", "id": {"a": 1}, "n": 7}\n', encoding="utf-8")
    options = ["--keep", "id", "--keep", "n", "--top", "1", "--report", str(report)]
    assert main(["predict", bundle, str(table), "-o", str(out), *options]) == 0
    row = json.loads(out.read_text(encoding="utf-8"))
    assert (row["id"], row["n"], row["topic"], row["alternatives"]) == ({"a": 1}, 7, "财经", [])
    assert json.loads(report.read_text(encoding="utf-8"))["topics"] == {"财经": {"rows": 1, "share": 1.0}}
    capsys.readouterr()
    keep = ["predict", bundle, str(table), "--keep"]
    assert "the output has a column of that name" in ends_in_one_line(capsys, [*keep, "topic"], 2)
    assert main([*keep, "x"]) == 0  # objects need not have every key
    assert json.loads(capsys.readouterr().out)["x"] is None


def test_the_output_format_is_asked_for_else_the_endings_else_the_inputs(bundle: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("text\n股市\n", encoding="utf-8")
    predict = ["predict", bundle, str(tmp_path / "in"), "-o"]
    assert main([*predict, str(tmp_path / "folder")]) == 0
    assert [path.name for path in (tmp_path / "folder").glob("[!.]*")] == ["a.csv"]
    assert main([*predict, str(tmp_path / "o.tsv")]) == 0
    assert "\t" in (tmp_path / "o.tsv").read_text(encoding="utf-8")
    assert main([*predict, str(tmp_path / "o.txt"), "--format", "jsonl"]) == 0
    assert (tmp_path / "o.txt").read_text(encoding="utf-8").startswith("{")


def test_a_missing_bundle_or_input_is_the_datas_fault(
    bundle: str, article: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no such bundle" in ends_in_one_line(capsys, ["predict", "nowhere", article], 1)
    assert "no such file" in ends_in_one_line(capsys, ["predict", bundle, "nowhere.txt"], 1)
    assert "no such file" in ends_in_one_line(capsys, ["evaluate", bundle, "nowhere.jsonl"], 1)


def test_an_empty_file_is_no_corpus_but_a_document_without_paragraphs(
    bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.txt").touch()
    (tmp_path / "empty.jsonl").touch()
    assert main(["predict", bundle, str(tmp_path / "empty.txt")]) == 0
    assert capsys.readouterr().out == ""
    assert "holds no rows" in ends_in_one_line(capsys, ["evaluate", bundle, str(tmp_path / "empty.jsonl")], 1)


def test_a_model_uri_without_a_store_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, article: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "no tracking store" in ends_in_one_line(capsys, ["predict", "models:/starter@champion", article], 1)
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize("arguments", [[], ["predict"], ["predict", "m", "--unit", "word"], ["label", "m"]])
def test_a_wrong_command_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: duanti" in capsys.readouterr().err


def test_an_output_without_a_format_ends_with_2(bundle: str, article: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot tell the format" in ends_in_one_line(capsys, ["predict", bundle, article, "-o", "x.doc"], 2)


def test_gb18030_is_detected_and_named(bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "old.txt").write_bytes("股市大涨，基金收益上升。".encode("gb18030"))
    assert main(["predict", bundle, str(tmp_path / "old.txt")]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["topic"] == "财经"
    assert "GB18030" in output.err


def test_a_reader_that_has_had_enough_is_no_fault(bundle: str, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("股市大涨\n" * 5000, encoding="utf-8")
    command = f"{sys.executable} -m duanti.cli predict {bundle} {tmp_path / 'long.txt'} | head -1"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert result.returncode == 0


def test_predicting_with_a_folder_imports_neither_scikit_learn_nor_mlflow(bundle: str, article: str) -> None:
    code = (
        "import sys; from duanti.cli import main; assert main(sys.argv[1:]) == 0\n"
        "heavy = {'sklearn', 'mlflow', 'pandas', 'pydantic', 'jieba'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "predict", bundle, article]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "[]"


def test_a_core_installation_predicts_and_tells_what_model_uris_need(bundle: str, article: str) -> None:
    """Only what `pip install duanti` brings: everything of the extra `train` is out of reach."""
    code = (
        "import sys\n"
        "train = 'pydantic yaml sklearn scipy mlflow jieba joblib threadpoolctl pandas'.split()\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in train:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in train else find(name, *a)\n"
        "from duanti.cli import main; sys.exit(main(sys.argv[1:]))"
    )

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)

    done = run("predict", bundle, article)
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line)["topic"] for line in done.stdout.splitlines()] == ["财经", "体育"]
    done = run("predict", "models:/starter@champion", article)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "needs mlflow. Install duanti[train]" in done.stderr
    done = run("check", article)
    assert (done.returncode, done.stdout) == (2, "")
    assert "needs scikit-learn. Install duanti[train]" in done.stderr


@pytest.fixture
def labelled(small_corpus: Corpus, tmp_path: Path) -> str:
    """The small corpus as a file, with a copy of its first row under another topic and a row without text."""
    rows = [
        *zip(small_corpus.texts, small_corpus.topics, strict=True),
        (small_corpus.texts[0], "体育"),
        ("", "体育"),
    ]
    lines = [json.dumps({"text": text, "topic": topic}, ensure_ascii=False) for text, topic in rows]
    (tmp_path / "labelled.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return str(tmp_path / "labelled.jsonl")


def test_check_prints_tables_one_object_or_json_lines(
    labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "findings.jsonl")
    assert main(["check", labelled, "--jobs", "1", "-o", output]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for word in ("label_error", "contradicting_topics", "labelled.jsonl, line 26", "out of fold"):
        assert word in shown.out
    findings = [json.loads(line) for line in Path(output).read_text(encoding="utf-8").splitlines()]
    assert {"unusable", "exact_duplicates", "contradicting_topics"} <= {finding["kind"] for finding in findings}
    assert main(["check", labelled, "--jobs", "1", "--json", "--top", "1"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["corpora"][0]["rows"] == 25
    assert facts["findings"]["unusable"]["count"] == 1
    assert facts["findings"]["unusable"]["first"][0]["line"] == 26
    assert sum(found["count"] for found in facts["findings"].values()) == len(findings)
    assert not list(tmp_path.glob(".findings*"))


def test_check_holds_a_test_set_against_the_training_set(labelled: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", labelled, "--against", labelled, "--jobs", "1", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["leakage"] == {"rows": 25, "exact": 25, "near": 25, "contradicting": 1, "documents": 0}
    assert facts["reliance"]["duplicated_rows"] == 25
    assert main(["check", labelled, "--against", labelled, "--jobs", "1"]) == 0
    assert "nearly the same, or the same" in capsys.readouterr().out


def test_what_check_cannot_use_is_one_line(labelled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in ends_in_one_line(capsys, ["check", "nowhere.jsonl"], 1)
    assert "no such file" in ends_in_one_line(capsys, ["check", labelled, "--against", "nowhere.jsonl"], 1)
    assert "no column 'label'" in ends_in_one_line(capsys, ["check", labelled, "--topic-column", "label"], 1)
    assert "Name another file" in ends_in_one_line(capsys, ["check", labelled, "-o", labelled], 2)
    unwritable = str(tmp_path / "nowhere" / "out.jsonl")
    assert "cannot be written" in ends_in_one_line(capsys, ["check", labelled, "--jobs", "1", "-o", unwritable], 1)
    with pytest.raises(SystemExit) as ended:
        main(["check", labelled, "--threshold", "0.2"])
    assert ended.value.code == 2
    assert "not a number from 0.5 to 1" in capsys.readouterr().err
