"""Batch jobs: exactly once, whatever happens in between."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from duanti import DataError, TopicModel, UsageError
from duanti.jobs import Account, Job, run_job
from duanti.predict import SCHEMA, PredictOptions, label_texts
from duanti.progress import Progress
from duanti.readers import ReadOptions, find_sources

WORDS = ["股市大涨", "基金", "球队赢了比赛", "门将", "学校开学", "高考", "，", "。", "\n"]


def texts_of(seed: int, n: int) -> list[str]:
    source = random.Random(seed)
    return ["".join(source.choices(WORDS, k=source.randint(1, 12))) for _ in range(n)]


def write_table(path: Path, texts: list[str], *, broken: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"text": texts, "id": range(len(texts))}), path, row_group_size=max(len(texts) // 3, 1))
        return path
    lines = [json.dumps({"id": number, "text": text}, ensure_ascii=False) for number, text in enumerate(texts)]
    if broken:
        lines.insert(len(lines) // 2, "{broken")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def job(inputs: list[Path], output: Path, **settings: Any) -> Job:
    sources = find_sources([str(path) for path in inputs])
    settings = {"is_folder": output.suffix == "", "kind": output.suffix[1:] or "jsonl", **settings}
    reading = ReadOptions(keep=settings.pop("keep", ()), raw_json=settings["kind"] == "jsonl")
    options = PredictOptions(top=settings.pop("top", 3), n_jobs=settings.pop("n_jobs", 1))
    return Job(
        sources,
        output,
        bundle=settings.pop("bundle", "b"),
        columns=SCHEMA,
        reading=reading,
        options=options,
        **settings,
    )


def run(model: TopicModel, *arguments: Any, **settings: Any) -> Account:
    return run_job(model, job(*arguments, **settings), Progress(None))


def files(folder: Path) -> dict[str, bytes]:
    """Everything that a job leaves, but for its ledger."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".duanti" not in path.parts
    }


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    for number in range(4):
        write_table(tmp_path / "in" / f"{number}.jsonl", texts_of(number, 50), broken=number == 2)
    return tmp_path / "in"


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_many_inputs_become_one_file_in_order(
    small_model: TopicModel, inputs: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"out.{ending}"
    account = run(small_model, [inputs], out, keep=("id",))
    assert (account.rows, account.labelled, account.rejected) == (201, 200, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", out.name, f"{out.name}.rejects.jsonl"]
    (reject,) = map(json.loads, (tmp_path / f"{out.name}.rejects.jsonl").read_text(encoding="utf-8").splitlines())
    assert (reject["file"], reject["row"], reject["line"]) == (str(inputs / "2.jsonl"), 25, 26)
    if ending == "parquet":
        rows = pq.read_table(out).to_pylist()
    elif ending == "jsonl":
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    else:
        return
    expected = [
        {**row, "id": number if ending == "jsonl" else str(number)}
        for seed in range(4)
        for number, row in enumerate(
            label_texts(small_model, texts_of(seed, 50), [None] * 50, PredictOptions("text")).to_pylist()
        )
    ]
    for row, wanted in zip(rows, expected, strict=True):
        assert {**row, "document": ""} == {**wanted, "document": ""}


def test_a_folder_gets_a_part_for_each_input(small_model: TopicModel, inputs: Path, tmp_path: Path) -> None:
    (inputs / "sub").mkdir()
    (inputs / "sub" / "news.txt").write_text("股市大涨\n球队赢了", encoding="utf-8")
    run(small_model, [inputs], tmp_path / "out")
    assert [*files(tmp_path / "out")] == ["0.jsonl", "1.jsonl", "2.jsonl", "3.jsonl", "sub/news.jsonl"]
    assert (tmp_path / "out.rejects.jsonl").read_text(encoding="utf-8").count("\n") == 1


def test_the_account_says_what_became_of_every_row(small_model: TopicModel, inputs: Path, tmp_path: Path) -> None:
    report = run(small_model, [inputs], tmp_path / "out.jsonl").as_report()
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert report["rows"] == {"read": 201, "labelled": 200, "rejected": 1}
    for topic, figures in report["topics"].items():
        assert figures["rows"] == sum(row["topic"] == topic for row in rows)
        assert figures["share"] == figures["rows"] / 200
    assert report["without_topic"]["rows"] == sum(row["topic"] is None for row in rows) > 0
    confident = [row["probability"] for row in rows if row["topic"]]
    assert report["mean_probability"] == pytest.approx(sum(confident) / len(confident))
    assert set(report["seconds"]) == {"reading", "scoring", "writing"}


def test_threads_and_a_second_run_change_nothing(small_model: TopicModel, inputs: Path, tmp_path: Path) -> None:
    run(small_model, [inputs], tmp_path / "out", n_jobs=1)
    before = files(tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jsonl")}
    account = run(small_model, [inputs], tmp_path / "out", n_jobs=3)
    assert files(tmp_path / "out") == before
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.jsonl")} == times
    assert account.rows == 201  # as the first run counted them
    run(small_model, [inputs], tmp_path / "other", n_jobs=3)
    assert files(tmp_path / "other") == before


def test_a_part_that_is_gone_or_cut_is_written_again(small_model: TopicModel, inputs: Path, tmp_path: Path) -> None:
    run(small_model, [inputs], tmp_path / "out")
    before = files(tmp_path / "out")
    (tmp_path / "out" / "1.jsonl").unlink()
    (tmp_path / "out" / "3.jsonl").write_bytes(b"{")
    run(small_model, [inputs], tmp_path / "out")
    assert files(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bundle": "c"}, "begun with another bundle"),
        ({"top": 2}, "begun with another top"),
        ({"keep": ("id",)}, "begun with another keep"),
    ],
)
def test_another_job_on_the_same_folder_is_refused(
    small_model: TopicModel, inputs: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    run(small_model, [inputs], tmp_path / "out")
    before = files(tmp_path / "out")
    with pytest.raises(DataError, match=message):
        run(small_model, [inputs], tmp_path / "out", **change)
    assert files(tmp_path / "out") == before
    run(small_model, [inputs], tmp_path / "out", restart=True, **change)
    assert [*files(tmp_path / "out")] == [*before]
    assert (files(tmp_path / "out") == before) == ("bundle" in change)


def test_an_input_that_has_changed_is_refused(small_model: TopicModel, inputs: Path, tmp_path: Path) -> None:
    run(small_model, [inputs], tmp_path / "out")
    os.utime(inputs / "1.jsonl")  # only touched: the same bytes
    run(small_model, [inputs], tmp_path / "out")
    write_table(inputs / "1.jsonl", texts_of(9, 50))
    with pytest.raises(DataError, match=r"1.jsonl: has changed since its part was written. Give --restart"):
        run(small_model, [inputs], tmp_path / "out")
    (inputs / "1.jsonl").unlink()
    with pytest.raises(DataError, match=r"1.jsonl: was an input when this job was begun"):
        run(small_model, [inputs], tmp_path / "out")
    run(small_model, [inputs], tmp_path / "out", restart=True)
    assert [*files(tmp_path / "out")] == ["0.jsonl", "2.jsonl", "3.jsonl"]


def test_a_new_input_joins_those_that_are_finished(small_model: TopicModel, inputs: Path, tmp_path: Path) -> None:
    run(small_model, [inputs], tmp_path / "out")
    write_table(inputs / "4.jsonl", texts_of(4, 10))
    account = run(small_model, [inputs], tmp_path / "out")
    assert len(files(tmp_path / "out")) == 5
    assert account.rows == 211


def test_strict_stops_at_the_first_reject_and_leaves_no_half_part(
    small_model: TopicModel, inputs: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"2.jsonl, line 26: not valid JSON"):
        run(small_model, [inputs], tmp_path / "out", strict=True)
    assert [*files(tmp_path / "out")] == ["0.jsonl", "1.jsonl"]
    with pytest.raises(DataError, match=r"2.jsonl, line 26"):
        run(small_model, [inputs / "2.jsonl"], tmp_path / "out.jsonl", strict=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_a_foreign_file_in_the_output_folder_is_not_mixed_in(
    small_model: TopicModel, inputs: Path, tmp_path: Path
) -> None:
    write_table(tmp_path / "out" / "old.jsonl", ["x"])
    with pytest.raises(DataError, match=r"old.jsonl: is there, and not of this job"):
        run(small_model, [inputs], tmp_path / "out")
    assert [*files(tmp_path / "out")] == ["old.jsonl"]


def test_an_output_among_its_inputs_is_refused(small_model: TopicModel, inputs: Path) -> None:
    with pytest.raises(UsageError, match="is an input"):
        run(small_model, [inputs], inputs)
    with pytest.raises(UsageError, match="is an input"):
        run(small_model, [inputs / "0.jsonl"], inputs / "0.jsonl")


def test_two_inputs_of_one_name_are_refused(small_model: TopicModel, inputs: Path, tmp_path: Path) -> None:
    write_table(inputs / "0.parquet", ["x"])
    with pytest.raises(UsageError, match=r"would both become 0.jsonl"):
        run(small_model, [inputs], tmp_path / "out")


@pytest.mark.parametrize("output", ["nowhere/out.jsonl", "in/0.jsonl/out"])
def test_an_output_that_cannot_be_written_is_one_line(
    small_model: TopicModel, inputs: Path, tmp_path: Path, output: str
) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        run(small_model, [inputs], tmp_path / output)


def test_an_input_that_vanishes_is_named(small_model: TopicModel, inputs: Path, tmp_path: Path) -> None:
    task = job([inputs], tmp_path / "out")
    (inputs / "3.jsonl").unlink()
    with pytest.raises(DataError, match=r"3.jsonl: cannot be read|3.jsonl: no such file"):
        run_job(small_model, task, Progress(None))
    assert [*files(tmp_path / "out")] == ["0.jsonl", "1.jsonl", "2.jsonl"]


def test_an_input_that_changes_while_it_is_read_is_refused(
    small_model: TopicModel, inputs: Path, tmp_path: Path
) -> None:
    class Touching(Progress):
        def advance(self, rows: int, n_bytes: int) -> None:
            with (inputs / "0.jsonl").open("a") as file:
                file.write("\n")

    with pytest.raises(DataError, match="changed while it was read"):
        run_job(small_model, job([inputs / "0.jsonl"], tmp_path / "out.jsonl"), Touching(None))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


# Processes


def start(*arguments: str, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "duanti.cli", "predict", *arguments]
    # A shell has what it runs in the background ignore interrupts, and whatever that starts.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    usual: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "preexec_fn": heed}
    return subprocess.Popen(command, **{**usual, **options})


@pytest.fixture
def bundle(small_model: TopicModel, tmp_path: Path) -> str:
    small_model.save(tmp_path / "model" / "small")
    return str(tmp_path / "model" / "small")


def wait_for(condition: Callable[[], object]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited for half a minute")


def test_a_second_run_on_the_same_output_is_refused(bundle: str, inputs: Path, tmp_path: Path) -> None:
    # The first waits for a named pipe that nobody writes to.
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    first = start(bundle, str(inputs / "0.jsonl"), str(pipe), "-o", str(tmp_path / "out/"))
    try:
        wait_for(lambda: (tmp_path / "out" / "0.jsonl").exists())
        second = start(bundle, str(inputs / "0.jsonl"), str(pipe), "-o", str(tmp_path / "out/"))
        _, said = second.communicate(timeout=60)
        assert (second.returncode, said.count("\n")) == (1, 1)
        assert "another run is writing it" in said
    finally:
        first.kill()
        first.wait()
    # The lock went with the process, though its file is still there.
    assert (tmp_path / "out" / ".duanti" / "lock").exists()
    third = start(bundle, str(inputs / "0.jsonl"), "-o", str(tmp_path / "out/"))
    _, said = third.communicate(timeout=60)
    assert third.returncode == 0, said


def test_a_pipe_is_read_once_and_its_part_never_taken_for_another(bundle: str, inputs: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    for text, topic in (("股市大涨", "财经"), ("球队赢了比赛", "体育")):
        process = start(bundle, str(pipe), str(inputs), "-o", str(tmp_path / "out/"))
        pipe.write_text(json.dumps({"text": text}) + "\n", encoding="utf-8")
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said
        assert json.loads((tmp_path / "out" / "pipe.jsonl").read_text(encoding="utf-8"))["topic"] == topic


def test_an_interrupt_is_one_line_and_the_job_goes_on_later(bundle: str, inputs: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    process = start(bundle, str(inputs), str(pipe), "-o", str(tmp_path / "out/"))
    wait_for(lambda: (tmp_path / "out" / "3.jsonl").exists())
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "duanti: interrupted"
    assert "Traceback" not in said
    assert len(files(tmp_path / "out")) == 4
    assert not list((tmp_path / "out" / ".duanti" / "new").glob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("is_folder", [True, False], ids=["folder", "file"])
def test_killed_jobs_end_with_the_bytes_of_one_that_was_not(bundle: str, tmp_path: Path, is_folder: bool) -> None:
    kill_and_go_on(bundle, tmp_path, is_folder, kills=4)


@pytest.mark.long
@pytest.mark.parametrize("is_folder", [True, False], ids=["folder", "file"])
def test_fifty_kills_change_nothing(bundle: str, tmp_path: Path, is_folder: bool) -> None:
    kill_and_go_on(bundle, tmp_path, is_folder, kills=50)


def kill_and_go_on(bundle: str, tmp_path: Path, is_folder: bool, kills: int) -> None:
    """SIGKILL at random moments, each followed by the same command."""
    for number in range(24):
        write_table(tmp_path / "in" / f"{number:02}.jsonl", texts_of(number, 4000), broken=number % 5 == 0)

    def command(name: str) -> list[str]:
        (tmp_path / name).mkdir(exist_ok=True)
        return [bundle, str(tmp_path / "in"), "-o", str(tmp_path / name / ("out/" if is_folder else "out.parquet"))]

    begin = time.monotonic()
    assert start(*command("whole")).wait(timeout=300) == 0
    seconds = time.monotonic() - begin
    source = random.Random(int(is_folder))
    for _ in range(kills):
        process = start(*command("killed"))
        try:
            assert process.wait(timeout=source.uniform(0.2, 1.0) * seconds) == 0
            shutil.rmtree(tmp_path / "killed")  # it ended before it could be killed; begin anew
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    process = start(*command("killed"))
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert files(tmp_path / "killed") == files(tmp_path / "whole")
    assert len(files(tmp_path / "whole")) == (25 if is_folder else 2)
    assert "96,005 rows read = 96,000 labelled + 5 rejected" in said


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A file system of two megabytes."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out/"])
def test_a_full_disk_is_one_line_and_the_job_goes_on_when_there_is_room(bundle: str, tmp_path: Path, name: str) -> None:
    for number in range(3):
        write_table(tmp_path / "in" / f"{number}.jsonl", texts_of(number, 12_000))
    disk = tmp_path / "disk"
    with small_disk(disk):
        filler = disk / "filler"
        filler.write_bytes(b"x" * (1_900_000 if "parquet" in name else 100_000))
        process = start(bundle, str(tmp_path / "in"), "-o", f"{disk}/{name}")
        _, said = process.communicate(timeout=120)
        assert (process.returncode, said.count("\n")) == (1, 1), said
        assert "cannot be written (No space left on device)" in said
        assert not (disk / name).is_file()
        assert not list(disk.glob("**/new/*"))
        subprocess.run(["mount", "-o", "remount,size=100m", str(disk)], check=True)
        process = start(bundle, str(tmp_path / "in"), "-o", f"{disk}/{name}")
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert "36,000 rows read = 36,000 labelled + 0 rejected" in said
        filler.unlink()
        process = start(bundle, str(tmp_path / "in"), "-o", f"{tmp_path}/{name}")
        assert process.wait(timeout=120) == 0
        assert files(disk) == {key: value for key, value in files(tmp_path).items() if key.startswith("out")}


def test_a_file_that_may_not_grow_is_one_line(bundle: str, inputs: Path, tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    process = start(bundle, str(inputs), "-o", str(tmp_path / "out.jsonl"), preexec_fn=limit)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.count("\n")) == (1, 1)
    assert "out.jsonl: cannot be written (File too large)" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "model"]


def test_a_folder_that_may_not_be_written_is_one_line(small_model: TopicModel, inputs: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk"):
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path / "disk")], check=True)
        for output in ("out.jsonl", "out"):
            with pytest.raises(DataError, match=r"cannot be written \(Read-only file system\)"):
                run(small_model, [inputs], tmp_path / "disk" / output)
