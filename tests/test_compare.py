"""train/compare.py: the leaderboard of an experiment, and the champion that changes only for a better one."""

import json
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from duanti import Corpus, TopicModel
from duanti.config import RunConfig
from duanti.leaderboard import PREDICTIONS, predictions_table
from duanti.model import Prediction
from duanti.tracking import track

ROWS = 120
Record = Callable[..., str]
Compare = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text("data: {train: given}\n", encoding="utf-8")
    return tmp_path


def corpus_of(order: Sequence[int] = range(ROWS), name: str = "test") -> Corpus:
    """Rows of two topics, each its own document."""
    texts = [f"{name} {row}" for row in order]
    return Corpus(name, texts, ["甲" if row % 2 else "乙" for row in order], [None] * len(texts))


@pytest.fixture
def record(project: Path, small_model: TopicModel) -> Record:
    """Record a run that has the first so many rows of the test right, as train/fit.py would."""
    small_model.save(project / "models" / "small")

    def record_run(right: int, test: Corpus | None = None, *, keep: bool = True) -> str:
        test = test or corpus_of()
        config = RunConfig.model_validate(
            {"name": "small", "data": {"train": "given"}, "tracking": {"uri": f"sqlite:///{project}/mlflow.db"}}
        )
        told = [
            topic if int(text.split()[1]) < right else {"甲": "乙", "乙": "甲"}[topic]
            for text, topic in zip(test.texts, test.topics, strict=True)
        ]
        with track(config, project / "small.yaml") as run:
            run.log_inputs(test=test)
            run.log_metrics({"training_seconds": 1.5, "bundle_bytes": 2e6, "terms": 300})
            if keep:
                run.log_table(predictions_table(test, [Prediction(t, 0.9, (), 1) for t in told]), PREDICTIONS)
            run.register_bundle(project / "models" / "small", "small")
        return str(run.id)

    return record_run


@pytest.fixture
def compare(project: Path, program: Compare) -> Compare:
    return partial(program, "compare.py")


def registered(project: Path) -> Any:
    import mlflow

    return mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db", f"sqlite:///{project}/mlflow.db")


@pytest.mark.slow
def test_the_champion_changes_only_for_a_challenger_that_is_better(
    project: Path, record: Record, compare: Compare
) -> None:
    first = record(90)
    second = record(92)
    done = compare("small", "--promote")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("not promoted: version 2 is not shown to be better than version 1")
    assert registered(project).get_model_version_by_alias("small", "champion").version == 1

    record(112, corpus_of(range(ROWS)[::-1]))  # the same rows in another order
    apart = record(120, corpus_of(name="other"))
    without = record(120, keep=False)
    looked = compare("small")
    assert looked.returncode == 0, looked.stderr
    lines = looked.stdout.splitlines()
    board = [line.split()[0] for line in lines if "±" not in line]
    assert board.index(second[:8]) < board.index(first[:8])
    assert "0.9333" in next(line for line in lines if " 3 " in line)
    assert f"{apart[:8]}" in board
    assert sum("tested on another corpus" in line for line in lines) == 1
    assert any(without[:8] in line and "kept no predictions" in line for line in lines)
    assert lines[-1].startswith("version 3 is better than version 1: macro-F1 +0.18")
    assert registered(project).get_model_version_by_alias("small", "champion").version == 1

    promoted = compare("small", "--promote", "--metric", "accuracy", "--level", "0.99")
    assert promoted.stdout.splitlines()[-1].startswith("promoted: version 3 is better than version 1: accuracy +0.18")
    champion = registered(project).get_model_version_by_alias("small", "champion")
    assert champion.version == 3
    reason = {key.removeprefix("duanti.promoted."): value for key, value in champion.tags.items()}
    assert reason["over_version"] == "1"
    assert (reason["metric"], reason["level"], reason["challengers"]) == ("accuracy", "0.99", "2")
    # 22 rows that only the challenger has right, none the other way, and the best of two.
    assert float(reason["p_value"]) == pytest.approx(2 * 2 * 0.5**22, rel=1e-4)
    assert reason["test_corpus"] == corpus_of().digest
    assert {"time", "by", "test", "difference"} <= set(reason)

    again = compare("small", "--promote")
    assert again.stdout.splitlines()[-1].startswith("not promoted: ")


@pytest.mark.slow
def test_a_champion_without_predictions_is_told(record: Record, compare: Compare) -> None:
    record(10, keep=False)
    record(120)
    done = compare("small", "--promote")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "not promoted: the champion has kept no predictions; train it again with a test corpus"
    )


@pytest.mark.slow
def test_a_run_of_fit_keeps_what_comparing_needs(
    project: Path, small_corpus: Corpus, program: Compare, compare: Compare
) -> None:
    rows = zip(small_corpus.texts, small_corpus.topics, strict=True)
    lines = [json.dumps({"text": text, "topic": topic}, ensure_ascii=False) for text, topic in rows]
    (project / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (project / "fitted.yaml").write_text(
        "data: {train: corpus.jsonl, test: 0.25}\nevaluation: {resamples: 100}\n", encoding="utf-8"
    )
    fitted = program("fit.py", "fitted.yaml")
    assert fitted.returncode == 0, fitted.stderr
    done = compare("fitted")
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if "champion" in line and "±" not in line)
    assert row.split()[-1].isdigit()
    assert "-" not in row.split()[-3:]
    assert "no challenger" in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["small"], 1, "no tracking store there. Name one with --uri."),
        (["small", "--level", "95"], 2, "give a number between 0 and 1"),
    ],
)
def test_a_fault_is_one_line(compare: Compare, arguments: list[str], code: int, said: str) -> None:
    done = compare(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_unknown_experiment_is_told_with_those_there_are(logged: Path, compare: Compare) -> None:
    done = compare("nothing", "--uri", f"sqlite:///{logged}/mlflow.db")
    assert done.returncode == 1
    assert "no experiment 'nothing'. It has" in done.stderr
    assert "small" in done.stderr
