"""train/fit.py: one recipe, one run, one bundle."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from duanti import Corpus, TopicModel
from duanti.cli import main
from duanti.config import RunConfig
from duanti.tracking import resolve_model_uri, track

ROOT = Path(__file__).parent.parent
Fit = Callable[..., "subprocess.CompletedProcess[str]"]

RECIPE = """\
# A recipe for tests.
data:
  train: corpus.jsonl
classifier:
  C: 2.0
  kind: linear_svc
evaluation:
  resamples: 100
"""


@pytest.fixture
def project(tmp_path: Path, small_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe and a corpus, and the one that programs run in."""
    monkeypatch.chdir(tmp_path)
    lines = [
        json.dumps({"text": text, "topic": topic, "document": document}, ensure_ascii=False)
        for text, topic, document in zip(small_corpus.texts, small_corpus.topics, small_corpus.documents, strict=True)
    ]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "small.yaml").write_text(RECIPE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def fit(project: Path, program: Fit) -> Fit:
    return lambda *arguments: program("fit.py", *arguments)


def client_of(project: Path) -> Any:
    mlflow = pytest.importorskip("mlflow")
    return mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db", f"sqlite:///{project}/mlflow.db")


def aliases_of(client: Any) -> dict[str, str]:
    return {alias: str(number) for alias, number in client.get_registered_model("small").aliases.items()}


@pytest.mark.slow
def test_a_run_has_all_that_was_promised_and_a_second_becomes_challenger(
    project: Path, fit: Fit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = fit("small.yaml", "data.test=0.25")
    assert done.returncode == 0, done.stderr
    bundle, _, run_id = done.stdout.splitlines()[-1].split()[:3]
    assert bundle == "models/small"
    client = client_of(project)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["classifier.C"] == "2.0"
    assert {"seed", "features.words", "data.train", "evaluation.confidence"} <= set(run.data.params)
    assert {"accuracy", "macro_f1", "accuracy_low", "accuracy_high", "expected_calibration_error"} <= set(
        run.data.metrics
    )
    shares = {"leakage.exact", "leakage.near", "leakage.contradicting", "leakage.documents"}
    assert {name: run.data.metrics[name] for name in shares} == dict.fromkeys(shares, 0.0)
    inputs = {tag.value: entry.dataset for entry in run.inputs.dataset_inputs for tag in entry.tags}
    assert set(inputs) == {"training", "test"}
    provenance = TopicModel.load(project / "models" / "small").provenance
    assert provenance["corpus"]["digest"].startswith(inputs["training"].digest)
    assert run.data.tags["corpus.training.sha256"] == provenance["corpus"]["digest"]
    artifacts = {artifact.path for artifact in client.list_artifacts(run_id)}
    assert {"report.html", "recipe", "topics.csv"} <= artifacts
    report = Path(client.download_artifacts(run_id, "report.html")).read_text(encoding="utf-8")
    assert report == (project / "models" / "small.report.html").read_text(encoding="utf-8")
    assert run_id in report
    names = Path(client.download_artifacts(run_id, "topics.csv")).read_text(encoding="utf-8").splitlines()
    assert [row["topic"] for row in csv.DictReader(names)] == ["体育", "教育", "财经"]
    recipe = Path(client.download_artifacts(run_id, "recipe/small.yaml")).read_text(encoding="utf-8")
    assert recipe == RECIPE
    assert aliases_of(client) == {"challenger": "1", "champion": "1"}

    assert fit("small.yaml", "classifier.C=0.1").returncode == 0
    assert aliases_of(client) == {"challenger": "2", "champion": "1"}
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    champion = TopicModel.load(resolve_model_uri("models:/small@champion"))
    assert champion.provenance["recipe"]["classifier"]["C"] == 2.0
    assert main(["inspect", "models:/small@challenger", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["classifier"]["C"] == 0.1
    assert main(["inspect", f"runs:/{run_id}/model"]) == 0
    capsys.readouterr()
    assert main(["inspect", "models:/small@nobody"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_four_runs_started_at_once_on_a_new_store_all_succeed(project: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        commands = [
            [sys.executable, str(ROOT / "train" / "fit.py"), "small.yaml", "n_jobs=1", f"seed={seed}"]
            for seed in range(4)
        ]
        done = list(pool.map(partial(subprocess.run, cwd=project, capture_output=True, text=True), commands))
    assert [result.returncode for result in done] == [0] * 4, [result.stderr for result in done]
    client = client_of(project)
    assert len(client.search_model_versions("name='small'")) == 4
    experiment = client.get_experiment_by_name("small")
    assert len(client.search_runs([experiment.experiment_id])) == 4
    assert set(aliases_of(client)) == {"challenger", "champion"}


def test_a_model_comes_from_the_store_that_is_named_whichever_was_used_before(
    logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.yaml").write_text("data: {train: given}\n", encoding="utf-8")
    tracking = {"uri": f"sqlite:///{tmp_path}/mlflow.db"}
    config = RunConfig.model_validate({"name": "other", "data": {"train": "given"}, "tracking": tracking})
    with track(config, tmp_path / "other.yaml"):
        pass
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{logged}/mlflow.db")
    assert TopicModel.load(resolve_model_uri("models:/small@champion")).topics == ("体育", "教育", "财经")


def test_the_same_run_gives_the_same_bytes(project: Path, fit: Fit) -> None:
    bundles = []
    for n_jobs in (1, 2):
        done = fit("small.yaml", f"n_jobs={n_jobs}", f"output=out{n_jobs}", "tracking.enabled=false", "data.test=0.25")
        assert done.returncode == 0, done.stderr
        folder = project / f"out{n_jobs}" / "small"
        bundles.append({path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert len(bundles[0]) == 14
    assert bundles[0] == bundles[1]


def test_without_a_test_corpus_the_model_learns_from_everything(project: Path, fit: Fit) -> None:
    done = fit("small.yaml", "tracking.enabled=false")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "report: models/small.report.html\n"
    assert done.stdout == "models/small  run -  not recorded\n"
    provenance = TopicModel.load(project / "models" / "small").provenance
    assert provenance["corpus"]["rows"] == 24
    assert "metrics" not in provenance
    assert not (project / "mlflow.db").exists()


def test_the_test_corpus_may_be_a_file(project: Path, fit: Fit) -> None:
    assert fit("small.yaml", "tracking.enabled=false", "data.test=corpus.jsonl").returncode == 0
    metrics = TopicModel.load(project / "models" / "small").provenance["metrics"]
    assert metrics["rows"] == 24
    assert metrics["leakage.exact"] == 1.0
    assert metrics["leakage.documents"] == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["small.yaml", "classifier.c=1"], 2, "unknown key classifier.c. Known here: kind, C, class_weight, min_df"),
        (["small.yaml", "feature.words=null"], 2, "unknown key feature. Did you mean features?"),
        (["nowhere.yaml"], 2, "no such recipe"),
        (["small.yaml", "data.train=nowhere.jsonl"], 1, "nowhere.jsonl: no such file"),
        (["small.yaml", "data.topic=label"], 1, "no column 'label'; it has 'text', 'topic', 'document'"),
        (["small.yaml", "features.min_df=25"], 1, "Try a lower min_df or a higher max_df"),
        (["small.yaml", "data.train=one.jsonl"], 1, "Training needs two or more"),
        (["small.yaml", "output=corpus.jsonl"], 1, "cannot be written"),
        (["small.yaml", "tracking.uri=sqlite:////proc/nowhere/mlflow.db", "tracking.enabled=true"], 1, "/proc/nowhere"),
    ],
)
def test_a_fault_is_one_line_and_leaves_nothing(
    project: Path, fit: Fit, arguments: list[str], code: int, message: str
) -> None:
    (project / "one.jsonl").write_text('{"text": "股市", "topic": "财经"}\n' * 3, encoding="utf-8")
    before = sorted(path.name for path in project.rglob("*"))
    done = (
        fit("small.yaml", "tracking.enabled=false", *arguments[1:]) if arguments[0] == "small.yaml" else fit(*arguments)
    )
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(path.name for path in project.rglob("*")) == before


@pytest.mark.slow
def test_a_run_that_fails_is_recorded_as_failed(project: Path, fit: Fit) -> None:
    assert fit("small.yaml", "features.min_df=25").returncode == 1
    client = client_of(project)
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    assert [run.info.status for run in runs] == ["FAILED"]


def test_training_works_where_mlflow_is_not_installed(project: Path) -> None:
    code = (
        "import sys, runpy; sys.modules['mlflow'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'mlflow' else find(name, *a)\n"
        "sys.argv = ['fit.py', 'small.yaml']; runpy.run_path(PROGRAM, run_name='__main__')"
    ).replace("PROGRAM", repr(str(ROOT / "train" / "fit.py")))
    done = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mlflow is not installed" in done.stderr
    assert (project / "models" / "small" / "manifest.json").exists()
