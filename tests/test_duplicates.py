"""Near duplicates: held against every pair, one by one."""

from itertools import combinations
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duanti.duplicates import canonical, group_texts, match_texts
from duanti.lexicon import normalize


def grams(text: str) -> set[str]:
    """The 3-grams of a text as it is compared, or the text where it is shorter."""
    compared = "".join(normalize(text).lower().split())
    return {compared[i : i + 3] for i in range(max(len(compared) - 2, 1))} - {""}


def jaccard(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 0.0


def components(texts: list[str], threshold: float) -> list[int]:
    """The first text of each text's group, by comparing all pairs."""
    leader = list(range(len(texts)))
    sets = [grams(text) for text in texts]
    for a, b in combinations(range(len(texts)), 2):
        if leader[a] != leader[b] and jaccard(sets[a], sets[b]) >= threshold:
            low, high = sorted((leader[a], leader[b]))
            leader = [low if root == high else root for root in leader]
    return leader


def edited(length: int, n_texts: int, seed: int) -> list[str]:
    """Texts of about so many characters, most of them made from another by a few edits."""
    random = Random(seed)
    texts = ["".join(random.choices("中国经济增长股市大涨球队比赛学校开学", k=length)) for _ in range(n_texts // 4)]
    while len(texts) < n_texts:
        text = list(random.choice(texts))
        for _ in range(random.randint(0, max(length // 10, 2))):
            text[random.randrange(len(text))] = random.choice("的了是在 ，Ａa甲乙丙丁")
        texts.append("".join(text))
    random.shuffle(texts)
    return texts


@pytest.mark.parametrize("length", [2, 6, 20, 200])
@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95, 1.0])
def test_groups_are_those_of_comparing_every_pair(length: int, threshold: float) -> None:
    texts = edited(length, 400, seed=length)
    groups = group_texts(texts, threshold)
    assert groups.near.tolist() == components(texts, threshold)
    assert len(set(groups.near.tolist())) < 400
    for row, leader in enumerate(groups.near.tolist()):
        assert groups.similarity[row] == jaccard(grams(texts[row]), grams(texts[leader]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("ab中 \u3000Ａσς", max_size=12), max_size=12))
def test_nothing_dissimilar_is_ever_grouped(texts: list[str]) -> None:
    groups = group_texts(texts)
    truth = components(texts, 0.8)
    compared = ["".join(normalize(text).lower().split()) for text in texts]
    for row, leader in enumerate(groups.near.tolist()):
        assert truth[row] == truth[leader]
    for row, first in enumerate(groups.exact.tolist()):
        assert first == (compared.index(compared[row]) if compared[row] else row)


def test_texts_are_compared_without_case_width_and_spaces() -> None:
    texts = ["ＧＤＰ 增长５％", "gdp增长5%", " GDP\u3000增长\n5% ", "gdp增长6%"]
    assert group_texts(texts).exact.tolist() == [0, 0, 0, 3]
    assert canonical(texts).texts() == ["gdp增长5%"] * 3 + ["gdp增长6%"]


def test_texts_without_characters_are_like_no_other() -> None:
    groups = group_texts(["", " ", "\n", "一"])
    assert groups.exact.tolist() == groups.near.tolist() == [0, 1, 2, 3]
    assert match_texts(["", "一"], ["", "二"]).partner.tolist() == [-1, -1]
    assert group_texts([]).near.tolist() == []


def test_short_texts_are_near_only_to_themselves() -> None:
    assert group_texts(["股市", "股市", "市股", "股", "股票"]).near.tolist() == [0, 0, 2, 3, 4]


@pytest.mark.parametrize("length", [25, 60])
def test_matches_are_those_of_comparing_every_pair(length: int) -> None:
    texts = edited(length, 400, seed=7)
    others, asked = texts[:250], texts[250:]
    matches = match_texts(asked, others)
    sets = [grams(text) for text in others]
    compared = ["".join(normalize(text).lower().split()) for text in others]
    for row, text in enumerate(asked):
        own = "".join(normalize(text).lower().split())
        partner = int(matches.partner[row])
        assert matches.exact[row] == (own in compared)
        assert (partner >= 0) == (max(jaccard(grams(text), other) for other in sets) >= 0.8)
        if matches.exact[row]:
            assert partner == compared.index(own)
        assert matches.similarity[row] == (jaccard(grams(text), sets[partner]) if partner >= 0 else 0.0)
    assert 0 < matches.exact.sum() < (matches.partner >= 0).sum() < len(asked)


def test_the_number_of_threads_changes_nothing() -> None:
    texts = edited(60, 3000, seed=1)
    one, three = group_texts(texts, n_jobs=1), group_texts(texts, n_jobs=3)
    for ours, theirs in zip(one, three, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(
        match_texts(texts[:900], texts[900:], n_jobs=1), match_texts(texts[:900], texts[900:], n_jobs=3), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_many_texts_that_are_all_alike_are_one_group() -> None:
    """Quadratic work or memory would not end."""
    template = "根据中华人民共和国有关法律法规的规定，本合同由甲乙双方签订，共同遵守以下条款，自签字之日起生效执行"
    assert set(group_texts([template] * 100_000).near.tolist()) == {0}
    assert set(group_texts([f"{template}{number}" for number in range(30_000)]).near.tolist()) == {0}


def test_many_texts_that_share_half_of_themselves_end_too() -> None:
    random = Random(0)
    template = "根据中华人民共和国有关法律法规的规定，本合同由甲乙双方签订"
    texts = [template + "".join(chr(0x4E00 + random.randrange(5000)) for _ in range(20)) for _ in range(20_000)]
    assert len(set(group_texts(texts).near.tolist())) == 20_000


@pytest.mark.parametrize("threshold", [0.0, 0.49, 1.01])
def test_a_threshold_that_makes_no_sense_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"give a similarity from 0\.5 to 1"):
        group_texts(["一"], threshold)
