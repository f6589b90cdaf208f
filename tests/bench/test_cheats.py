"""Priors that cheat are refused with a reason, or shown up by a named column."""

import helpers
import pytest

import priorbench
from priorbench.plugin_manager import load_plugins
from priorbench.tables.flags import unfair

pytestmark = pytest.mark.slow

CHEATS = [
    "runs-the-model", "calls-the-network", "copies-the-model", "behaves-later", "works-ahead",
    "stored", "one-class", "too-early", "reconstructs", "sleeps", "reads-the-test-split", "fewer",
    "repeats", "trains-the-model",  # last: after it the model is loaded again
]  # fmt: skip


def run_with_cheats(output, settings, **options):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRIORBENCH_PLUGINS", "")
        priorbench.add_plugin(helpers.FOLDER / "cheats.py")
        settings = {"n_validation": 0, "rivals": [], "rival_timesteps": ["uniform"]} | settings
        table = priorbench.run(t_trunc=[200], output=output, settings=settings, **options)
    load_plugins.cache_clear()
    return table


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """One run with every cheat, and two priors that play fair, on the digits default."""
    table = run_with_cheats(
        tmp_path_factory.mktemp("cheats"),
        {"controls": ["oracle"], "full_chain.steps": 5, "batch_size": 120},
        priors=["gaussian", "ot[iterations=60]", *CHEATS], solver="dpm++sde",
        steps=[2], n_samples=240,
    )  # fmt: skip
    return table.set_index("prior")


@pytest.fixture(scope="module")
def found(everything):
    return everything[(everything.t_trunc == 200) & (everything.steps == 2)]


def test_priors_that_play_fair_are_not_flagged(found):
    for name in ("gaussian", "ot"):
        assert found.loc[name, "status"] == "ok"
        assert found.loc[name, "flag"] == ""
        assert (
            abs(
                found.loc[name, ["stored_train", "stored_validation", "stored_test"]].astype(float)
            ).max()
            < 0.3
        )
        assert found.loc[name, "noise_xt"] == pytest.approx(1, abs=0.06)
        assert found.loc[name, "distinct"] == 1


def test_stored_training_images(found):
    assert found.loc["stored", "stored_train"] > 0.8
    assert "memorises training images" in found.loc["stored", "flag"]


def test_a_single_class(found):
    """Its precision is no worse than anybody's, and one odd sample can widen recall's manifold: FID
    tells.
    """
    row, fair = found.loc["one-class"], found.loc["oracle"]
    assert row.excess > 5 * fair.fid
    assert row.precision > fair.precision - 0.1


def test_less_noise_than_at_t_trunc(found):
    assert found.loc["too-early", "noise_xt"] < 0.9
    assert "less noise than x_200" in found.loc["too-early", "flag"]


@pytest.mark.parametrize("name", ["reconstructs", "reads-the-test-split"])
def test_the_images_that_it_is_measured_against(found, name):
    assert found.loc[name, "stored_test"] > 0.8
    assert "holds test images" in found.loc[name, "flag"]


def test_time_in_sample_is_the_priors_own(found):
    row = found.loc["sleeps"]
    assert row.prior_seconds > 0.0029
    assert row.speedup < found.loc["gaussian", "speedup"]
    assert row.speedup == pytest.approx(
        found.loc["gaussian", "speedup"]
        * (found.loc["gaussian", "prior_seconds"] + found.loc["gaussian", "denoise_seconds"])
        / (row.prior_seconds + row.denoise_seconds)
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("trains-the-model", "changed the frozen model's weights"),
        ("fewer", "must return a tensor of shape"),
    ],
)
def test_gives_a_reason_and_no_number_for_what_is_refused(found, name, reason):
    row = found.loc[name]
    assert row.status == "failed"
    assert reason in row.error
    assert row[["fid", "kid", "speedup", "excess"]].isna().all()


def test_repeated_samples(found):
    assert found.loc["repeats", "distinct"] < 0.1
    assert "repeats samples" in found.loc["repeats", "flag"]


def test_the_controls_are_known_for_what_they_are(found):
    assert found.loc["oracle", "stored_validation"] > 0.9
    assert "holds validation images" in found.loc["oracle", "flag"]


@pytest.mark.parametrize(
    ("name", "evaluations"),
    [("runs-the-model", 8), ("calls-the-network", 0.5), ("copies-the-model", 2)],
)
def test_evaluations_in_sample_count_and_meet_a_rival_of_as_many(
    everything, found, name, evaluations
):
    row = found.loc[name]
    assert row.nfe_prior == evaluations
    assert row.nfe == 2 + max(1, evaluations)
    assert row.steps == 2
    rivals = everything[
        (everything.index == "noise") & (everything.t_trunc == 1000) & (everything.nfe == row.nfe)
    ]
    assert row.relative_nfe == pytest.approx(row.fid / rivals.fid.iloc[0])
    oracles = everything[(everything.index == "oracle") & (everything.nfe == row.nfe)]
    assert row.excess == pytest.approx(row.fid - oracles.fid.iloc[0])


def test_what_is_judged_is_what_is_measured(found):
    assert found.loc["behaves-later", "stored_test"] > 0.8
    assert "holds test images" in found.loc["behaves-later", "flag"]


SHARES = (0.3, 0.4, 0.5, 0.8)


@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    """A run of priors that store a part of what they hand out."""
    table = run_with_cheats(
        tmp_path_factory.mktemp("shares"), {"controls": [], "full_chain.steps": 1, "w2_points": 20},
        priors=[f"partly-stored[share={share}]" for share in (0.0, *SHARES)], solver="ddpm",
        steps=[1], n_samples=600,
    )  # fmt: skip
    return table[table.prior == "partly-stored"].set_index("params")


@pytest.mark.parametrize("share", SHARES)
def test_half_stored_is_stored(shares, share):
    row = shares.loc[f"share={share}"]
    assert row.stored_train == pytest.approx(share, abs=3 * row.stored_se + 0.1)
    assert "memorises training images" in row.flag


def test_a_gaussian_that_stores_nothing_is_not_flagged(shares):
    assert abs(shares.loc["share=0.0", "stored_train"]) < 0.2
    assert "memorises" not in shares.loc["share=0.0", "flag"]


def test_what_fails_the_quick_checks_is_flagged(found):
    """Its stock outlives the generator that it was drawn from, and is in no buffer."""
    row = found.loc["works-ahead"]
    assert {"generator", "save and load"} <= set(row.failed_checks.split(", "))
    assert f"fails checks: {row.failed_checks}" in row.flag
    assert unfair(row.flag)
    assert (found.loc["gaussian", "failed_checks"], found.loc["ot", "failed_checks"]) == ("", "")


def test_working_ahead_saves_nothing(found):
    """Eight milliseconds for four images, whoever waits for them."""
    assert (
        found.loc["works-ahead", "prior_seconds"] > 0.0019 * 4 / 2
    )  # 240 measured samples: two of the four batches
