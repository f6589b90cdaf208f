"""``priorbench compare``: runs of several machines in one table, or the column that forbids it."""

import re

import pandas as pd
import pytest
from helpers.commands import call
from helpers.rows import folded, noise, row, three_seeds

from priorbench import UserError
from priorbench.tables import fold as table
from priorbench.tables.columns import YOUNGER
from priorbench.tables.compare import differences, fold, read_run


@pytest.fixture
def runs(tmp_path):
    """Two runs: ot on one machine, seed 0 and 1 of vae and the rivals on another."""

    def write(name, *groups, **changes):
        rows = [r | changes for g in groups for r in g]
        found = table.comparison(rows, "dpm++", 3)
        (tmp_path / name).mkdir()
        found.to_csv(tmp_path / name / "comparison.csv", index=False)
        return str(tmp_path / name)

    return write


def both(*names):
    return [(name, read_run(name)) for name in names]


def test_runs_of_two_machines_become_one_table(runs):
    a = runs("a", noise(40, 40), three_seeds("ot", (1.0, 1.1, 1.2), 1))
    b = runs("b", noise(40, 40), three_seeds("vae", (5.0, 5.1, 5.2), 5), device="cuda:0")
    tables = both(a, b)
    assert differences(tables) == []
    found, means, best = fold(tables)
    assert set(found.run) == {a, b}
    assert (
        len(found[(found.prior == "noise") & (found.split == "test")]) == 1
    )  # the same cell in both counts once
    ranks = best.dropna(subset="rank").set_index("prior")["rank"].to_dict()
    assert ranks == {"ot": 1, "vae": 2}
    assert means[["fit_seconds", "prior_seconds"]].isna().all(axis=None)
    assert means.speedup.notna().any()


def test_seeds_from_two_machines_are_averaged(runs):
    a = runs("a", [row("ot", 1.0, seed=0), row("ot", 2.0, seed=1)])
    b = runs("b", [row("ot", 6.0, seed=2)], threads=8)
    _, means, _ = fold(both(a, b))
    (mean,) = means.itertuples()
    assert (mean.seeds, mean.fid) == (3, 3.0)


def test_seconds_of_other_processors_have_no_mean_and_those_of_other_nodes_do(runs):
    a = runs("a", [row("ot", 1.0, seed=0)])
    b = runs("b", [row("ot", 2.0, seed=1)], node="there")
    c = runs("c", [row("ot", 3.0, seed=2)], node="there", hardware="Xeon")
    _, alike, _ = fold(both(a, b))
    assert alike[["fit_seconds", "denoise_seconds"]].notna().all(axis=None)
    assert set(alike.hardware) == {"EPYC"}
    _, other, _ = fold(both(a, b, c))
    assert other[["fit_seconds", "denoise_seconds"]].isna().all(axis=None)
    assert set(other.hardware) == {"several"}


def test_the_same_seed_from_two_versions_counts_once_and_a_failure_never_hides_it(runs):
    """Another version gives a cell another name; one seed twice is no second seed."""
    a = runs(
        "a",
        [row("ot", float("nan"), status="failed", error="no"), row("oracle", 1.0), row("vae", 5.0)],
    )
    b = runs(
        "b", [row("ot", 4.0, cell="x"), row("oracle", 1.5, cell="y"), row("vae", 6.0, cell="z")]
    )
    found, means, _ = fold(both(a, b))
    assert means.set_index("prior")[["seeds", "fid"]].to_dict("index") == {
        "oracle": {"seeds": 1, "fid": 1.0}, "vae": {"seeds": 1, "fid": 5.0},
        "ot": {"seeds": 1, "fid": 4.0},
    }  # fmt: skip
    assert found[(found.prior == "ot") & (found.status == "ok")].excess.tolist() == [3.0]
    assert (found.status == "failed").sum() == 1


def test_a_table_of_an_earlier_version_lacks_columns_and_is_judged_all_the_same(runs):
    """Its seconds are points, and no prior of it evaluated the model itself or was checked."""
    path = (
        runs("a", noise(40, 40, ms=4), noise(8, 8, steps=5, ms=6.2), row_pair("ot", 10.0))
        + "/comparison.csv"
    )
    whole = pd.read_csv(path)
    whole.drop(columns=YOUNGER).to_csv(path, index=False)
    old = read_run(path)
    assert set(old.failed_checks) == {""}
    assert old[["nfe_prior", "seconds_low", "seconds_high"]].isna().all(axis=None)
    found, means, chosen = fold([("a", old)])
    assert found.relative_time.tolist() == pytest.approx(whole.relative_time.tolist(), nan_ok=True)
    mine = chosen[chosen.prior == "ot"].iloc[0]
    assert (mine.beats_noise, mine.beats_noise_in_time) == ("yes", "no")
    assert means[means.prior == "ot"].nfe.tolist() == [3, 3]


