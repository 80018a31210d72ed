"""Paired tests: against scipy, and against values worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from duanti.significance import compare_paired, mcnemar, paired_bootstrap


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 5), st.integers(0, 5))
def test_mcnemar_is_the_binomial_test_of_the_rows_that_one_has_right(
    only_first: int, only_second: int, both: int, neither: int
) -> None:
    counts = (only_first, only_second, both, neither)
    first = np.repeat([True, False, True, False], counts)
    second = np.repeat([False, True, True, False], counts)
    n = only_first + only_second
    expected = binomtest(only_first, n).pvalue if n else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_rows_neither_overflows_nor_vanishes() -> None:
    first, second = np.repeat([True, False], (3000, 3300)), np.repeat([False, True], (3000, 3300))
    assert mcnemar(first, second) == pytest.approx(binomtest(3000, 6300).pvalue, rel=1e-9)


def test_macro_f1_of_two_models_differs_as_worked_by_hand() -> None:
    gold, first, second = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0]), np.array([0, 0, 1, 0])
    # First: F1 of 0 is 2*2/(2+4), of 1 is 0. Second: 2*2/(2+3) and 2*1/(2+1).
    found = paired_bootstrap("macro_f1", gold, first, second, np.arange(4), n_labels=2, resamples=200)
    assert found.difference == pytest.approx((4 / 5 + 2 / 3) / 2 - (2 / 3 + 0) / 2)


def test_a_model_is_no_better_than_itself() -> None:
    gold = np.arange(30) % 3
    same = (gold + (np.arange(30) % 4 == 0)) % 3
    for metric in ("accuracy", "macro_f1"):
        found = paired_bootstrap(metric, gold, same, same, np.arange(30), n_labels=3, resamples=200)
        assert (found.difference, found.p_value) == (0.0, 1.0)


def test_the_bootstrap_agrees_with_mcnemar_where_rows_are_independent() -> None:
    random = np.random.default_rng(0)
    gold = random.integers(0, 2, 2000)
    first = np.where(random.random(2000) < 0.80, gold, 1 - gold)
    second = np.where(random.random(2000) < 0.825, gold, 1 - gold)
    exact = compare_paired("accuracy", gold, first, second, np.arange(2000), n_labels=2)
    drawn = paired_bootstrap("accuracy", gold, first, second, np.arange(2000), n_labels=2, resamples=4000)
    assert exact.test == "McNemar, exact"
    assert exact.difference == pytest.approx(drawn.difference)
    assert exact.p_value == pytest.approx(drawn.p_value, abs=0.03)


def test_rows_of_one_document_count_as_one_piece_of_evidence() -> None:
    gold = np.zeros(400, dtype=int)
    first, second = np.ones(400, dtype=int), np.ones(400, dtype=int)
    second[:200] = 0  # right on all rows of two of four documents
    documents = np.arange(400) // 100
    found = compare_paired("accuracy", gold, first, second, documents, n_labels=2)
    assert found.test == "paired bootstrap over documents"
    assert found.p_value > 0.05
    assert mcnemar(first == gold, second == gold) < 1e-50
