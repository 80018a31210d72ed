"""The bundle as an MLflow model: the same rows, in a frame and over HTTP, with the code that travels with it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from duanti import TopicModel, UsageError
from duanti.predict import PredictOptions, label_texts
from duanti.serving import ServedModel

TEXTS = ["股市大涨\n球队赢了比赛\n责任编辑：张三", "", "学校开学"]


def expected_rows(model: TopicModel, unit: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = label_texts(model, TEXTS, [*"012"], PredictOptions(unit)).to_pylist()
    return rows


@pytest.mark.parametrize("unit", ["text", "paragraph"])
def test_a_frame_of_texts_gives_the_rows_of_predict(small_model: TopicModel, unit: str) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": TEXTS})
    assert ServedModel(small_model).predict(frame, {"unit": unit}).to_dict("records") == expected_rows(
        small_model, unit
    )


def test_no_topic_is_none_never_nan(small_model: TopicModel) -> None:
    pandas = pytest.importorskip("pandas")
    served = ServedModel(small_model).predict(pandas.DataFrame({"text": ["", None, float("nan"), "股市"]}))
    assert list(served["topic"][:3]) == [None] * 3
    assert list(served["probability"][:3]) == [None] * 3
    assert served["topic"][3] == "财经"


def test_documents_keep_their_names(small_model: TopicModel) -> None:
    pandas = pytest.importorskip("pandas")
    served = ServedModel(small_model).predict(pandas.DataFrame({"text": ["股市", "球队"], "document": ["a", "a"]}))
    assert list(served["document"]) == ["a", "a"]
    assert list(served["paragraph"]) == [0, 1]


def test_an_unknown_unit_is_named(small_model: TopicModel) -> None:
    with pytest.raises(UsageError, match="unit is 'word'; use one of text, paragraph"):
        ServedModel(small_model).predict(["股市"], {"unit": "word"})


def environment(folder: Path) -> dict[str, str]:
    # Not what this process has set: mlflow tells its children which store and registry it used last.
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    return {**kept, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db", "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.mark.slow
def test_the_logged_model_brings_its_own_code(small_model: TopicModel, logged: Path) -> None:
    code = (
        "import json, mlflow, pandas\n"
        "model = mlflow.pyfunc.load_model('models:/small@champion')\n"
        f"rows = model.predict(pandas.DataFrame({{'text': {TEXTS!r}}}), params={{'unit': 'paragraph'}})\n"
        "import duanti\n"
        "print(json.dumps({'rows': rows.to_dict('records'), 'home': duanti.__file__}, ensure_ascii=False))\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=logged, env=environment(logged), capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["rows"] == expected_rows(small_model, "paragraph")
    assert Path(answer["home"]).parent.parent.name == "code"


@pytest.fixture(scope="module")
def server(logged: Path) -> Iterator[str]:
    """The logged model behind ``mlflow models serve``, as the README says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/small@champion"]
    options = ["--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (logged / "server.log").open("w") as log:
        process = subprocess.Popen(
            [*command, *options],
            cwd=logged,
            env={**environment(logged), "PATH": path},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=1)
                break
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                assert process.poll() is None, (logged / "server.log").read_text()
                time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(timeout=30)


@pytest.mark.slow
def test_the_served_model_gives_the_rows_of_predict(small_model: TopicModel, server: str) -> None:
    body = json.dumps({"dataframe_records": [{"text": text} for text in TEXTS], "params": {"unit": "text"}}).encode()
    request = urllib.request.Request(f"{server}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        rows = json.load(answer)["predictions"]
    assert rows == expected_rows(small_model, "text")
