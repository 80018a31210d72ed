"""train/search.py: trials that are kept, shared and taken up again, and the recipe that comes of them."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import accuracy_score, f1_score

from duanti import ConfigError, Corpus, DataError, load_config
from duanti.classifiers import make_classifier
from duanti.config import RunConfig
from duanti.corpus import read_corpora
from duanti.pipeline import make_vectorizer, members_of
from duanti.search import Standing, Trial, search, study_folder, study_name, write_best

optuna = pytest.importorskip("optuna")

ROOT = Path(__file__).parent.parent
Program = Callable[..., "subprocess.CompletedProcess[str]"]

RECIPE = """\
data:
  train: corpus.jsonl
n_jobs: 1
calibration: {folds: 4}
tracking: {enabled: false}
search:
  metric: accuracy
  features.characters: [[1, 1], [1, 2], null]
  features.min_df: {low: 1, high: 2}
  classifier.kind: [linear_svc, complement_nb]
  classifier.C: {low: 0.01, high: 10, log: true}
  classifier.alpha: {low: 0.01, high: 1, log: true}
"""


@pytest.fixture
def project(tmp_path: Path, small_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = zip(small_corpus.texts, small_corpus.topics, strict=True)
    lines = [json.dumps({"text": text, "topic": topic}, ensure_ascii=False) for text, topic in rows]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "small.yaml").write_text(RECIPE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trials_of(folder: Path) -> list[tuple[int, str, dict[str, object]]]:
    """Number, state and settings of the trials on disk."""
    with sqlite3.connect(folder / "trials.db") as store:
        assert store.execute("pragma integrity_check").fetchone() == ("ok",)
        settings = "select value_json from trial_user_attributes where key = 'settings' and trial_id = trials.trial_id"
        rows = store.execute(f"select number, state, ({settings}) from trials order by number").fetchall()
    return [(number, state, json.loads(given or "{}")) for number, state, given in rows]


def searched(config: RunConfig, trials: int) -> tuple[list[Trial], Standing]:
    told: list[Trial] = []
    training, _ = read_corpora(**dict(config.data), seed=config.seed)
    standing = search(config, training, trials=trials, told=lambda trial, _: told.append(trial))
    return told, standing


def test_the_best_recipe_is_complete_and_fit_runs_it(project: Path, program: Program) -> None:
    done = program("search.py", "small.yaml", "--trials", "6")
    assert done.returncode == 0, done.stderr
    file, metric, value = done.stdout.split()[:3]
    assert (file, metric) == ("models/small.best.yaml", "accuracy")
    assert done.stdout.count("\n") == 1
    assert len(re.findall(r"(?m)^search.py: trial \d", done.stderr)) == 6
    text = Path(file).read_text(encoding="utf-8")
    head = re.match(r"(?:#.*\n)+", text)
    assert head is not None
    assert f"python train/fit.py {file}" in head.group()
    assert f"accuracy {value} out of fold" in head.group()
    assert "search" not in yaml.safe_load(text)
    assert set(yaml.safe_load(text)) == set(RunConfig.model_fields) - {"search"}
    best, config = load_config(file), load_config("small.yaml")
    assert best.name == "small"
    assert best.evaluation == config.evaluation
    fitted = program("fit.py", file, "evaluation.resamples=100")
    assert fitted.returncode == 0, fitted.stderr
    assert fitted.stdout.startswith("models/small ")


def test_a_value_is_what_sklearn_says_of_out_of_fold_predictions(project: Path) -> None:
    config = load_config("small.yaml")
    training, _ = read_corpora(**dict(config.data), seed=0)
    folds, y = np.asarray(training.folds(4, 0)), np.asarray(training.topics)
    texts = np.asarray(training.texts, dtype=object)
    told, _ = searched(config, 4)
    for trial in told:
        assert not trial.given_up
        tried = config.with_settings(trial.settings)
        predicted = np.empty_like(y)
        for fold in range(4):
            vectorizer = make_vectorizer(tried)
            matrix = vectorizer.fit_transform(texts[folds != fold].tolist())
            classifier = make_classifier(members_of(tried.classifier)[0], 0).fit(matrix, y[folds != fold])
            predicted[folds == fold] = classifier.predict(vectorizer.transform(texts[folds == fold].tolist()))
        assert trial.figures["accuracy"] == pytest.approx(accuracy_score(y, predicted))
        assert trial.figures["macro_f1"] == pytest.approx(f1_score(y, predicted, average="macro"))
        assert trial.value == trial.figures["accuracy"]


def test_settings_of_another_kind_are_not_tried(project: Path) -> None:
    told, _ = searched(load_config("small.yaml"), 8)
    kinds = {trial.settings["classifier.kind"] for trial in told}
    assert kinds == {"linear_svc", "complement_nb"}
    for trial in told:
        is_svc = trial.settings["classifier.kind"] == "linear_svc"
        assert ("classifier.C" in trial.settings, "classifier.alpha" in trial.settings) == (is_svc, not is_svc)
        assert isinstance(trial.settings["features.min_df"], int)


def test_a_member_of_a_blend_can_be_searched(project: Path) -> None:
    recipe = RECIPE.partition("search:")[0] + (
        "classifier: {kind: blend, members: [{kind: linear_svc}, {kind: complement_nb}], weights: [1, 1]}\n"
        "search: {'classifier.members[1].alpha': [0.2, 0.7]}\n"
    )
    Path("blend.yaml").write_text(recipe.replace("[1, 1]", "[1.0, 1.0]"), encoding="utf-8")
    config = load_config("blend.yaml")
    told, standing = searched(config, 3)
    assert {trial.settings["classifier.members[1].alpha"] for trial in told} <= {0.2, 0.7}
    best = write_best(config, Path("blend.yaml"), standing, Path("best.yaml"))
    members = yaml.safe_load(Path("best.yaml").read_text(encoding="utf-8"))["classifier"]["members"]
    assert members[1]["alpha"] == best.settings["classifier.members[1].alpha"]


def test_an_interrupted_search_tries_what_one_that_was_not_would_have(project: Path) -> None:
    whole, _ = searched(load_config("small.yaml", ["output=whole"]), 12)
    config = load_config("small.yaml", ["output=parts", "n_jobs=2"])
    parts = [trial for n in (3, 4, 12) for trial in searched(config, n)[0]]
    assert [trial.settings for trial in parts] == [trial.settings for trial in whole]
    assert [trial.value for trial in parts] == [trial.value for trial in whole]


def wait_for(folder: Path, trials: int, process: "subprocess.Popen[str]") -> None:
    """Wait until so many trials are over, while the process is alive."""
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if (folder / "trials.db").exists():
            try:
                if sum(state != "RUNNING" for _, state, _ in trials_of(folder)) >= trials:
                    return
            except sqlite3.OperationalError:
                pass  # its tables are being made
        time.sleep(0.02)
    raise AssertionError("the search ended, or did nothing")


def start(*arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(ROOT / "train" / "search.py"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


@pytest.mark.slow
def test_a_search_killed_in_the_middle_goes_on_where_it_stopped(project: Path, program: Program) -> None:
    folder = study_folder(load_config("small.yaml"))
    process = start("small.yaml", "--trials", "60")
    wait_for(folder, 5, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = trials_of(folder)
    over = [trial for trial in before if trial[1] != "RUNNING"]
    assert 5 <= len(over) < 60
    total = len(over) + 3
    done = program("search.py", "small.yaml", "--trials", str(total))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-3:] == [done.stdout.split()[-3], "of", str(total)]
    after = trials_of(folder)
    assert after[: len(over)] == over
    assert len(re.findall(r"(?m)^search.py: trial \d", done.stderr)) == 3
    assert [state for _, state, _ in after].count("RUNNING") == 0
    # What was being tried when it was killed is tried again.
    for _, state, settings in before:
        if state == "RUNNING" and settings:
            assert settings in [tried for number, _, tried in after if number >= len(before)]
    assert not list(folder.glob("*.alive"))


@pytest.mark.slow
def test_two_searches_at_once_on_a_new_store_share_the_work(project: Path) -> None:
    both = [start("small.yaml", "--trials", "16") for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    trials = trials_of(study_folder(load_config("small.yaml")))
    assert len(trials) == 16
    assert [number for number, _, _ in trials] == list(range(16))
    assert {state for _, state, _ in trials} <= {"COMPLETE", "PRUNED"}
    here, there = (len(re.findall(r"(?m)^search.py: trial \d", stderr)) for _, stderr in said)
    assert here + there == 16
    assert load_config("models/small.best.yaml")


def test_another_recipe_or_corpus_is_another_study(project: Path, small_corpus: Corpus) -> None:
    config = load_config("small.yaml")
    name = study_name(config, small_corpus)
    assert study_name(load_config("small.yaml", ["n_jobs=2", "output=elsewhere"]), small_corpus) == name
    others = [
        (load_config("small.yaml", ["seed=1"]), small_corpus),
        (load_config("small.yaml", ["features.sublinear_tf=true"]), small_corpus),
        (load_config("small.yaml", ["search.classifier.C=[1.0]"]), small_corpus),
        (config, small_corpus.select(range(20))),
    ]
    assert len({study_name(*other) for other in others} | {name}) == 5


def test_terms_are_counted_once_for_all_trials_and_searches(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from duanti import search as module

    counted: list[object] = []
    count_terms = module.count_terms

    def counting(texts: object, options: object, *rest: object) -> object:
        counted.append(options)
        return count_terms(texts, options, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "count_terms", counting)
    monkeypatch.setattr(module, "cache_folder", lambda: project / "cache")
    config = load_config("small.yaml", ["search.features.characters=[[1, 2]]"])
    searched(config, 5)
    assert len(counted) == 2  # words, characters
    searched(load_config("small.yaml", ["search.features.characters=[[1, 2]]", "seed=3"]), 5)
    assert len(counted) == 2


def test_settings_that_leave_nothing_are_no_end(project: Path) -> None:
    told, standing = searched(load_config("small.yaml", ["search.features.min_df=[1, 24]"]), 10)
    assert any(trial.fault and "no word terms remain" in trial.fault for trial in told)
    assert standing.best is not None
    assert standing.best.settings["features.min_df"] == 1
    with pytest.raises(DataError, match="none of 10 trials could be fitted"):
        searched(load_config("small.yaml", ["search.features.min_df=[24]"]), 10)


@pytest.mark.slow
def test_trials_are_runs_below_one_run_for_the_search(project: Path, program: Program) -> None:
    mlflow = pytest.importorskip("mlflow")
    for trials in ("2", "3"):
        assert program("search.py", "small.yaml", "--trials", trials, "tracking.enabled=true").returncode == 0
    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("small").experiment_id])
    (parent,) = [each for each in runs if "duanti.search" in each.data.tags]
    children = [each for each in runs if each.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(runs) == 4
    assert {each.info.run_name for each in children} == {"trial 0", "trial 1", "trial 2"}
    assert {each.info.status for each in runs} == {"FINISHED"}
    for child in children:
        assert {"macro_f1", "accuracy", "seconds"} <= set(child.data.metrics)
        assert child.data.params["classifier.kind"] in ('"linear_svc"', '"complement_nb"')
    assert parent.data.metrics["best.accuracy"] == max(child.data.metrics["accuracy"] for child in children)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("features.charactrs: [[1, 2]]", "unknown key search.features.charactrs. Did you mean characters?"),
        ("features.characters: [[2, 1]]", "search.features.characters is [2, 1]; the shortest length comes first"),
        ("features.min_df: {low: 1, high: 0.9}", "goes from a whole number to a fraction"),
        ("features.hmm: true", "search.features.hmm is true; give a list of choices, or a range"),
        ("features.words: []", "search.features.words is []; give at least one value to try"),
        ("classifier.C: {low: 0.5, high: 0.1}", "low must be less than high"),
        ("classifier.C: {low: 0, high: 1, log: true}", "low must be above 0 where log is true"),
        ("classifier.C: {low: -1.0, high: 1.0}", "search.classifier.C is -1.0; it should be greater than 0"),
        ("classifier.C: {low: 0.1, high: 1.0, logs: true}", "unknown key search.classifier.C.logs. Did you mean log?"),
        ("classifier.alpha: [0.1]", "unknown key search.classifier.alpha. Known here: "),
        ("classifier.kind: [svm]", "search.classifier.kind has 'svm'; use some of linear_svc"),
        ("classifier.kind: [blend]", "search.classifier.kind tries blend, which has no members"),
        ("classifier.members[0].C: [1.0]", "is no setting of a member"),
        ("data.train: [a, b]", "search.data.train is not searched"),
        ("metric: f1", "search.metric is 'f1'; use one of 'macro_f1', 'accuracy' or 'micro_f1'"),
        ("metrik: accuracy", "unknown key search.metrik. Did you mean metric?"),
    ],
)
def test_a_fault_of_the_section_is_told_with_its_place(tmp_path: Path, line: str, said: str) -> None:
    recipe = tmp_path / "faulty.yaml"
    recipe.write_text(f"data: {{train: x}}\nsearch:\n  {line}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(recipe)
    faults = str(caught.value).splitlines()[1:]
    assert any(fault.strip().startswith(f"{recipe}, line 3: ") and said in fault for fault in faults), faults


def test_all_faults_of_the_section_are_told_with_the_others(tmp_path: Path) -> None:
    recipe = tmp_path / "faulty.yaml"
    recipe.write_text("data: {train: 1}\nsearch:\n  features.word: [1]\n  classifier.C: [0.0]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="4 faults"):
        load_config(recipe, ["search.features.norm=[l3]"])


def test_a_setting_may_be_written_either_way_but_not_twice(tmp_path: Path) -> None:
    recipe = tmp_path / "twice.yaml"
    recipe.write_text("data: {train: x}\nsearch:\n  classifier: {C: [1.0]}\n", encoding="utf-8")
    assert load_config(recipe).search.space == {"classifier.C": (1.0,)}
    assert load_config(recipe, ["search.classifier.C=[2.0]"]).search.space == {"classifier.C": (2.0,)}
    recipe.write_text(recipe.read_text(encoding="utf-8") + "  classifier.C: [2.0]\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"line 4: search\.classifier\.C is given twice"):
        load_config(recipe)


def test_fit_passes_over_the_section(project: Path) -> None:
    config = load_config("small.yaml")
    Path("plain.yaml").write_text(RECIPE.partition("search:")[0], encoding="utf-8")
    assert config.recipe() == load_config("plain.yaml").recipe()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["plain.yaml"], 2, "nothing to search. Give the recipe a section search"),
        (["small.yaml", "--trials", "0"], 2, "--trials 0: give a number above 0"),
        (["small.yaml", "data.train=nowhere.jsonl"], 1, "nowhere.jsonl: no such file"),
        (["small.yaml", "--trials", "1", "-o", "corpus.jsonl/best.yaml"], 1, "cannot be written"),
        (["small.yaml", "--trials", "1", "output=damaged"], 1, "Remove the folder to begin anew"),
    ],
)
def test_a_fault_is_one_line(project: Path, program: Program, arguments: list[str], code: int, said: str) -> None:
    Path("plain.yaml").write_text(RECIPE.partition("search:")[0], encoding="utf-8")
    Path("damaged/.small.search").mkdir(parents=True)
    Path("damaged/.small.search/trials.db").write_bytes(b"no database" * 1000)
    done = program("search.py", *arguments)
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if ": trial 0:" not in line]
    assert len(lines) == 1, done.stderr
    assert said in lines[0]
    assert done.stdout == ""
