"""Explanations: contributions that add up to the score, and spans that cut each term from the text as given."""

import sys
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duanti import Corpus, TopicModel, read_corpus
from duanti.explanation import Explanation
from duanti.features import FeatureOptions, count_terms, learn_space, load_tables, prepare
from duanti.lexicon import ZERO_WIDTH
from duanti.paragraphs import matter
from duanti.segmentation import CodePoints

STARTER = Path(__file__).parent.parent / "data" / "starter"
TEXTS = [
    "股市大涨，基金收益上升，央行下调利率。",
    "ＧＤＰ增长５％　　ＧＤＰ又增长５％",
    "球队\u200b赢了\ufeff比赛\t\t \n球队主场失利",
    "A股大涨 ΟΔΥΣΣΕΥΣ ΣΑΣ İstanbul ㈱ﷺ½ …… e\u0301 \r\n\r\n  Ａ股",
    "新华社北京4月9日电 (记者 张三) 学校开学了，学生参加考试。",
    "𝐆𝐃𝐏😀😀 的 的 的 股市",
]
OPTIONS = {
    "plain": FeatureOptions(),
    "normalized": FeatureOptions(normalize=True, sublinear_tf=True, characters=(1, 3)),
    "words": FeatureOptions(words=(1, 2), characters=None, stop_words=("的", "了", "，"), norm="l1"),
    "characters": FeatureOptions(words=None, characters=(2, 3), lowercase=False, norm=None, use_idf=False),
    "prefixes and length": FeatureOptions(characters=None, prefixes=(1, 3), text_length=True, normalize=True),
    "opening": FeatureOptions(words=(1, 2), opening=7, normalize=True, stop_words=("的",), sublinear_tf=True),
    "as given": FeatureOptions(words=(2, 3), lowercase=False, hmm=False, user_words=("股市大涨",)),
}


def model_of(options: FeatureOptions, texts: list[str]) -> TopicModel:
    """A model that knows every term of some texts, with weights at random."""
    tables = load_tables(options)
    spaces = tuple(map(learn_space, count_terms(list(map(matter, texts)), options, tables)))
    random = np.random.default_rng(0)
    weights = random.normal(size=(sum(map(len, spaces)), 3)).astype(np.float32)
    return TopicModel(("甲", "乙", "丙"), options, spaces, tables, weights, random.normal(size=3))


@pytest.fixture(scope="module", params=OPTIONS)
def model(request: pytest.FixtureRequest) -> TopicModel:
    return model_of(OPTIONS[request.param], TEXTS)


def check_sums(model: TopicModel, text: str) -> Explanation:
    explanation = model.explain(text)
    score = model.scores([text])[0]
    np.testing.assert_allclose(explanation.scores, score, atol=1e-9, rtol=0)
    known = [term for term in explanation.terms if term.kind != "text_length"]
    assert len(known) == model.predict([text])[0].known_terms
    for number, topic in enumerate(model.topics):
        characters = explanation.characters(topic)
        assert len(characters) == len(text)
        assert characters.sum() + explanation.bias[number] == pytest.approx(score[number], abs=1e-9)
    return explanation


def written(text: str, options: FeatureOptions) -> str:
    """A piece of text in the form terms have, spaces aside: by Python's own means."""
    if options.normalize:
        text = "".join("" if c in ZERO_WIDTH else unicodedata.normalize("NFKC", c) for c in text)
    return "".join((text.lower() if options.lowercase else text).split()).replace("ς", "σ")


@pytest.mark.parametrize("text", TEXTS)
def test_contributions_add_up_to_the_score(model: TopicModel, text: str) -> None:
    assert check_sums(model, text).terms


