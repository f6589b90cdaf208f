"""Flags: what bars a row from being ranked."""

import pytest
from helpers.rows import folded, only, row

from priorbench.tables import fold as table
from priorbench.tables.selection import judged


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({}, ""),
        ({"stored_train": 0.9}, "memorises training images"),
        ({"authenticity": 0.3}, "memorises training images"),
        ({"stored_test": 0.9}, "holds test images"),
        ({"stored_validation": 0.9}, "holds validation images"),
        ({"stored_train": float("nan")}, ""),
        ({"distinct": 0.4}, "repeats samples"),
        ({"distinct": 0.4, "variation": 0.9}, "repeats samples"),
        ({"distinct": 0.4, "variation": 0.02}, "hardly varies"),
        ({"distinct": 1.0, "variation": 0.02}, ""),
        ({"noise_xt": 0.85}, "less noise than x_100"),
        ({"noise_xt": 1.2}, "more noise than x_100"),
        ({"noise_xt": 1.2, "noise_se": 0.1}, ""),
        ({"noise_xt": 1.3, "stored_train": 0.9}, "more noise than x_100"),
        (
            {"noise_xt": 1.1, "stored_train": 0.9},
            "memorises training images; more noise than x_100",
        ),
        (
            {"noise_xt": 1.3, "stored_test": 0.9, "emits": "x_0"},
            "holds test images; more noise than x_100",
        ),
        (
            {"noise_xt": 1.2, "authenticity": 0.1},
            "memorises training images; more noise than x_100",
        ),
        ({"fit_budget": "2s", "fit_seconds": 3.6}, "over its budget of 2s"),
        ({"fit_budget": "2s", "fit_seconds": 3.4}, ""),
        ({"fit_budget": "1min", "fit_seconds": 77}, "over its budget of 1min"),
        ({"fit_budget": "2 steps", "fit_seconds": 77}, ""),
        ({"fit_budget": "", "fit_seconds": 1e6}, ""),
        ({"fit_budget": "2s", "fit_seconds": float("nan")}, ""),
    ],
)
def test_flags(changes, flag):
    assert only(folded([row("ot", 1, **changes)]), prior="ot").flag == flag


def test_copies_that_the_frozen_model_makes_are_not_the_priors():
    """Where even unseen images come out as near to training images, authenticity says nothing about
    the prior.
    """
    rows = [row("ot", 1, authenticity=0.3), row("oracle", 1, authenticity=0.32)]
    assert only(folded(rows), prior="ot").flag == ""


def test_a_failed_row_is_judged_by_nothing():
    found = judged(
        table.comparison([row("ot", float("nan"), status="failed", error="no")], "dpm++", 3)
    )
    assert found.flag[0] == ""
    assert found[["excess", "relative_nfe", "relative_time", "break_even"]].isna().all(axis=None)
