"""The fold of rows into comparison.csv and summary.csv."""

import io

import numpy as np
import pandas as pd
import pytest
from helpers.rows import CONTRACT, both, folded
from helpers.specs import full, row
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from priorbench.tables import columns
from priorbench.tables import fold as table


def test_every_column_of_the_contract_is_there():
    assert set(CONTRACT) <= set(columns.COLUMNS)
    assert len(set(columns.COLUMNS)) == len(columns.COLUMNS)
    assert list(table.comparison([full(), row()], "ddim", 50).columns) == columns.COLUMNS
    assert set(columns.AVERAGED) | set(columns.VARIES) <= set(columns.COLUMNS)


def test_speedup_is_over_the_full_chain_of_the_same_seed():
    """Chains' seconds are shared, the medians of 8 and 24 and of 1.6, 1.6 and 48; the priors' are
    the seeds' own.
    """
    rows = [
        row(seed=1, seconds=2),
        full(0, 10),
        full(1, 30),
        row(seed=0, seconds=2),
        row("vae", 1, 60),
    ]
    found = table.comparison(rows, "ddim", 50)
    assert found.speedup.tolist() == pytest.approx([22 / 2, 1, 1, 18 / 2, 22 / 13.6])
    assert found.seed.tolist() == [1, 0, 1, 0, 1]


def test_nothing_but_the_full_chain_is_taken_for_it():
    """Rows that share all but one of what makes the full chain, each before it and each faster."""
    changes = [
        {"prior": "ot"},
        {"t_trunc": 100},
        {"solver": "dpm++"},
        {"steps": 5},
        {"status": "failed"},
    ]
    near = [full(seconds=10, prior_seconds=0.001) | change for change in changes]
    found = table.comparison([*near, full(seconds=10), row(seconds=2)], "ddim", 50)
    assert found.speedup.iloc[-1] == pytest.approx(5)
    assert found.speedup.iloc[-2] == pytest.approx(1)


def test_all_steps_of_the_full_chain_are_T():
    found = table.comparison(
        [full(seconds=3), full(seconds=12, steps=1000, nfe=1000), row(seconds=2)], "ddim", None
    )
    assert found.speedup.tolist() == pytest.approx([4, 1, 6])


def test_without_its_full_chain_a_seed_has_no_speedup_and_the_others_have():
    rows = [
        full(0),
        full(1, status="failed", prior_seconds=None, denoise_seconds=None),
        row(seed=0),
        row(seed=1),
    ]
    found = table.comparison(rows, "ddim", 50)
    assert found.speedup.iloc[[0, 2]].tolist() == pytest.approx([1, 10])
    assert found.speedup.iloc[[1, 3]].isna().all()


def test_a_failed_row_has_its_reason_and_no_speedup():
    broken = row(status="failed", error="ValueError: no")
    del broken["prior_seconds"], broken["denoise_seconds"]
    found = table.comparison([full(), broken], "ddim", 50).iloc[1]
    assert (found.status, found.error) == ("failed", "ValueError: no")
    assert pd.isna(found.speedup)
    assert pd.isna(found.fid)


def test_mean_and_students_interval_by_hand():
    """Three seeds: t_{0.975, 2} = 4.302652729911275, standard deviation with the divisor 2."""
    values = [1.0, 2.0, 6.0]
    (found,) = table.summary(
        pd.DataFrame([row(seed=s, fid=v) for s, v in enumerate(values)]).reindex(
            columns=columns.COLUMNS
        )
    ).itertuples()
    half = 4.302652729911275 * 7**0.5 / 3**0.5
    assert found.seeds == 3
    assert found.fid == pytest.approx(3)
    assert (found.fid_low, found.fid_high) == pytest.approx((3 - half, 3 + half))


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.integers(-1000, 1000).map(lambda k: k / 8), min_size=2, max_size=6).filter(
        lambda v: len(set(v)) > 1
    )
)
def test_the_interval_is_scipys(values):
    rows = [row(seed=s, kid=v) for s, v in enumerate(values)]
    found = table.summary(table.comparison(rows, "ddim", 50)).iloc[0]
    wanted = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert found.kid == pytest.approx(np.mean(values))
    assert (found.kid_low, found.kid_high) == pytest.approx(wanted)


def test_one_seed_has_no_interval_and_the_file_says_nothing_there():
    found = table.summary(table.comparison([full(), row(fid=2.5)], "ddim", 50))
    assert found.fid.iloc[1] == 2.5
    assert found.seeds.tolist() == [1, 1]
    for name in columns.AVERAGED:
        assert found[[f"{name}_low", f"{name}_high"]].isna().all(axis=None)
    on_disk = pd.read_csv(io.StringIO(found.to_csv(index=False)), keep_default_na=False, dtype=str)
    assert on_disk.fid.iloc[1] == "2.5"
    assert (on_disk.fid_low == "").all()
    assert (on_disk.fid_high == "").all()