def row_pair(prior, fid):
    return [
        row(prior, fid, ms=4, prior_seconds=0.0024, split=split) for split in ("test", "validation")
    ]


def test_excess_is_over_the_oracle_of_all_runs_and_time_stays_at_home(runs):
    a = runs("a", [row("ot", 4.0)], noise(40, 40, ms=1))
    b = runs("b", [row("oracle", 1.0)])
    found, *_ = fold(both(a, b))
    mine = found[found.prior == "ot"].iloc[0]
    assert mine.excess == pytest.approx(3.0)
    assert mine.relative_time == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("extractor", "inception"), ("n_samples", 500), ("backbone_sha256", "0123abcd"),
        ("concurrency", 4), ("dataset_sha256", "0123abcd"), ("T", 500), ("model_precision", "bf16"),
    ],
)  # fmt: skip
def test_refuses_to_rank_what_differs_in_a_column(runs, column, value):
    a, b = runs("a", [row("ot", 1.0)]), runs("b", [row("vae", 1.0)], **{column: value})
    (found,) = differences(both(a, b))
    assert found.startswith(f"column {column!r} differs: ")
    assert f"{value} in {b}" in found
    result = call("compare", a, b)
    assert result.returncode == 2
    assert f"column {column!r} differs" in result.stderr
    assert result.stdout == ""


def test_refuses_to_rank_without_test_rows(runs):
    a, b = runs("a", [row("ot", 1.0)]), runs("b", [row("vae", 1.0, split="validation")])
    assert any("'split' differs" in found for found in differences(both(a, b)))


def test_the_command_writes_what_it_prints(runs, tmp_path):
    a = runs("a", noise(40, 40), three_seeds("ot", (1.0, 1.1, 1.2), 1))
    b = runs("b", three_seeds("vae", (5.0, 5.1, 5.2), 5))
    result = call("compare", a, b, "--output", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert "First at NFE 3: ot." in result.stdout
    assert "ot against the best solver from pure noise: at equal NFE" in result.stdout
    assert re.search(r"NFE +rank +prior +t_trunc +solver +seeds +FID", result.stdout)
    assert re.search(r"3 +1 +ot +100 +dpm\+\+ +3 +1\.10", result.stdout)
    assert result.stdout.endswith("comparison.csv, summary.csv, best.csv, report.html\n")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "First at NFE 3: ot." in page
    assert set(pd.read_csv(tmp_path / "out" / "best.csv").prior) == {"noise", "ot", "vae"}
    assert len(pd.read_csv(tmp_path / "out" / "comparison.csv")) == 14


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no comparison.csv; give the folder of a run"),
        ("", "no comparison.csv"),
        ("a,b\n1,2\n", "lacks the columns dataset"),
    ],
)
def test_refuses_what_is_no_run_in_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "comparison.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        read_run(tmp_path)


def test_refuses_choosing_splits_of_other_sizes():
    def run(n):
        return folded(noise(9, 9), [row("ot", 1), row("ot", 1, split="validation", n_samples=n)])

    assert differences([("a", run(300)), ("b", run(300))]) == []
    (found,) = differences([("a", run(300)), ("b", run(100))])
    assert "'n_samples' differs: 300 in a (choosing split); 100 in b (choosing split)" in found


def test_refuses_rivals_chosen_by_another_number_of_samples():
    """Earlier versions chose rivals by as many samples as they reported, and the rest by fewer:
    such runs can be folded with each other, and not with one that chooses all alike.
    """

    def run(rivals):
        ot = [row("ot", 1), row("ot", 1, split="validation", n_samples=300)]
        return folded(
            [row("noise", 9, t_trunc=1000)],
            ot,
            [row("noise", 9, t_trunc=1000, split="validation", n_samples=rivals)],
        )

    assert differences([("old", run(1000)), ("older", run(1000))]) == []
    assert differences([("old", run(1000)), ("new", run(300))]) == [
        "column 'n_samples' differs: 1000 in old (choosing split); 300 in new (choosing split)"
    ]
