"""Whether a model still sees what it was trained on."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from duanti import Corpus, DataError, TopicModel, fit_topic_model
from duanti.cli import main
from duanti.config import RunConfig
from duanti.drift import DriftReport, compare_profiles, divergence, stability_index
from duanti.predict import PredictOptions, label_source, profile_labelled
from duanti.readers import ReadOptions, find_sources

VOCABULARY = {"财经": "股市大涨基金收益央行利率银行债券", "体育": "球队比赛门将点球主场前锋教练冠军"}


def texts_of(seed: int, n: int, share: float = 0.5, other: str = "") -> list[tuple[str, str]]:
    """Texts of pairs of characters from two topics, and of another domain where one is given."""
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        topic = "财经" if random.random() < share else "体育"
        source = other or VOCABULARY[topic]
        pairs = [source[i : i + 2] for i in range(0, len(source), 2)]
        rows.append(("，".join(random.choice(pairs, 6)), topic))
    return rows


@pytest.fixture(scope="module")
def model() -> TopicModel:
    rows = texts_of(0, 400)
    corpus = Corpus("c", [text for text, _ in rows], [topic for _, topic in rows], [None] * len(rows))
    return fit_topic_model(RunConfig.model_validate({"name": "m", "data": {"train": "given"}, "n_jobs": 1}), corpus)


def drift_of(model: TopicModel, folder: Path, rows: list[tuple[str, str]]) -> DriftReport:
    (folder / "t.jsonl").write_text("\n".join(json.dumps({"text": text}) for text, _ in rows), encoding="utf-8")

    def labelled() -> Iterator[object]:
        for source in find_sources([str(folder / "t.jsonl")]):
            yield from label_source(model, source, ReadOptions(), PredictOptions(n_jobs=1))

    return compare_profiles(model.provenance["reference"], profile_labelled(model, labelled()), model.spaces)  # type: ignore[arg-type]


def verdicts(report: DriftReport) -> dict[str, str]:
    return {drift.figure: drift.verdict for drift in report.figures}


def test_texts_of_the_same_kind_are_stable(model: TopicModel, tmp_path: Path) -> None:
    for n in (50, 2000):
        report = drift_of(model, tmp_path, texts_of(1, n))
        assert set(verdicts(report).values()) == {"stable"}
        assert report.verdict == "stable"
        assert report.rows == n


def test_another_mixture_of_topics_is_seen_in_the_topics(model: TopicModel, tmp_path: Path) -> None:
    report = drift_of(model, tmp_path, texts_of(1, 1000, share=0.95))
    assert verdicts(report)["topics"] == "drifted"
    assert verdicts(report)["unknown_terms"] == "stable"
    assert report.topics["财经"][1] == pytest.approx(0.95, abs=0.03)


def test_another_domain_is_seen_in_everything_but_perhaps_the_topics(model: TopicModel, tmp_path: Path) -> None:
    report = drift_of(model, tmp_path, texts_of(1, 1000, other="洪水水库堤防暴雨灾民疫苗病毒股市比赛"))
    found = verdicts(report)
    assert (found["confidence"], found["unknown_terms"], found["terms"]) == ("drifted",) * 3


def test_the_profile_of_training_is_out_of_fold_and_adds_up(model: TopicModel) -> None:
    reference = model.provenance["reference"]
    assert reference["rows"] == 400
    assert sum(reference["topics"].values()) + reference["without_topic"] == pytest.approx(1)
    assert sum(reference["confidence"]) == pytest.approx(1)
    assert 0 <= reference["unknown_terms"] < 0.05


def test_distances_are_those_worked_by_hand() -> None:
    by_hand = 0.3 * np.log(0.8 / 0.5) + (-0.3) * np.log(0.2 / 0.5)
    assert stability_index([0.5, 0.5], [0.8, 0.2], 10**9, 10**9) == pytest.approx(by_hand)
    assert stability_index([0.5, 0.5], [0.5, 0.5], 10, 10) == 0
    assert divergence(np.array([10**9, 0]), np.array([0, 10**9])) == pytest.approx(1)
    assert divergence(np.array([5, 5]), np.array([0, 0])) == 1
    p, q = np.array([3e8, 1e8]).astype(np.int64), np.array([1e8, 3e8]).astype(np.int64)
    expected = 0.75 * np.log2(0.75 / 0.5) + 0.25 * np.log2(0.25 / 0.5)
    assert divergence(p, q) == pytest.approx(expected, abs=1e-6)


def test_chance_is_no_drift() -> None:
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.ones(500))
    found = [divergence(random.multinomial(5000, shares), random.multinomial(3000, shares)) for _ in range(20)]
    assert np.mean(found) < 0.005


def test_the_command_ends_with_3_when_something_has_drifted(
    model: TopicModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model.save(tmp_path / "m")
    for name, rows in (("same", texts_of(1, 500)), ("other", texts_of(1, 500, share=0.99))):
        content = "\n".join(json.dumps({"text": text}) for text, _ in rows)
        (tmp_path / f"{name}.jsonl").write_text(content, encoding="utf-8")
    assert main(["drift", str(tmp_path / "m"), str(tmp_path / "same.jsonl"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "stable"
    assert main(["drift", str(tmp_path / "m"), str(tmp_path / "other.jsonl")]) == 3
    shown = capsys.readouterr().out
    assert "drifted" in shown
    assert "unknown terms" in shown
    assert main(["drift", str(tmp_path / "m"), str(tmp_path / "other.jsonl"), "--rows", "10", "--json"]) == 3


def test_nothing_to_compare_is_one_line(model: TopicModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model.save(tmp_path / "new")
    model.with_provenance(reference=None).save(tmp_path / "old")
    (tmp_path / "e.jsonl").touch()
    with pytest.raises(DataError, match="holds no text"):
        profile_labelled(model, [])
    assert main(["drift", str(tmp_path / "new"), str(tmp_path / "e.jsonl")]) == 1
    assert "nothing to compare" in capsys.readouterr().err
    assert main(["drift", str(tmp_path / "old"), str(tmp_path / "e.jsonl")]) == 1
    assert "Train it again" in capsys.readouterr().err