def test_the_interval_counts_the_seeds_that_have_a_value():
    """Two seeds of three have a KID: one degree of freedom, not two."""
    rows = [row(seed=s, kid=kid) for s, kid in enumerate((5.0, 7.0, float("nan")))]
    found = table.summary(table.comparison(rows, "ddim", 50)).iloc[0]
    assert found.kid == pytest.approx(6)
    wanted = stats.t.interval(0.95, 1, loc=6, scale=stats.sem([5, 7]))
    assert (found.kid_low, found.kid_high) == pytest.approx(wanted)


def test_seconds_that_seeds_share_have_no_interval_over_seeds():
    rows = [full(0, 10), full(1, 14), *(row(seed=s, seconds=2 + s) for s in range(2))]
    found = table.summary(table.comparison(rows, "ddim", 50)).iloc[1]
    assert found.denoise_seconds == pytest.approx(0.8 * 2.5)
    for name in ("denoise_seconds", "images_per_second", "speedup"):
        assert found[name] > 0
        assert pd.isna(found[f"{name}_low"])
    assert found.prior_seconds_low < found.prior_seconds


def test_failed_rows_are_no_seeds():
    rows = [row(seed=0, fid=1.0), row(seed=1, fid=3.0), row(seed=2, fid=100.0, status="failed")]
    (found,) = table.summary(table.comparison(rows, "ddim", 50)).itertuples()
    assert (found.seeds, found.fid) == (2, 2.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"prior": "vae"}, {"params": "width=3"}, {"emits": "x_0"}, {"t_trunc": 200},
        {"solver": "ddim"}, {"steps": 6}, {"n_samples": 41}, {"extractor": "inception"},
    ],
    ids=lambda c: next(iter(c)),
)  # fmt: skip
def test_different_settings_are_not_averaged(changes):
    rows = [row(seed=0, fid=1.0), row(seed=0, fid=3.0, **changes), row(seed=1, fid=2.0)]
    found = table.summary(table.comparison(rows, "ddim", 50))
    assert found.fid.tolist() == [1.5, 3.0]
    assert found.seeds.tolist() == [2, 1]


def test_tables_of_nothing_have_their_columns():
    nothing = table.comparison([], "ddim", 50)
    assert list(nothing.columns) == columns.COLUMNS
    assert len(nothing) == len(table.summary(nothing)) == 0
    failed = table.comparison([row(status="failed")], "ddim", 50)
    assert "seeds" in table.summary(failed).columns


def test_seeds_whose_prior_evaluates_unlike_often_are_one_setting_of_the_most():
    rows = [row(seed=0, fid=1.0, nfe=7, nfe_prior=1.5), row(seed=1, fid=3.0, nfe=8, nfe_prior=2.5)]
    (found,) = table.summary(table.comparison(rows, "ddim", 50)).itertuples()
    assert (found.seeds, found.nfe, found.fid, found.nfe_prior) == (2, 8, 2.0, 2.0)


def test_one_seed_has_the_interval_over_samples():
    import pandas as pd

    group = pd.DataFrame([{"fid": 3.0, "fid_se": 0.5, "fid_inf": 2.0, "fid_inf_se": 1.0}])
    half = stats.norm.ppf(0.975)
    assert table.interval(group, "fid") == pytest.approx((3, 3 - half / 2, 3 + half / 2))
    assert table.interval(group, "fid_inf") == pytest.approx((2, 2 - half, 2 + half))


def test_several_seeds_on_one_test_set_have_its_error_in_common():
    import pandas as pd

    group = pd.DataFrame(
        [{"fid_inf": v, "fid_se": 0.3, "fid_inf_se": 0.5} for v in (1.0, 1.2, 1.4)]
    )
    seeds = stats.t.ppf(0.975, 2) * stats.sem([1.0, 1.2, 1.4])
    half = (seeds**2 + (stats.norm.ppf(0.975) * 0.4) ** 2) ** 0.5
    assert table.interval(group, "fid_inf") == pytest.approx((1.2, 1.2 - half, 1.2 + half))


def test_a_table_has_no_mean_over_paths(tmp_path):
    """The same weights from two folders are one backbone."""
    found = table.summary(folded(both("ot", 1, 1), both("ot", 2, 2, seed=1, backbone="elsewhere")))
    assert found[found.split == "test"].seeds.tolist() == [2]
    assert isinstance(found, pd.DataFrame)