@pytest.mark.parametrize("text", TEXTS)
def test_spans_cut_the_term_from_the_text_as_given(model: TopicModel, text: str) -> None:
    for term in model.explain(text).terms:
        assert all(0 <= begin < end <= len(text) for begin, end in term.spans)
        pieces = [written(text[begin:end], model.options) for begin, end in term.spans]
        wanted = "".join(term.term.split()).replace("ς", "σ")
        if term.kind == "text_length":
            assert len("".join(pieces)) == int(wanted)
            continue
        # A form of several characters comes from one: then a span holds more than the term. Around stop words, less.
        holding = ["".join(pieces)] if model.options.stop_words else pieces
        assert [piece for piece in holding if wanted not in piece] == [], term


def test_every_place_of_a_term_is_told() -> None:
    model = model_of(OPTIONS["normalized"], TEXTS)
    spans = {(term.kind, term.term): term.spans for term in model.explain("ＧＤＰ，股\u200b市；gdp").terms}
    assert spans["word", "gdp"] == ((0, 3), (8, 11))
    assert spans["character", "股"] == ((4, 5),)
    assert spans["character", "股市"] == ((4, 7),)


def test_a_run_of_spaces_is_one_space_that_came_from_all_of_it() -> None:
    model = model_of(OPTIONS["plain"], ["股 市", "股\t\n 市"])
    spans = {term.term: term.spans for term in model.explain("股 \t　市").terms if term.kind == "character"}
    assert spans[" "] == ((1, 4),)
    assert spans["股 "] == ((0, 4),)


def test_a_prefix_stands_at_the_start_and_the_length_in_all_that_is_no_space() -> None:
    model = model_of(OPTIONS["prefixes and length"], ["股市大涨", "球 队"])
    spans = {(term.kind, term.term): term.spans for term in model.explain("新华社北京4月9日电 股市 大涨").terms}
    assert spans["prefix", "股市"] == ((11, 13),)
    assert spans["text_length", "4"] == ((11, 13), (14, 16))
    assert ("prefix", "股市大") not in spans


def test_terms_of_the_opening_stand_where_the_text_opens() -> None:
    model = model_of(FeatureOptions(opening=3), ["股市大涨，股市", "基金和股市"])
    spans = {(term.kind, term.term): term.spans for term in model.explain("股市大跌，股市").terms}
    assert spans["word", "股市"] == spans["character", "股市"] == ((0, 2), (5, 7))
    assert spans["opening_word", "股市"] == spans["opening_character", "股市"] == ((0, 2),)
    assert ("opening_character", "跌") not in spans


def test_the_length_of_a_text_alone_gives_it_no_topic() -> None:
    model = model_of(OPTIONS["prefixes and length"], ["股市大涨"])
    (told,) = model.predict(["龘靐齉龗"])
    assert (told.topic, told.known_terms) == (None, 0)
    assert [term.kind for term in model.explain("龘靐齉龗").terms] == ["text_length"]


def test_a_word_ngram_over_a_stop_word_stands_in_pieces() -> None:
    model = model_of(OPTIONS["words"], ["股市的基金", "股市基金"])
    spans = {term.term: term.spans for term in model.explain("股市的基金").terms}
    assert spans == {"股市": ((0, 2),), "基金": ((3, 5),), "股市 基金": ((0, 2), (3, 5))}
    spans = {term.term: term.spans for term in model.explain("股市基金").terms}
    assert spans["股市 基金"] == ((0, 4),)


def test_dateline_and_byline_add_nothing(small_model: TopicModel) -> None:
    text = "新华社北京4月9日电 股市大涨，球队赢了比赛。"
    explanation = check_sums(small_model, text)
    head = text.index("股")
    assert min(begin for term in explanation.terms for begin, _ in term.spans) == head
    assert not explanation.characters("财经")[:head].any()


@pytest.mark.parametrize("text", ["", "龘靐齉", "\u200b", "新华社北京4月9日电"])
def test_a_text_without_a_known_term_has_the_bias(small_model: TopicModel, text: str) -> None:
    explanation = check_sums(small_model, text)
    assert explanation.terms == ()
    assert explanation.strongest("财经") == []
    assert explanation.as_dict()["scores"] == explanation.as_dict()["bias"]


