"""What tests share: a small corpus, a model of it, and the folder of real corpora where there is one."""

import io
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest

from duanti import Corpus, TopicModel, fit_topic_model
from duanti.config import RunConfig
from duanti.tracking import track

SMALL = {
    "财经": [
        "股市大涨",
        "基金收益上升",
        "央行下调利率",
        "股票跌停",
        "银行发行债券",
        "股市成交放量",
        "基金经理减仓",
        "上市公司分红",
    ],
    "体育": [
        "球队赢了比赛",
        "门将扑出点球",
        "球队主场失利",
        "前锋梅开二度",
        "球员伤愈复出",
        "比赛进入加时",
        "教练换人",
        "冠军球队凯旋",
    ],
    "教育": [
        "学校开学",
        "高考分数线公布",
        "学生参加考试",
        "老师批改作业",
        "学校食堂",
        "考研报名开始",
        "学生选课",
        "大学录取通知书",
    ],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: on several processes nobody is left with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real corpora; where DUANTI_CORPORA names none, the test is skipped."""
    folder = os.environ.get("DUANTI_CORPORA")
    if not folder:
        pytest.skip("DUANTI_CORPORA is not set: no real corpora to test on")
    return Path(folder)


@pytest.fixture
def program() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Run a program of train/ by its name, with arguments, as a shell would.

    In this process: what a new one has to import takes longer than all that the tests ask for.
    """

    def run(name: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        printed, said, code = io.StringIO(), io.StringIO(), 0
        # mlflow leaves its store in the environment.
        with patch.dict(os.environ), patch.object(sys, "argv", [name, *arguments]):
            try:
                with redirect_stdout(printed), redirect_stderr(said):
                    runpy.run_path(str(Path(__file__).parent.parent / "train" / name), run_name="__main__")
            except SystemExit as end:
                code = int(end.code or 0)
        return subprocess.CompletedProcess([name, *arguments], code, printed.getvalue(), said.getvalue())

    return run


@pytest.fixture(scope="session")
def small_corpus() -> Corpus:
    """Three topics of eight texts; the first two of each topic stand in one document."""
    texts = [text for alike in SMALL.values() for text in alike]
    topics = [topic for topic, alike in SMALL.items() for _ in alike]
    documents = [f"d{row // 8}" if row % 8 < 2 else None for row in range(len(texts))]
    return Corpus("small", texts, topics, documents)


@pytest.fixture(scope="session")
def small_model(small_corpus: Corpus) -> TopicModel:
    """A model of the small corpus."""
    config = RunConfig.model_validate({"name": "small", "data": {"train": "given"}, "n_jobs": 1})
    return fit_topic_model(config, small_corpus)


@pytest.fixture(scope="session")
def logged(small_model: TopicModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run that logged the small model; the folder it is in."""
    pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("store")
    previous = Path.cwd()
    os.chdir(folder)
    try:
        (folder / "small.yaml").write_text("data: {train: given}\n", encoding="utf-8")
        small_model.save(folder / "models" / "small")
        config = RunConfig.model_validate(
            {"name": "small", "data": {"train": "given"}, "tracking": {"uri": f"sqlite:///{folder}/mlflow.db"}}
        )
        with track(config, folder / "small.yaml") as run:
            run.log_inputs(training=Corpus("c", ["文"], ["甲"], [None]))
            assert run.register_bundle(folder / "models" / "small", "small") == "small version 1, champion"
    finally:
        os.chdir(previous)
    return folder
