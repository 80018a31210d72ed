"""Texts with several topics or none, from the corpus to the rows that tell of them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import accuracy_score, f1_score, hamming_loss, ndcg_score, precision_recall_fscore_support
from sklearn.multiclass import OneVsRestClassifier

from duanti import ConfigError, Corpus, DataError, TopicModel, evaluate, fit_topic_model, load_config, read_corpus
from duanti.classifiers import NaiveBayesSVM, fit_one_vs_rest, make_classifier
from duanti.cli import main
from duanti.config import RunConfig
from duanti.corpus import join_topics
from duanti.evaluation import MultiLabelReport, compare_sets
from duanti.jobs import Account
from duanti.model import Prediction
from duanti.multi_label import cases_of_sets, confusion_of_sets, rank_figures, set_figures
from duanti.overview import view_document
from duanti.pipeline import gold_of, make_vectorizer
from duanti.predict import Labelled, PredictOptions, label_texts, row_schema
from duanti.serving import ServedModel

ROOT = Path(__file__).parent.parent
Program = Callable[..., "subprocess.CompletedProcess[str]"]

# Sentences of a town's weekly paper: a text has one of each of its topics, and one that speaks of nothing in between.
SAID = {
    "财经": [
        "县里两家银行下调了小微企业的贷款利率。",
        "前三季度全县税收同比增长百分之六。",
        "园区企业发行了五年期债券。",
        "商户反映电费补贴已经到账。",
        "本地两只股票周五收盘上涨。",
        "新办的担保公司为果农提供融资。",
    ],
    "体育": [
        "县足球队客场两球取胜。",
        "半程马拉松将有三千名选手参赛。",
        "少年队在省羽毛球赛上夺得银牌。",
        "球队主教练表示将轮换阵容。",
        "龙舟比赛推迟到端午之后。",
        "新建的篮球场周末对外开放。",
    ],
    "教育": [
        "第三小学新学期增加了四个班级。",
        "中考成绩将于下周公布。",
        "老师利用暑假为学生补习作文。",
        "职业学校开设了护理专业。",
        "乡村教师的住房补贴提高了。",
        "图书角进了每一间教室。",
    ],
    "医疗": [
        "县医院的门诊楼开始接诊。",
        "流感疫苗本周起可以预约接种。",
        "村医上门为老人测量血压。",
        "医保报销比例提高到七成。",
        "急诊科医生提醒市民防中暑。",
        "康复科引进了两台新设备。",
    ],
    "环境": [
        "河道清淤工程完成了一半。",
        "空气质量优良天数有所增加。",
        "垃圾分类站点覆盖了所有街道。",
        "造林三千亩，水土流失得到控制。",
        "化工厂的污水经处理后达标排放。",
        "湿地公园里来了候鸟。",
    ],
}
BETWEEN = [
    "记者昨日到现场看了看。",
    "有关负责人作了说明。",
    "群众对此反映不一。",
    "下一步还有不少事要做。",
    "这是今年的第二次。",
]


def written(n_rows: int, seed: int) -> Corpus:
    """Texts of none to three topics, some of them paragraphs of one document."""
    random = Random(seed)
    texts, topics = [], []
    for _ in range(n_rows):
        own = random.sample(sorted(SAID), random.choices((0, 1, 2, 3), (1, 4, 3, 1))[0])
        sentences = [random.choice(SAID[topic]) for topic in own] + random.sample(BETWEEN, 2)
        random.shuffle(sentences)
        texts.append("".join(sentences))
        topics.append(join_topics(own))
    documents = [f"第{row // 3}期" if row % 2 else None for row in range(n_rows)]
    return Corpus("weekly", texts, topics, documents, multi_label=True)


def config_of(**entries: Any) -> RunConfig:
    given = {"name": "weekly", "multi_label": True, "data": {"train": "given"}, "n_jobs": 1}
    return RunConfig.model_validate({**given, **entries})


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return written(240, 1)


@pytest.fixture(scope="module")
def model(corpus: Corpus) -> TopicModel:
    return fit_topic_model(config_of(), corpus)


@pytest.fixture(scope="module")
def bundle(model: TopicModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "weekly"
    model.save(folder)
    return folder


def as_lines(corpus: Corpus) -> str:
    """The corpus as JSON lines."""
    rows = zip(corpus.texts, corpus.topic_sets, corpus.documents, strict=True)
    told = [{"text": text, "topic": list(topics), "document": document} for text, topics, document in rows]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in told)


# The corpus


def test_every_format_holds_the_same_sets_of_topics(tmp_path: Path) -> None:
    texts, sets = ["股市大涨", "球队赢了", "天晴", "考试"], [["财经", "体育"], ["体育"], [], ["教育", "教育", "财经"]]
    rows = [{"text": text, "topic": topics} for text, topics in zip(texts, sets, strict=True)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    cells = "".join(f"{row['text']},{' | '.join(row['topic'])}\n" for row in rows)
    (tmp_path / "c.csv").write_text("text,topic\n" + cells, encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    labels = ("".join(f"__label__{topic} " for topic in row["topic"]) + str(row["text"]) for row in rows)
    (tmp_path / "c.txt").write_text("\n".join(labels), encoding="utf-8")
    corpora = [read_corpus(tmp_path / f"c.{ending}", multi_label=True) for ending in ("jsonl", "csv", "parquet", "txt")]
    for corpus in corpora:
        assert corpus.texts == texts
        assert corpus.topic_sets == [("体育", "财经"), ("体育",), (), ("教育", "财经")]
        assert corpus.topic_counts == {"体育": 2, "教育": 1, "财经": 2}
    assert len({corpus.digest for corpus in corpora}) == 1


def test_a_folder_per_topic_and_a_null_are_sets_too(tmp_path: Path) -> None:
    (tmp_path / "folder" / "财经").mkdir(parents=True)
    (tmp_path / "folder" / "财经" / "1.txt").write_text("股市", encoding="utf-8")
    assert read_corpus(tmp_path / "folder", multi_label=True).topic_sets == [("财经",)]
    (tmp_path / "null.jsonl").write_text('{"text": "天晴", "topic": null}\n', encoding="utf-8")
    assert read_corpus(tmp_path / "null.jsonl", multi_label=True).topic_sets == [()]


@pytest.mark.parametrize(
    ("name", "content", "multi_label", "what"),
    [
        ("c.jsonl", '{"text": "a", "topic": ["b"]}\n', False, "line 1: 'topic' is a list, not a string. For several"),
        ("c.jsonl", '{"text": "a", "topic": ["b|c"]}\n', True, "line 1: 'topic' has '|' in a name"),
        ("c.jsonl", '{"text": "a", "topic": ["b", ""]}\n', True, "line 1: 'topic' is empty"),
        ("c.jsonl", '{"text": "a", "topic": [["b"]]}\n', True, "line 1: 'topic' is a list, not a string"),
        ("c.jsonl", '{"text": "a", "topic": true}\n', True, "line 1: 'topic' is true or false, not a string"),
        ("c.jsonl", '{"text": "a", "topic": {"b": 1}}\n', True, "line 1: 'topic' is an object, not a string"),
        ("c.csv", "text,topic\na,b||c\n", True, "line 2: 'topic' is empty"),
        (
            "c.txt",
            "__label__b __label__c a\n",
            False,
            "line 1: more than one topic. Keep one __label__ per line, or set",
        ),
        ("c.txt", "__label__b __label__c\n", True, "line 1: 'text' is empty"),
    ],
)
def test_a_row_that_cannot_be_a_set_is_named(
    tmp_path: Path, name: str, content: str, multi_label: bool, what: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_corpus(tmp_path / name, multi_label=multi_label)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_split_holds_out_its_share_of_every_topic(corpus: Corpus) -> None:
    rest, held_out = corpus.split(0.25, 0)
    assert rest.multi_label
    assert held_out.multi_label
    for topic, rows in corpus.topic_counts.items():
        assert held_out.topic_counts[topic] == pytest.approx(rows / 4, abs=4)
    without = sum(not topics for topics in corpus.topic_sets)
    assert sum(not topics for topics in held_out.topic_sets) == pytest.approx(without / 4, abs=6)


# The recipe


def test_all_that_does_not_go_with_several_topics_is_told_at_once(tmp_path: Path) -> None:
    recipe = {
        "multi_label": True,
        "context": "sequence",
        "data": {"train": "x"},
        "decision": {"tune": "macro_f1", "precision": 0.9, "coverage": 0.9},
        "classifier": {
            "kind": "blend",
            "stacking": 60,
            "members": [{"kind": "low_rank"}, {"kind": "ridge", "damping": 0.5}],
        },
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "r.yaml")
    head, *faults = str(caught.value).splitlines()
    assert head.endswith("7 faults")
    expected = [
        "line 2: context is 'sequence'; with multi_label it must be none",
        "line 6: decision.tune is 'macro_f1'; with multi_label it must be null",
        "line 7: decision.precision is 0.9; with multi_label it must be null",
        "line 8: decision.coverage is 0.9; with multi_label it must be null",
        "classifier.stacking is 60.0; with multi_label it must be null",
        "classifier.members[0].kind is 'low_rank'; with multi_label use another",
        "classifier.members[1].damping is 0.5; with multi_label it must be 0",
    ]
    assert all(said in fault for said, fault in zip(expected, faults, strict=True))


def test_micro_f1_is_searched_for_only_where_it_is_not_accuracy() -> None:
    assert config_of(search={"metric": "micro_f1"}).search.metric == "micro_f1"
    with pytest.raises(ValueError, match="where each text has one topic that is accuracy"):
        config_of(multi_label=False, search={"metric": "micro_f1"})


# Training


def test_gold_is_an_indicator_by_topic(corpus: Corpus) -> None:
    gold = gold_of(corpus)
    assert gold.shape == (len(corpus), len(SAID))
    assert dict(zip(corpus.topic_counts, gold.sum(axis=0).tolist(), strict=True)) == corpus.topic_counts
    assert [tuple(np.array(list(corpus.topic_counts))[row]) for row in gold] == list(corpus.topic_sets)


@pytest.mark.parametrize(
    "classifier",
    [
        {"kind": "linear_svc"},
        {"kind": "logistic_regression", "class_weight": "balanced"},
        {"kind": "ridge"},
        {"kind": "sgd", "loss": "log_loss"},
        {"kind": "complement_nb"},
        {"kind": "multinomial_nb"},
    ],
    ids=lambda classifier: str(classifier["kind"]),
)
def test_the_frozen_matrix_is_scikit_learns_one_vs_rest(corpus: Corpus, classifier: dict[str, Any]) -> None:
    config, gold = config_of(classifier=classifier), gold_of(corpus)
    X = make_vectorizer(config).fit_transform(corpus.texts)
    member: Any = config.classifier
    weights, bias = fit_one_vs_rest(member, 0, X, gold, np.ones(X.shape[1], np.float32))
    theirs = OneVsRestClassifier(make_classifier(member, 0)).fit(X, gold)
    if hasattr(theirs.estimators_[0], "decision_function"):
        expected = theirs.decision_function(X)
    else:
        expected = np.column_stack([each.predict_joint_log_proba(X) @ [-1, 1] for each in theirs.estimators_])
    np.testing.assert_allclose(X @ weights.astype(np.float64) + bias, expected, atol=5e-5)


def test_an_nb_svm_of_each_topic_is_the_one_of_that_topic_by_itself(corpus: Corpus) -> None:
    config, gold = config_of(classifier={"kind": "nb_svm"}), gold_of(corpus)
    X = make_vectorizer(config).fit_transform(corpus.texts)
    member: Any = config.classifier
    weights, bias = fit_one_vs_rest(member, 0, X, gold, np.ones(X.shape[1], np.float32))
    for topic, has in enumerate(gold.T):
        alone = NaiveBayesSVM(C=member.C, alpha=member.alpha, random_state=0).fit(X, has).decision_function(X)
        np.testing.assert_allclose(X @ weights[:, topic] + bias[topic], alone[:, 1] - alone[:, 0], atol=1e-4)


@pytest.mark.parametrize(
    "classifier",
    [
        {"kind": "linear_svc"},
        {"kind": "nb_svm", "min_df": 2},
        {"kind": "blend", "members": [{"kind": "linear_svc"}, {"kind": "complement_nb"}]},
        {"kind": "blend", "members": [{"kind": "ridge"}, {"kind": "multinomial_nb"}], "weights": [2.0, 1.0]},
    ],
    ids=["linear_svc", "nb_svm", "learned", "weighed"],
)
def test_topics_of_new_texts_are_found(corpus: Corpus, classifier: dict[str, Any]) -> None:
    report = evaluate(fit_topic_model(config_of(classifier=classifier), corpus), written(120, 2), resamples=100)
    assert isinstance(report, MultiLabelReport)
    assert report.micro_f1 > 0.95
    assert report.macro_f1 > 0.95
    assert report.without_topic > 0


def test_probabilities_are_the_sigmoids_of_scores_and_not_shares(model: TopicModel, corpus: Corpus) -> None:
    scores, probabilities = model.scores(corpus.texts), model.probabilities(corpus.texts)
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-scores)), atol=1e-12)
    assert probabilities.sum(axis=1).max() > 1.5
    assert probabilities.sum(axis=1).min() < 0.5
    assert model.is_multi_label
    assert model.thresholds is not None
    assert ((model.thresholds > 0) & (model.thresholds < 1)).all()


def test_an_explanation_adds_up_to_the_log_odds(model: TopicModel) -> None:
    text = SAID["财经"][0] + SAID["体育"][1]
    np.testing.assert_allclose(model.explain(text).scores, model.scores([text])[0], atol=1e-6)


def test_the_number_of_processes_changes_nothing(corpus: Corpus, model: TopicModel) -> None:
    two = fit_topic_model(config_of(n_jobs=2), corpus)
    np.testing.assert_array_equal(two.weights, model.weights)
    np.testing.assert_array_equal(two.thresholds, model.thresholds)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("topics", "what"), [(["", ""], "none of 2 rows has a topic"), (["甲", "甲|乙"], "all 2 rows have the topic '甲'")]
)
def test_topics_that_cannot_be_learnt_are_refused(topics: list[str], what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        fit_topic_model(config_of(), Corpus("c", ["股市大涨", "球队赢了"], topics, [None, None], multi_label=True))
    assert "\n" not in str(caught.value)


def test_one_topic_or_none_and_a_topic_of_one_row_are_enough(corpus: Corpus) -> None:
    texts = ["股市大涨", "球队赢了", "股市下跌", "学校开学"]
    one = fit_topic_model(config_of(), Corpus("c", texts, ["财经", "", "财经", ""], [None] * 4, multi_label=True))
    assert one.topics == ("财经",)
    assert [prediction.topics for prediction in one.predict(["股市", "球队"])] == [("财经",), ()]
    together = Corpus("c", texts, ["财经", "", "财经", ""], ["d"] * 4, multi_label=True)  # no fold to hold out
    assert fit_topic_model(config_of(), together).thresholds == pytest.approx([0.5])
    rare = Corpus(
        "c", [*corpus.texts, "台风登陆"], [*corpus.topics, "天气"], [*corpus.documents, None], multi_label=True
    )
    assert "天气" in fit_topic_model(config_of(), rare).topics


# Predicting


def test_a_text_has_the_topics_from_their_thresholds_on(model: TopicModel) -> None:
    texts = written(80, 3).texts
    told, probabilities = model.predict(texts, top=2), model.probabilities(texts)
    assert {len(each.topics or ()) for each in told} >= {0, 1, 2, 3}
    for each, likely in zip(told, probabilities, strict=True):
        own = {topic: p for topic, p, least in zip(model.topics, likely, model.thresholds, strict=True) if p >= least}  # type: ignore[arg-type]
        assert each.topics == tuple(sorted(own, key=lambda topic: -own[topic]))
        if not own:
            assert (each.topic, each.probability, each.alternatives) == (None, None, ())
            continue
        assert (each.topic, each.probability) == (each.topics[0], own[each.topics[0]])
        # The alternatives begin with the other topics it has, however many are asked for.
        ranked = [other.topic for other in each.alternatives]
        assert ranked[: len(own) - 1] == list(each.topics[1:])
        assert len(ranked) == max(len(own), 2) - 1


def test_a_topic_below_its_threshold_stands_behind_all_that_are_told(model: TopicModel) -> None:
    scores = np.log(np.array([[0.7, 0.3, 0.6, 0.1, 0.2]]) / (1 - np.array([[0.7, 0.3, 0.6, 0.1, 0.2]])))
    picky = TopicModel(**{**vars(model), "thresholds": np.array([0.9, 0.2, 0.5, 0.5, 0.5])})
    decisions = picky.decide_scores(scores, np.array([3]), top=4)
    assert decisions.topics.tolist() == [[2, 1, 0, 4]]
    assert decisions.told is not None
    assert decisions.told.tolist() == [2]


def test_a_text_without_a_known_term_has_no_topics(model: TopicModel) -> None:
    for prediction in model.predict(["", None, "ξ"]):
        assert prediction == Prediction(None, None, (), 0, ())


def test_a_saved_model_tells_the_same_and_is_plain_data(model: TopicModel, bundle: Path) -> None:
    texts = written(40, 4).texts
    again = TopicModel.load(bundle)
    assert again.predict(texts) == model.predict(texts)
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["link"] == "sigmoid"
    np.testing.assert_array_equal(np.load(bundle / "thresholds.npy", allow_pickle=False), model.thresholds)


@pytest.mark.parametrize("top", [1, 3])
def test_output_rows_tell_what_predict_does(model: TopicModel, top: int) -> None:
    texts = [*written(60, 5).texts, "", None]
    batch = label_texts(model, texts, [None] * len(texts), PredictOptions("text", top))
    assert batch.schema.equals(row_schema(model))
    for row, expected in zip(batch.to_pylist(), model.predict(texts, top=top), strict=True):
        assert tuple(row["topics"]) == expected.topics
        assert (row["topic"], row["probability"]) == (expected.topic, expected.probability)
        assert [tuple(other.values()) for other in row["alternatives"]] == [tuple(o) for o in expected.alternatives]


def test_rows_do_not_depend_on_which_others_are_labelled_with_them(model: TopicModel) -> None:
    texts = written(60, 5).texts
    together = label_texts(model, texts, [None] * len(texts), PredictOptions("text", 1)).to_pylist()
    alone = [label_texts(model, [text], [None], PredictOptions("text", 1)).to_pylist()[0] for text in texts]
    names = ("topic", "probability", "alternatives", "topics")
    assert [[row[name] for name in names] for row in together] == [[row[name] for name in names] for row in alone]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_job_writes_the_list_of_topics(bundle: Path, model: TopicModel, tmp_path: Path, ending: str) -> None:
    corpus = written(30, 6)
    (tmp_path / "in.jsonl").write_text(as_lines(corpus), encoding="utf-8")
    output = tmp_path / f"out.{ending}"
    arguments = [str(tmp_path / "in.jsonl"), "-o", str(output), "--report", str(tmp_path / "report.json"), "--summary"]
    assert main(["predict", str(bundle), *arguments]) == 0
    if ending == "parquet":
        rows = pq.read_table(output).to_pylist()
    elif ending == "csv":
        import csv

        with output.open(encoding="utf-8", newline="") as file:
            rows = [{**row, "topics": json.loads(row["topics"] or "null")} for row in csv.DictReader(file)]
    else:
        rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    told = [row["topics"] for row in rows if row["kind"] != "document"]
    expected = [list(prediction.topics or ()) for prediction in model.predict(corpus.texts)]
    assert sorted(told) == sorted(expected)
    counted = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["topics"]
    assert {topic: entry["rows"] for topic, entry in counted.items()} == {
        topic: sum(topic in topics for topics in expected) for topic in sorted({t for own in expected for t in own})
    }


def test_an_account_counts_every_topic_of_a_row(model: TopicModel) -> None:
    text = SAID["财经"][0] + SAID["体育"][1]
    batch = label_texts(model, [text, ""], [None, None], PredictOptions("text"))
    account = Account()
    account.add(Labelled(batch, batch.column("document"), [], 2, 0, 0.0, 0.0, np.zeros(2, np.bool_)))
    assert account.topics == {"财经": 1, "体育": 1}
    assert (account.output_rows, account.without_topic) == (2, 1)


def test_the_mlflow_model_gives_the_list_and_its_signature_says_so(model: TopicModel) -> None:
    pytest.importorskip("mlflow")
    from duanti.tracking import _signature

    served = ServedModel(model).predict([SAID["财经"][0] + SAID["体育"][1], ""])
    assert sorted(served["topics"][0]) == ["体育", "财经"]
    assert served["topics"][1] == []
    assert [column.name for column in _signature(multi_label=True).outputs] == list(served.columns)
    assert "topics" not in [column.name for column in _signature(multi_label=False).outputs]


def test_a_document_at_a_glance_and_the_server_tell_the_list(model: TopicModel, small_model: TopicModel) -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from duanti.server import make_app

    text = SAID["财经"][0] + SAID["体育"][1]
    with TestClient(make_app(model)) as client:
        assert client.get("/").status_code == 200
        (paragraph,) = client.post("/api/predict", json={"text": text, "explain": True}).json()["paragraphs"]
        (prediction,) = client.post("/api/predict", json={"texts": [text]}).json()["predictions"]
    assert sorted(paragraph["topics"]) == sorted(prediction["topics"]) == ["体育", "财经"]
    assert view_document(model, text, explain=True).as_dict()["paragraphs"] == [paragraph]
    with TestClient(make_app(small_model)) as client:
        (single,) = client.post("/api/predict", json={"texts": ["股市"]}).json()["predictions"]
    assert "topics" not in single


# Figures


@pytest.fixture(scope="module")
def judged() -> Any:
    """Gold, told and probabilities of 300 rows and 6 topics, the last of them nowhere."""
    random = np.random.default_rng(7)
    gold = random.random((300, 6)) < [0.5, 0.3, 0.2, 0.1, 0.02, 0]
    probabilities = np.clip(0.6 * gold + random.normal(0.2, 0.25, gold.shape), 0.001, 0.999)
    probabilities[:, 5] = 0.0005
    return gold, probabilities >= 0.5, probabilities


def test_figures_of_sets_equal_scikit_learns(judged: Any) -> None:
    gold, told, _ = judged
    (figures,) = set_figures(gold, told, [np.ones(len(gold), np.int64)])
    assert figures.accuracy == pytest.approx(accuracy_score(gold, told))
    assert figures.micro_f1 == pytest.approx(f1_score(gold, told, average="micro"))
    assert figures.macro_f1 == pytest.approx(f1_score(gold[:, :5], told[:, :5], average="macro", zero_division=0))
    assert figures.sample_f1 == pytest.approx(f1_score(gold, told, average="samples", zero_division=1.0))
    assert figures.hamming_loss == pytest.approx(hamming_loss(gold, told))


def test_figures_of_a_draw_are_those_of_its_rows(judged: Any) -> None:
    gold, told, _ = judged
    draw = np.random.default_rng(0).integers(0, 4, len(gold))
    rows = np.repeat(np.arange(len(gold)), draw)
    drawn, taken = (next(set_figures(*given)) for given in ((gold, told, [draw]), (gold[rows], told[rows], [rows**0])))
    assert drawn == pytest.approx(taken)


def test_figures_of_order_equal_scikit_learns(judged: Any) -> None:
    gold, _, probabilities = judged
    has = gold.any(axis=1)
    figures = rank_figures(gold, probabilities)
    assert figures.ndcg == pytest.approx(ndcg_score(gold[has], probabilities[has], ignore_ties=True))
    three = np.argsort(-probabilities[has], axis=1)[:, :3]
    assert figures.precision_at_3 == pytest.approx(np.mean(np.take_along_axis(gold[has], three, axis=1)))
    assert figures.precision_at_1 == pytest.approx(np.mean(np.take_along_axis(gold[has], three[:, :1], axis=1)))
    assert rank_figures(np.zeros((3, 2), np.bool_), np.ones((3, 2))) == (0, 0, 0)


def test_nothing_to_tell_and_nothing_told_is_right() -> None:
    nothing = np.zeros((2, 3), np.bool_)
    (figures,) = set_figures(nothing, nothing, [np.ones(2, np.int64)])
    assert figures == (1, 0, 0, 1, 0)


def test_a_confusion_tells_what_stood_in_place_of_what_was_missed() -> None:
    gold = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0]], np.bool_)
    told = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0], [0, 1, 1]], np.bool_)
    np.testing.assert_array_equal(confusion_of_sets(gold, told), [[2, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_a_confusion_is_what_was_missed_times_what_was_wrongly_told(judged: Any) -> None:
    gold, told, _ = judged
    missed, wrong = (gold & ~told).astype(int), (told & ~gold).astype(int)
    expected = np.hstack([missed.T @ wrong, missed[~wrong.any(axis=1)].sum(axis=0)[:, None]])
    np.fill_diagonal(expected, (gold & told).sum(axis=0))
    np.testing.assert_array_equal(confusion_of_sets(gold, told), expected)


def test_each_case_of_a_confusion_is_a_topic_of_its_row(judged: Any) -> None:
    gold, told, _ = judged
    rows, right, instead = cases_of_sets(gold, told)
    assert len(rows) == confusion_of_sets(gold, told).sum()
    for row, of, by in zip(rows, right, instead, strict=True):
        wrong = np.flatnonzero(told[row] & ~gold[row])
        assert gold[row, of]
        assert (of == by) == told[row, of]
        assert of == by or (by in wrong if len(wrong) else by == 6)


def test_a_report_has_the_figures_by_topic_and_intervals_by_document(judged: Any) -> None:
    gold, told, probabilities = judged
    names = np.array(list("甲乙丙丁戊己"))
    topics = [join_topics(names[row]) for row in gold]
    predictions = [Prediction(None, None, (), 1, tuple(names[row])) for row in told]

    def report_of(documents: list[str | None]) -> MultiLabelReport:
        corpus = Corpus("gold", [f"文{row}" for row in range(len(gold))], topics, documents, multi_label=True)
        return compare_sets(corpus, predictions, list(names), probabilities, resamples=200)

    report = report_of([None] * len(gold))
    expected = precision_recall_fscore_support(gold, told, zero_division=0)
    for number, topic in enumerate(names):
        found = report.topics[topic]
        own = [part[number] for part in expected]
        assert [found.precision, found.recall, found.f1, found.rows] == pytest.approx(own)
    for name in ("accuracy", "micro_f1", "macro_f1", "sample_f1"):
        low, high = getattr(report, f"{name}_interval")
        assert low < getattr(report, name) < high
    # Three documents tell less than three hundred.
    low, high = report_of([f"d{row % 3}" for row in range(len(gold))]).accuracy_interval
    wide, narrow = high - low, report.accuracy_interval[1] - report.accuracy_interval[0]
    assert wide != narrow
    assert {"micro_f1", "micro_f1_interval", "ndcg", "topics", "confusion"} <= report.as_dict().keys()
    assert json.dumps(report.as_dict(), ensure_ascii=False)
    assert {"micro_f1_low", "sample_f1_high", "hamming_loss", "f1.000"} <= report.as_metrics().keys()


def test_a_topic_the_model_does_not_know_counts_as_missed(model: TopicModel, caplog: pytest.LogCaptureFixture) -> None:
    corpus = Corpus("gold", [SAID["财经"][0]], ["占星|财经"], [None], multi_label=True)
    report = evaluate(model, corpus, resamples=100)
    assert (report.topics["占星"].recall, report.topics["财经"].recall, report.accuracy) == (0, 1, 0)
    assert "占星" in caplog.text


def test_a_corpus_of_the_other_kind_is_refused(model: TopicModel, small_model: TopicModel, corpus: Corpus) -> None:
    with pytest.raises(DataError, match="Read the corpus with multi_label=True"):
        evaluate(model, Corpus("c", ["股市"], ["财经"], [None]))
    with pytest.raises(DataError, match="Read the corpus with multi_label=False"):
        evaluate(small_model, corpus)


# Programs


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "train.jsonl").write_text(as_lines(written(160, 1)), encoding="utf-8")
    (folder / "test.jsonl").write_text(as_lines(written(60, 2)), encoding="utf-8")
    recipe = {
        "multi_label": True,
        "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "n_jobs": 1,
        "evaluation": {"resamples": 100},
        "search": {"metric": "micro_f1", "classifier.C": [0.1, 1.0]},
    }
    (folder / "weekly.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return folder


def test_the_programs_and_commands_tell_what_goes_with_sets(
    project: Path, program: Program, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    fitted = program("fit.py", "weekly.yaml")
    assert fitted.returncode == 0, fitted.stderr
    for figure in ("micro-F1", "macro-F1", "Hamming loss", "precision at 3", "nDCG", "calibration error"):
        assert figure in fitted.stderr
    assert main(["evaluate", "models/weekly", "test.jsonl", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["micro_f1"] > 0.9
    manifest = json.loads((project / "models" / "weekly" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["metrics"]["micro_f1"] == told["micro_f1"]
    assert manifest["recipe"]["multi_label"] is True
    assert main(["inspect", "models/weekly"]) == 0
    assert "multi-label" in capsys.readouterr().out
    assert main(["inspect", "models/weekly", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["thresholds"]) == set(SAID)
    assert main(["drift", "models/weekly", "test.jsonl"]) in (0, 3)
    assert main(["explain", "models/weekly", "test.jsonl", "-o", "why.html"]) == 0
    pytest.importorskip("mlflow")
    compared = program("compare.py", "weekly")
    assert compared.returncode == 0
    assert "multi-label" in compared.stdout
    assert (compared.stdout + compared.stderr).count("Traceback") == 0


def test_a_search_finds_what_is_best_out_of_fold(
    project: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.chdir(project)
    found = program("search.py", "weekly.yaml", "--trials", "2", "tracking.enabled=false")
    assert found.returncode == 0, found.stderr
    assert "micro_f1 0.9" in found.stdout
    best = load_config(project / "models" / "weekly.best.yaml")
    assert best.multi_label


def test_what_to_label_next_is_refused_in_one_line(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suggest", str(bundle), str(ROOT / "data" / "starter" / "article.txt")]) == 1
    assert capsys.readouterr().err.startswith("duanti: the model is multi-label; what to label next")


def test_check_finds_topics_that_were_forgotten_and_invented(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = [set(own) for own in corpus.topic_sets]
    forgotten = next(row for row, own in enumerate(topics) if "财经" in own)
    invented = next(row for row, own in enumerate(topics) if own and "体育" not in own and row != forgotten)
    topics[forgotten] -= {"财经"}
    topics[invented] |= {"体育"}
    wrong = Corpus("wrong", corpus.texts, [join_topics(own) for own in topics], corpus.documents, multi_label=True)
    (tmp_path / "wrong.jsonl").write_text(as_lines(wrong), encoding="utf-8")
    assert main(["check", str(tmp_path / "wrong.jsonl"), "--multi-label", "--json", "--jobs", "1"]) == 0
    errors = json.loads(capsys.readouterr().out)["findings"]["label_error"]["first"][:2]
    assert {error["line"] - 1: error["suggested"] for error in errors} == {
        row: corpus.topics[row] for row in (forgotten, invented)
    }
    assert {tuple(error["probabilities"]) for error in errors} == {("财经",), ("体育",)}


def test_check_tells_of_sets_that_contradict(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        ("同一句话说了两遍", ["甲", "乙"]),
        ("同一句话说了两遍", ["甲"]),
        ("别的一句话", []),
        ("又一句不同的话", ["乙"]),
    ]
    lines = [json.dumps({"text": text, "topic": topics}, ensure_ascii=False) for text, topics in rows]
    (project / "twice.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert main(["check", str(project / "twice.jsonl"), "--multi-label", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["corpora"][0]["topics"] == {"乙": 2, "甲": 2}
    (contradiction,) = found["findings"]["contradicting_topics"]["first"]
    assert set(contradiction["topics"]) == {"乙|甲", "甲"}
    assert found["reliance"] is None