# What is most likely to be told wrongly: wide and composed forms, several characters from one, marks without width,
# sigma, spaces of all kinds, code points beyond the basic plane, lone surrogates.
_PIECES = [
    "股市",
    "球队",
    "Σ",
    "ΟΔΟΣ",
    "İ",
    "ß",
    "ﬃ",
    "㈱",
    "ﷺ",
    "½",
    "Ａ",
    "\u200b",
    "\ufeff",
    "e\u0301",
    "가",
    "が",
    "😀",
    "𝐀",
]
_SPACES = [" ", "  ", "\t", "\n", "\r\n", "\u3000", "\x1c", "\x85", "\u2028", "\xa0"]
_TEXT = st.lists(st.sampled_from([*_PIECES, *_SPACES, "\ud800", "的", "A1.5%"]) | st.characters(), max_size=30).map(
    "".join
)


@settings(deadline=None, max_examples=300)
@given(text=_TEXT, name=st.sampled_from(sorted(OPTIONS)))
def test_contributions_add_up_for_any_text(text: str, name: str) -> None:
    known = text.encode("utf-8", "replace").decode()  # a file's text: all of it can be known
    check_sums(model_of(replace(OPTIONS[name], user_words=()), [known or "股", "股市 球队"]), text)


def test_a_form_is_as_long_whatever_stands_beside_it() -> None:
    every = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    for options in (OPTIONS["plain"], OPTIONS["normalized"]):
        forms = load_tables(options).forms
        alone = np.diff(prepare(CodePoints.of(every), options, forms).offsets)
        by_sigma = np.diff(prepare(CodePoints.of([f"Σ{c}" for c in every]), options, forms).offsets)
        np.testing.assert_array_equal(alone + 1, by_sigma)


def test_contributions_add_up_for_every_text_of_a_corpus(small_corpus: Corpus) -> None:
    corpus = read_corpus(STARTER / "test.jsonl")
    model = model_of(OPTIONS["normalized"], corpus.texts[:500])
    seen = sum(bool(check_sums(model, text).terms) for text in [*small_corpus.texts, *corpus.texts])
    assert seen > 2000


@pytest.mark.long
def test_contributions_add_up_for_every_text_of_real_corpora(corpora: Path) -> None:
    for texts in _real_texts(corpora):
        model = model_of(OPTIONS["normalized"], texts[:2000])
        expected = model.scores(texts)
        for text, scores in zip(texts, expected, strict=True):
            np.testing.assert_allclose(model.explain(text).scores, scores, atol=1e-6, rtol=0)


def _real_texts(corpora: Path) -> Iterator[list[str]]:
    for name in ("tnews", "thucnews", "law_chapters"):
        yield read_corpus(sorted((corpora / name).glob("test*"))[0]).texts[:10_000]


def test_the_strongest_terms_speak_for_or_against(small_model: TopicModel) -> None:
    explanation = small_model.explain("股市大涨，球队赢了比赛")
    speaking_for, against = explanation.strongest("财经", 3), explanation.strongest("财经", 3, against=True)
    column = small_model.topics.index("财经")
    assert [term.contributions[column] > 0 for term in speaking_for] == [True] * 3
    assert [term.contributions[column] < 0 for term in against] == [True] * 3
    assert speaking_for[0].contributions[column] == max(term.contributions[column] for term in explanation.terms)


def test_plain_data_adds_up_too(small_model: TopicModel) -> None:
    told = small_model.explain("股市大涨，球队赢了比赛").as_dict(["财经"])
    assert list(told["scores"]) == ["财经"]
    total = told["bias"]["财经"] + sum(term["contributions"]["财经"] for term in told["terms"])
    assert total == pytest.approx(told["scores"]["财经"], abs=1e-12)


def test_an_unknown_topic_is_named(small_model: TopicModel) -> None:
    with pytest.raises(ValueError, match="no topic '天气'; there are"):
        small_model.explain("股市").characters("天气")
