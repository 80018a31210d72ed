"""Behaviour of the starter model: what a newcomer sees after `make quickstart`."""

import subprocess
import sys
from pathlib import Path

import pytest

from duanti import TopicModel, evaluate, read_corpus

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter model, trained as the README says but for where it is written."""
    output = tmp_path_factory.mktemp("models")
    command = [sys.executable, "train/fit.py", "configs/starter.yaml", f"output={output}", "tracking.enabled=false"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return output / "starter"


@pytest.fixture(scope="module")
def starter(bundle: Path) -> TopicModel:
    return TopicModel.load(bundle)


def test_it_names_the_paragraphs_of_the_starter_article(starter: TopicModel) -> None:
    text = (ROOT / "data" / "starter" / "article.txt").read_text(encoding="utf-8")
    labelled = starter.predict_document(text)
    assert [prediction.topic for _, prediction in labelled] == ["时政", "农业", "教育", "健康", "财经", None, None]


@pytest.mark.parametrize(
    ("text", "topics"),
    [
        ("曼联客场2-1逆转阿森纳 门将扑出点球", {"体育"}),
        ("沪指跌破三千点 券商板块领跌", {"财经"}),
        ("考研国家线公布 复试调剂系统开通", {"教育"}),
        ("均价两万三 地铁口三居室今日开盘", {"房产"}),
        ("新版本资料片公测 副本掉落橙色装备", {"游戏"}),
        ("潜艇与护卫舰在某海域展开反潜演练", {"军事"}),
        ("联合国安理会就停火决议举行表决", {"国际"}),
        ("糖尿病患者如何控制餐后血糖", {"健康"}),
        ("人民法院应当自收到起诉状之日起七日内立案", {"法治"}),
        ("小麦条锈病防治关键期已到 农技员下田指导", {"农业"}),
        ("生态环境部通报污水处理厂超标排放", {"环境"}),
    ],
)
def test_it_names_what_nobody_would_doubt(starter: TopicModel, text: str, topics: set[str]) -> None:
    assert starter.predict([text])[0].topic in topics


def test_its_probabilities_keep_their_promise_on_the_test_documents(starter: TopicModel) -> None:
    report = evaluate(starter, read_corpus(ROOT / "data" / "starter" / "test.jsonl"), resamples=100)
    assert report.accuracy > 0.75
    assert report.expected_calibration_error < 0.05


def test_a_real_article_is_labelled_whole(starter: TopicModel, corpora: Path) -> None:
    text = (corpora / "article.txt").read_text(encoding="utf-8")
    labelled = starter.predict_document(text)
    assert [paragraph.kind for paragraph, _ in labelled] == ["lead", *["body"] * 4, "boilerplate"]
    assert {prediction.topic for _, prediction in labelled[:5]} <= {"法治", "时政"}
    assert labelled[5][1].topic is None
    assert all(text[p.start : p.end] == p.text for p, _ in labelled)


def test_it_names_real_headlines_it_never_saw(bundle: Path, corpora: Path) -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        from starter import share_right
    finally:
        sys.path.pop(0)
    right, rows = share_right(TopicModel.load(bundle), read_corpus(corpora / "thucnews" / "dev.jsonl.gz"))
    assert sum(rows.values()) == 10_000
    assert sum(right.values()) / sum(rows.values()) >= 0.65


@pytest.mark.long
def test_the_headlines_recipe_reaches_its_figure(corpora: Path, tmp_path: Path) -> None:
    data = corpora / "thucnews"
    overrides = [f"data.train={data}/train.jsonl.gz", f"data.test={data}/dev.jsonl.gz", f"output={tmp_path}"]
    command = [sys.executable, "train/fit.py", "configs/headlines.yaml", *overrides, "tracking.enabled=false"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert TopicModel.load(tmp_path / "headlines").provenance["metrics"]["accuracy"] >= 0.905


def test_labelling_an_article_takes_less_than_300_megabytes(bundle: Path) -> None:
    code = (
        "import re, sys; from duanti.cli import main; assert main() == 0;"
        # Not what getrusage says: that has the peak of the process this one was forked from.
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read());"
        "print(int(peak[1]) // 1024, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, "predict", str(bundle), str(ROOT / "data" / "starter" / "article.txt")]
    subprocess.run(command, check=True, capture_output=True)  # compiling, where nothing is compiled yet, takes more
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stderr.split()[-1]) < 300
