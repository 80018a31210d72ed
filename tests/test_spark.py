"""Spark: the parts of the local engine, byte for byte, and the rows of predict for frames."""

import gzip
import json
import os
import re
import shutil
import signal
import socketserver
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duanti import BundleError, DataError, TopicModel, UsageError
from duanti.bundle import bundle_digest
from duanti.cli import main
from duanti.jobs import Account, run_job
from duanti.predict import SCHEMA, PredictOptions, label_texts
from duanti.progress import Progress
from test_jobs import files, job, small_disk, start, texts_of, write_table

pyspark = pytest.importorskip("pyspark", reason="pyspark is not installed")
if shutil.which(f"{os.environ['JAVA_HOME']}/bin/java" if "JAVA_HOME" in os.environ else "java") is None:
    pytest.skip("Spark needs Java, and there is none here", allow_module_level=True)

from duanti.spark import _hush_mail, predict_frame, run_job_on_spark  # noqa: E402 - needs pyspark

TEXTS = ["股市大涨\n球队赢了比赛\n责任编辑：张三", "", "学校开学", None, "ZZZ", "基金\n高考"]


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """A session on two cores, which the command uses too."""
    from pyspark.sql import SparkSession

    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.ui.showConsoleProgress", "false")
    session = builder.config("spark.sql.shuffle.partitions", "3").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def bundle(small_model: TopicModel, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "small"
    small_model.save(folder)
    return str(folder)


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    for number in range(4):
        write_table(tmp_path / "in" / f"{number}.jsonl", texts_of(number, 50), broken=number == 2)
    (tmp_path / "in" / "sub").mkdir()
    (tmp_path / "in" / "sub" / "news.txt").write_text("股市大涨\n球队赢了", encoding="utf-8")
    (tmp_path / "in" / "sub" / "bad.txt").write_bytes(b"\xff\xfe\xff")
    return tmp_path / "in"


def run(bundle: str, inputs: list[Path], output: Path, **settings: Any) -> Account:
    task = job(inputs, output, bundle=bundle_digest(bundle), **settings)
    return run_job_on_spark(bundle, task, Progress(None))


def says(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int) -> str:
    """The one line that a command ends with."""
    assert main(["predict", *arguments]) == code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_the_parts_are_those_of_the_local_engine(
    spark: Any, small_model: TopicModel, bundle: str, inputs: Path, tmp_path: Path, kind: str
) -> None:
    progress, digest = Progress(None), bundle_digest(bundle)
    for folder in ("local", "spark"):
        (tmp_path / folder).mkdir()
    task = job([inputs], tmp_path / "spark" / "out", kind=kind, bundle=digest)
    account = run_job_on_spark(bundle, task, progress)
    task = job([inputs], tmp_path / "local" / "out", kind=kind, bundle=digest)
    expected = run_job(small_model, task, Progress(None))
    assert files(tmp_path / "spark") == files(tmp_path / "local")
    assert len(files(tmp_path / "spark")) == 7  # six parts and the rejects
    assert (account.rows, account.rejected) == (203, 2)
    assert {**account.as_report(), "seconds": 0} == {**expected.as_report(), "seconds": 0}
    assert progress.rows == 203
    assert not (tmp_path / "spark" / "out" / ".duanti" / "new").exists()


def test_either_engine_goes_on_where_the_other_stopped(
    spark: Any, small_model: TopicModel, bundle: str, inputs: Path, tmp_path: Path
) -> None:
    run(bundle, [inputs], tmp_path / "out")
    before = files(tmp_path / "out")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jsonl")}
    (tmp_path / "out" / "1.jsonl").unlink()
    (tmp_path / "out" / "sub" / "news.jsonl").write_bytes(b"{")
    assert run(bundle, [inputs], tmp_path / "out").rows == 203
    assert files(tmp_path / "out") == before
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jsonl")}
    assert {name for name in times if times[name] != after[name]} == {"1.jsonl", "news.jsonl", "ledger.jsonl"} | {
        name for name in times if name.startswith(("1.jsonl.", "news.jsonl."))
    }
    (tmp_path / "out" / "0.jsonl").unlink()
    run_job(small_model, job([inputs], tmp_path / "out", bundle=bundle_digest(bundle)), Progress(None))
    assert files(tmp_path / "out") == before


def test_another_job_or_a_changed_input_is_refused(spark: Any, bundle: str, inputs: Path, tmp_path: Path) -> None:
    run(bundle, [inputs], tmp_path / "out")
    with pytest.raises(DataError, match="begun with another top"):
        run(bundle, [inputs], tmp_path / "out", top=2)
    write_table(inputs / "1.jsonl", texts_of(9, 50))
    with pytest.raises(DataError, match=r"1.jsonl: has changed since its part was written"):
        run(bundle, [inputs], tmp_path / "out")


def test_the_command_says_one_line_whatever_happens(
    spark: Any,
    bundle: str,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)  # places are told as they were given
    command = [bundle, "in", "--engine", "spark", "--keep", "id"]
    (inputs / "sub" / "news.txt").unlink()
    (inputs / "sub" / "bad.txt").unlink()
    assert "in/2.jsonl, line 26: not valid JSON" in says(capsys, [*command, "-o", "strict", "--strict"], 1)
    assert "2.jsonl" not in files(tmp_path / "strict")
    said = says(capsys, [*command, "-o", "out", "--report", "report.json"], 0)
    assert "201 rows read = 200 labelled + 1 rejected (out.rejects.jsonl)" in said
    assert json.loads(Path("report.json").read_text(encoding="utf-8"))["rows"]["read"] == 201
    assert json.loads(Path("out.rejects.jsonl").read_text(encoding="utf-8"))["file"] == "in/2.jsonl"
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b"x" * 1000)[:-9])
    said = says(capsys, [bundle, "cut.jsonl.gz", "--engine", "spark", "-o", "none"], 1)
    assert said.startswith("duanti: cut.jsonl.gz: damaged or cut short")


