"""Budgets as they are written, and parts of them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from priorbench import FitRun
from priorbench.plan.budget import Budget, as_budget, part_of, read_budget

NUMBERS = st.floats(1e-3, 1e6, allow_nan=False)


@given(st.one_of(
    NUMBERS.map(lambda x: Budget(seconds=float(f"{x:.9g}"))),
    st.integers(1, 10**9).map(lambda n: Budget(steps=n)),
    NUMBERS.map(lambda x: Budget(share=float(f"{x:.9g}"))),
))  # fmt: skip
def test_what_is_written_is_read_again(budget):
    assert read_budget(str(budget)) == pytest.approx(budget)
    assert as_budget(str(budget)) == str(budget)


@pytest.mark.parametrize(("whole", "share", "part"), [
    (None, 0.25, "25%"), ("60s", 0.25, "15s"), ("500 steps", 0.25, "125 steps"),
    ("3 steps", 1 / 16, "1 steps"), ("50%", 1 / 16, "3.125%"),
])  # fmt: skip
def test_a_part_of_a_budget(whole, share, part):
    assert part_of(whole, share) == part


def test_a_share_is_of_the_priors_own_number_of_steps():
    run = FitRun(torch.Generator().manual_seed(0), own_share=0.25)
    assert (len([*run.steps(200)]), run.total) == (50, 50)
    assert len([*FitRun(torch.Generator(), own_share=0.001).steps(200)]) == 1
    assert len([*FitRun(torch.Generator(), budget=30, own_share=0.25).steps(200)]) == 30