def test_a_warning_reaches_the_driver(
    spark: Any, bundle: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.txt").write_bytes("股市大涨".encode("gb18030"))
    assert main(["predict", bundle, str(tmp_path / "old.txt"), "--engine", "spark", "-o", str(tmp_path / "out")]) == 0
    assert "old.txt: not UTF-8, read as GB18030" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_the_job_goes_on_when_there_is_room(
    spark: Any, bundle: str, small_model: TopicModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        write_table(tmp_path / "in" / f"{number}.jsonl", texts_of(number, 12_000))
    command = [bundle, str(tmp_path / "in"), "--engine", "spark", "-o", str(tmp_path / "disk" / "out")]
    with small_disk(tmp_path / "disk"):
        assert "cannot be written (No space left on device)" in says(capsys, command, 1)
        subprocess.run(["mount", "-o", "remount,size=100m", str(tmp_path / "disk")], check=True)
        assert "36,000 rows read = 36,000 labelled + 0 rejected" in says(capsys, command, 0)
        run_job(small_model, job([tmp_path / "in"], tmp_path / "out", bundle=bundle_digest(bundle)), Progress(None))
        assert files(tmp_path / "disk" / "out") == files(tmp_path / "out")


def test_what_spark_cannot_do_is_refused(
    bundle: str, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, out = str(inputs / "0.jsonl"), str(tmp_path / "out")
    folder = "writes a folder of parts"
    for arguments, message in (
        ([table, "--engine", "spark"], folder),
        ([table, "--engine", "spark", "-o", f"{out}.jsonl"], folder),
        ([table, "--engine", "spark", "-o", "/dev/null"], folder),
        ([table, "--engine", "spark", "-o", out, "--format", "table"], "--format table is for the terminal"),
        (["-", "--engine", "spark", "-o", out], "can be read but once"),
        ([table, "--master", "local", "-o", out], "--master is for --engine spark"),
    ):
        assert message in says(capsys, [bundle, *arguments], 2)
    assert not Path(out).exists()


def test_without_spark_or_java_the_remedy_is_told(bundle: str, inputs: Path, tmp_path: Path) -> None:
    command = ["predict", bundle, str(inputs / "0.jsonl"), "--engine", "spark", "-o", str(tmp_path / "out")]
    hide = "import sys; sys.modules['pyspark'] = None; from duanti.cli import main; sys.exit(main())"
    for program, environment, message in (
        (["-c", hide], {}, "Install duanti[spark]"),
        (["-m", "duanti.cli"], {"JAVA_HOME": str(tmp_path)}, "Spark needs Java 17 or later, and JAVA_HOME"),
    ):
        done = subprocess.run(
            [sys.executable, *program, *command], env={**os.environ, **environment}, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert message in done.stderr


# Processes: the command with a session of its own


def on_spark(bundle: str, inputs: Path, output: Path, *arguments: str) -> "subprocess.Popen[str]":
    arguments = (bundle, str(inputs), "-o", str(output), "--engine", "spark", "--master", "local[2]", *arguments)
    return start(*arguments, start_new_session=True)


def test_nothing_of_spark_is_heard(bundle: str, inputs: Path, tmp_path: Path) -> None:
    process = on_spark(bundle, inputs, tmp_path / "out", "--strict")
    printed, said = process.communicate(timeout=120)
    assert (process.returncode, printed, said.count("\n")) == (1, "", 1), said
    assert re.match(r"duanti: \S+/(2.jsonl, line 26: not valid JSON|sub/bad.txt)", said)
    assert "Setting default log level" in (tmp_path / "out" / ".duanti" / "spark.log").read_text(encoding="utf-8")


@pytest.mark.long
def test_executors_of_their_own_do_the_same(
    bundle: str, small_model: TopicModel, inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Executors have another working folder, and get the bundle over the network.
    home = tmp_path / "home"
    home.mkdir()
    for path in Path(pyspark.__file__).parent.iterdir():
        (home / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPARK_HOME", str(home))
    process = on_spark(os.path.relpath(bundle), Path("in"), Path("out"), "--master", "local-cluster[2,1,1024]")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "203 rows read = 201 labelled + 2 rejected (out.rejects.jsonl)" in said
    assert list(home.glob("work/*/*/duanti-*/manifest.json"))
    (tmp_path / "local").mkdir()
    task = job([Path("in")], tmp_path / "local" / "out", bundle=bundle_digest(bundle))
    run_job(small_model, task, Progress(None))
    assert files(tmp_path / "out") == files(tmp_path / "local" / "out")
    assert Path("out.rejects.jsonl").read_bytes() == Path("local/out.rejects.jsonl").read_bytes()


def test_a_master_that_makes_no_sense_is_one_line(bundle: str, inputs: Path, tmp_path: Path) -> None:
    process = on_spark(bundle, inputs, tmp_path / "out", "--master", "nowhere")
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said.count("\n")) == (2, 1), said
    assert re.match(r"duanti: Spark did not start \(.*Master must.*\). \S+spark.log tells more.", said)


def many_inputs(tmp_path: Path) -> Path:
    for number in range(12):
        write_table(tmp_path / "in" / f"{number:02}.jsonl", texts_of(number, 20_000), broken=number % 5 == 0)
    return tmp_path / "in"


def wait_for_parts(process: "subprocess.Popen[str]", out: Path, before: int) -> None:
    for _ in range(2400):
        assert process.poll() is None
        if len(list(out.glob("*.jsonl"))) > before + 1:
            return
        time.sleep(0.05)
    raise AssertionError("waited for two minutes")


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["java", pytest.param("driver", marks=pytest.mark.long)])
def test_a_job_that_was_interrupted_and_then_killed_goes_on(
    bundle: str, small_model: TopicModel, tmp_path: Path, victim: str
) -> None:
    inputs, out = many_inputs(tmp_path), tmp_path / "spark" / "out"
    (tmp_path / "spark").mkdir()
    process = on_spark(bundle, inputs, out)
    wait_for_parts(process, out, 0)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "duanti: interrupted\n")
    assert not (out / ".duanti" / "new").exists()
    before = len(list(out.glob("*.jsonl")))
    assert before < 10

    process = on_spark(bundle, inputs, out)
    wait_for_parts(process, out, before)
    if victim == "driver":
        process.kill()
    else:
        java = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True)
        os.kill(int(java.stdout.split()[0]), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    if victim == "java":
        assert process.returncode == 1
        assert "Traceback" not in said
        assert re.match(r"duanti: .*Spark gave up \(.+\).*The same command goes on", said.splitlines()[-1])
    assert before < len(list(out.glob("*.jsonl"))) < 12

    process = on_spark(bundle, inputs, out)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    (tmp_path / "local").mkdir()
    run_job(small_model, job([inputs], tmp_path / "local" / "out", bundle=bundle_digest(bundle)), Progress(None))
    assert files(tmp_path / "spark") == files(tmp_path / "local")


def test_what_the_server_of_accumulators_prints_goes_to_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = socketserver.BaseServer(("", 0), socketserver.BaseRequestHandler)
    log = tmp_path / "spark.log"
    _hush_mail(SimpleNamespace(_accumulatorServer=server), log)
    try:
        raise EOFError("Java has died")
    except EOFError:
        server.handle_error(b"", ("", 0))
    assert capsys.readouterr().err == ""
    assert "Java has died" in log.read_text()


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_the_same(spark: Any, bundle: str, small_model: TopicModel, tmp_path: Path) -> None:
    texts = texts_of(1, 100_000)
    corpora = os.environ.get("DUANTI_CORPORA")
    if corpora:
        from duanti import read_corpus

        texts = read_corpus(Path(corpora) / "law_chapters" / "train.jsonl.gz").texts[:100_000]
        assert len(texts) == 100_000
    for number in range(5):
        write_table(tmp_path / "in" / f"{number}.parquet", list(texts[number::5]))
    account = run(bundle, [tmp_path / "in"], tmp_path / "spark", kind="parquet", keep=("id",))
    task = job([tmp_path / "in"], tmp_path / "local", kind="parquet", keep=("id",), bundle=bundle_digest(bundle))
    assert account.rows == run_job(small_model, task, Progress(None)).rows == 100_000
    assert files(tmp_path / "spark") == files(tmp_path / "local")
    frame = predict_frame(spark.read.parquet(str(tmp_path / "in")), bundle, keep=("id", "text"))
    columns = ["id", "text", "topic", "probability"]
    found = [tuple(row) for row in frame.select(*columns).collect()]
    read = (pq.read_table(tmp_path / "local" / f"{number}.parquet").to_pylist() for number in range(5))
    rows = [(row["id"], row["topic"], row["probability"]) for part in read for row in part]
    expected = [(key, texts[5 * key + place // 20_000], *rest) for place, (key, *rest) in enumerate(rows)]
    assert sorted(found, key=str) == sorted(expected, key=str)


# Frames


def labelled_here(model: TopicModel, **settings: Any) -> pa.RecordBatch:
    return label_texts(model, TEXTS, [None] * len(TEXTS), PredictOptions(**settings))


def plain(rows: Any) -> list[dict[str, Any]]:
    return [row.asDict(recursive=True) for row in rows]


def test_a_frame_gets_the_rows_of_predict(spark: Any, small_model: TopicModel, bundle: str) -> None:
    frame = spark.createDataFrame([(number, text) for number, text in enumerate(TEXTS)], "id int, text string")
    for unit in ("text", "paragraph"):
        labelled = predict_frame(frame.coalesce(1), bundle, unit=unit, top=2, keep=["id"])
        assert labelled.columns == [*SCHEMA.names, "id"]
        expected = labelled_here(small_model, unit=unit, top=2).to_pylist()
        assert plain(labelled.collect()) == [{**row, "document": None, "id": int(row["document"])} for row in expected]
        assert labelled.filter("topic is null").count() == sum(row["topic"] is None for row in expected) >= 2


def test_rows_of_a_document_are_brought_together_in_order(spark: Any, small_model: TopicModel, bundle: str) -> None:
    rows = [(f"d{number % 3}" if number < 30 else None, number, "股市大涨") for number in range(33)]
    frame = spark.createDataFrame(rows[::-1], "doc string, `a.b` int, body string").repartition(4)
    settings = {"text_column": "body", "document_column": "doc", "keep": ["a.b"]}
    labelled = plain(predict_frame(frame, bundle, order_column="a.b", **settings).collect())
    assert len(labelled) == 33
    for row in labelled:
        assert row["document"] == rows[row["a.b"]][0]
        assert row["paragraph"] == (row["a.b"] // 3 if row["document"] else 0)
        assert row["topic"] == "财经"


def test_a_text_that_is_no_utf8_has_no_topic(spark: Any, bundle: str) -> None:
    frame = spark.sql("select cast(x'e882a1e5b882ff' as string) as text union all select '股市'")
    assert sorted(str(row.topic) for row in predict_frame(frame, bundle).collect()) == ["None", "财经"]


def test_a_frame_that_does_not_fit_is_refused(spark: Any, bundle: str) -> None:
    frame = spark.createDataFrame([(1, "股市")], "kind int, txt string")
    with pytest.raises(DataError, match=r"the frame: .*'text'.*Did you mean 'txt'"):
        predict_frame(frame, bundle)
    with pytest.raises(DataError, match="holds int, not strings"):
        predict_frame(frame, bundle, text_column="kind")
    with pytest.raises(UsageError, match="the output has a column of that name"):
        predict_frame(frame, bundle, text_column="txt", keep=["kind"])
    with pytest.raises(UsageError, match="unit is 'word'"):
        predict_frame(frame, bundle, text_column="txt", unit="word")
    with pytest.raises(BundleError, match="no such bundle"):
        predict_frame(frame, "nowhere", text_column="txt")


def test_mlflows_spark_udf_gives_the_same_topics(
    spark: Any, small_model: TopicModel, logged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, f"sqlite:///{logged}/mlflow.db")
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)  # of a store that was used before
    frame = spark.createDataFrame([(text,) for text in TEXTS], "text string").coalesce(1)
    expected = labelled_here(small_model, unit="text")
    for kind in (None, "topic string, probability double"):  # None: every column, by the model's signature
        label = mlflow.pyfunc.spark_udf(spark, "models:/small@champion", result_type=kind, env_manager="local")
        labelled = frame.select(label("text").alias("label")).select("label.*")
        assert labelled.columns == (SCHEMA.names if kind is None else ["topic", "probability"])
        assert plain(labelled.collect()) == expected.select(labelled.columns).to_pylist()
        assert labelled.filter("topic is null").count() == expected.column("topic").null_count >= 2
        none = spark.createDataFrame([("",), (None,)], "text string").coalesce(1).select(label("text").topic)
        assert [row[0] for row in none.collect()] == [None, None]
