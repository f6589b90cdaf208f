"""The figures of the README and docs are those of the tracked reference runs."""

import json
import re
from io import StringIO
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
import scipy.stats
from rich.console import Console

import priorbench
from priorbench.report.terminal import show
from priorbench.tables import flags

ROOT = Path(priorbench.__file__).parents[1]


def reported(name):
    """The rows of a reference run that are reported, not those that settings are chosen by."""
    table = pd.read_csv(ROOT / f"results/reference/{name}/comparison.csv")
    return table[table.split == "test"]


RUNS = {name: reported(name) for name in ("digits", "digits-nfe", "mnist-nfe", "gls")}


def tables(page):
    """Each table of a page as a list of rows of cells, the header first."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", (ROOT / page).read_text(), re.M):
        rows = [
            [cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()
        ]
        found.append([rows[0], *rows[2:]])
    return found


def shown(page, first):
    (table,) = (t for t in tables(page) if t[0][0] == first)
    return table


def best_of(name):
    return pd.read_csv(ROOT / f"results/reference/{name}/best.csv", keep_default_na=False)


def fids(name, prior, t_trunc, solver, nfe):
    """The mean FID over seeds of one setting."""
    run = RUNS[name]
    found = run[
        (run.prior == prior) & (run.t_trunc == t_trunc) & (run.solver == solver) & (run.nfe == nfe)
    ].fid
    assert len(found)
    return found.mean()


def test_the_readme_shows_what_the_reference_run_prints():
    """The rows of the table of best settings, without its last columns; the head as it is."""
    text = (ROOT / "README.md").read_text()
    head, *rows = re.findall(r"^     +(NFE .*|\d+  .*)$", text, re.M)
    assert len(rows) == 6
    console = Console(width=140, record=True, file=StringIO())
    table, means, best = (
        pd.read_csv(ROOT / f"results/reference/digits/{file}.csv")
        for file in ("comparison", "summary", "best")
    )
    show(table, means.head(0), best, console)
    printed = [" ".join(line.split()) for line in console.export_text().splitlines()]
    for row in (head, *rows):
        assert any(line.startswith(" ".join(row.split())) for line in printed), row


def test_the_sentences_about_digits_over_evaluations_are_the_reference_run():
    text = (ROOT / "docs/results.md").read_text()
    run, table = RUNS["digits-nfe"], best_of("digits-nfe")
    best = table.set_index(["fit_budget", "prior", "nfe"])
    contenders = ("gaussian", "mixture", "ot", "vae", "gan")
    for budget in ("10s", "60s", "300s"):
        for nfe, verdict in ((1, "yes"), (2, "yes"), (3, "yes"), (5, "undecided")):
            assert all(best.beats_noise[budget, p, nfe] == verdict for p in contenders)
        for entry in product(("noise", "gaussian", "mixture", "oracle"), (1, 2, 3, 5)):
            assert best.fid[(budget, *entry)] == best.fid[("10s", *entry)]
    gains = [1 / float(best.relative_nfe["10s", "mixture", nfe]) for nfe in (1, 2, 3)]
    assert "is {:.0f}, {:.0f} and {:.1f} times better than".format(*gains) in text
    ranks = {b: float(best["rank"][b, "gaussian", 3]) for b in ("10s", "60s", "300s")}
    assert ranks == {"10s": 1, "60s": 2, "300s": 1}
    assert "has the first rank at NFE 3 with 10 s and five minutes alone." in text
    first = run[(run.t_trunc == 100) & (run.nfe == 1)]
    first = first.set_index(["prior", "fit_budget", "seed"]).sort_index()
    gain = first.gain["ot"].groupby("fit_budget").mean()
    assert f"by {100 * gain['10s']:.1f} % in 10 s and by {100 * gain['60s']:.1f} %" in text
    assert (first.gain["ot", "300s"] == 0).all()
    stored = {b: first.stored_train["ot", b].mean() for b in ("10s", "60s")}
    closed = first.stored_train["mixture"].mean()
    assert (
        f"stored images is {stored['10s']:.2f} and {stored['60s']:.2f}, the limit is "
        f"{flags.STORED}, and the mixture's own is {closed:.2f}." in text
    )
    caught = first.flag["ot"].str.contains("memorises", na=False).groupby("fit_budget").sum()
    assert caught.to_dict() == {"10s": 5, "60s": 1, "300s": 0}
    assert f"(an index of {first.stored_train['gan', '300s'].mean():.2f})" in text
    for nfe in (1, 2, 3, 5):
        assert best.fid.xs(nfe, level="nfe").drop("oracle", level="prior").idxmin() == (
            "60s", "gan",
        )  # fmt: skip
    learning = best.learning.xs(1, level="nfe").xs("vae", level="prior")
    assert learning.to_dict() == {"10s": "still learning", "60s": "still learning", "300s": ""}
    assert first.late_gain["vae", "300s"].mean() < 0


def test_the_sentences_about_the_digits_default_are_the_reference_run():
    text = (ROOT / "docs/results.md").read_text()
    run = RUNS["digits"]
    solvers = {"DDIM": "ddim", "DPM-Solver++": "dpm++", "UniPC": "unipc"}
    for name, times, nfe, cell in shown("docs/results.md", "solver from pure noise")[1:]:
        pure = run[(run.prior == "noise") & (run.t_trunc == 1000) & (run.nfe == int(nfe))]
        pure = pure[pure.params.fillna("timesteps=uniform") == f"timesteps={times}"]
        (fid,) = pure[pure.solver == solvers[name]].fid
        assert f"{fid:.2f}" == cell
    (floor,) = run.fid_floor.unique()
    assert f"The training images themselves score {floor:.2f}." in text
    best = best_of("digits").set_index("prior")
    best = best[best.nfe == 5]
    assert f"speed-up over the 100-step chain is {float(best.speedup['ot']):.0f}," in text
    for prior, digits in (("gan", 0), ("ot", 0), ("vae", 0), ("mixture", 2)):
        seconds = run[run.prior == prior].fit_seconds.mean()
        assert f"{seconds:.{digits}f} for `{prior}`" in text
    contenders = ("gaussian", "mixture", "ot", "vae")
    assert [best.beats_noise[p] for p in contenders] == ["undecided"] * 4
    assert best.beats_noise["gan"] == "no"
    (gain,) = run[run.prior == "ot"].gain.unique()
    assert f"by {100 * gain:.1f} % in the fit of `digits`" in (ROOT / "docs/ot.md").read_text()
    for page in ("README.md", "docs/results.md"):
        assert "no prior is shown to" in (ROOT / page).read_text()
    best = best.assign(half=(best.fid_high.astype(float) - best.fid_low.astype(float)) / 2)
    half = best.half[[*contenders, "gan"]]
    assert f"over samples of ± {half.min():.2f} to ± {half.max():.2f}." in text


def test_the_sentences_about_mnist_are_the_reference_run():
    text = (ROOT / "docs/results.md").read_text()
    run, both = RUNS["mnist-nfe"], best_of("mnist-nfe").set_index(["fit_budget", "prior", "nfe"])
    minute, five = both.loc["60s"], both.loc["300s"]
    priors = ("ot", "mixture", "vae", "gan", "noise")
    assert (
        "With 3 evaluations and a minute `ot` scores {:.1f}, `mixture` {:.1f}, `vae` {:.1f} and "
        "`gan` {:.1f}, against {:.1f} from pure noise.".format(*(minute.fid[p, 3] for p in priors))
        in text
    )
    for best in (minute, five):
        for nfe in (1, 2, 3, 5):
            assert all(best.beats_noise[p, nfe] == "yes" for p in priors[:4])
            first = [p for p in priors[:4] if float(best["rank"][p, nfe]) == 1]
            assert first == ["ot", "mixture", "vae"]
        assert best.beats_noise["gaussian", 5] == "no"
        assert f"{float(best.speedup['ot', 3]):.0f} times faster" in text
    assert f"with 5 its best solver scores {minute.fid['noise', 5]:.1f}." in text
    assert all(minute.learning[p, 3] == "still learning" for p in ("ot", "vae"))
    assert not any(five.learning[p, 3] for p in ("ot", "vae", "gan"))
    assert all(
        five.fid[p, n] < minute.fid[p, n] for p in ("ot", "vae", "gan") for n in (1, 2, 3, 5)
    )
    assert f"most of all that of `gan`, to {five.fid['gan', 3]:.1f} with 3 evaluations" in text
    deviations = [
        deviation_of_gan(run, best, budget) for best, budget in ((minute, "60s"), (five, "300s"))
    ]
    assert (
        "with 3 evaluations is {:.1f} after a minute and {:.1f} after five".format(*deviations)
        in text
    )
    assert (
        "With 3 evaluations and fits of five minutes `ot` scores an FID of {:.1f}, `vae` {:.1f}, "
        "`mixture` {:.1f}, `gan` {:.1f} and pure noise {:.1f}; the oracle, whose x_{{t_trunc}} are "
        "real, scores {:.1f}.".format(
            *(five.fid[p, 3] for p in ("ot", "vae", "mixture", "gan", "noise", "oracle"))
        )
        in (ROOT / "README.md").read_text()
    )
    late = (ROOT / "docs/gls.md").read_text()
    assert f"5 steps of UniPC from pure noise score {minute.fid['noise', 5]:.1f}," in late
    assert minute.solver["noise", 5] == "unipc"
    chain = minute.loc["noise", 100]
    half = (float(chain.fid_high) - float(chain.fid_low)) / 2
    assert f"100 DDPM steps ({chain.fid:.1f} ± {half:.1f})" in text
    (floor,) = run.fid_floor.unique()
    assert f"floor {floor:.2f}." in text


def deviation_of_gan(run, best, budget):
    """Over seeds, of the FID with 3 evaluations at the best t_trunc."""
    rows = run[(run.prior == "gan") & (run.fit_budget == budget) & (run.nfe == 3)]
    return rows[rows.t_trunc == best.t_trunc["gan", 3]].fid.std()


def test_the_indices_of_stored_images_are_the_reference_runs():
    digits, mnist = (
        run[run.t_trunc < run["T"]].groupby("prior").stored_train.agg(["min", "max"])
        for run in (RUNS["digits-nfe"], RUNS["mnist-nfe"])
    )
    low, high = digits.loc["mixture"]
    text = (ROOT / "docs/cheats.md").read_text()
    assert f"within {mnist.abs().max(axis=None):.2f} of 0, but" in text
    assert f"`mixture` scores {low:.2f} to {high:.2f}," in text


def after(run, budget):
    """The rows of a length of the fit, and those that take none."""
    return run[(run.t_trunc < run["T"]) & run.fit_budget.isin([budget, None])]


def over_seeds(run, budget):
    """FID by prior, t_trunc and evaluations after a length of the fit: a series over seeds each."""
    rows = after(run, budget).set_index("seed")
    return {key: found.fid for key, found in rows.groupby(["prior", "t_trunc", "nfe"])}


def table_of_transport(run, budget, over_t_trunc=(50, 100, 200), nfes=(1, 2, 3)):
    """A table of docs/ot.md: mean FIDs, and how much of the excess of ``mixture`` is left."""
    fid = over_seeds(run, budget)

    def row(name, entry):
        cells = (" / ".join(entry(t, nfe) for nfe in nfes) for t in over_t_trunc)
        return [name, *cells]

    def apart(t, nfe):
        found = fid["ot", t, nfe] - fid["mixture", t, nfe]
        half = scipy.stats.t.ppf(0.975, len(found) - 1) * found.sem()
        return f"{found.mean():.2f} ± {half:.2f}"

    def left(t, nfe):
        ours, closed = (
            (fid[prior, t, nfe] - fid["oracle", t, nfe]).mean() for prior in ("ot", "mixture")
        )
        return f"{100 * ours / closed:.0f} %"

    rows = [
        row(f"`{prior}`", lambda t, nfe, prior=prior: f"{fid[prior, t, nfe].mean():.2f}")
        for prior in ("mixture", "ot", "vae", "gan", "oracle")
    ]
    head = [f"on MNIST after {budget}, NFE 1 / 2 / 3", *(f"t_trunc {t}" for t in over_t_trunc)]
    rows += [row("`ot` less `mixture`", apart), row("`ot`'s share of the excess", left)]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def test_the_tables_of_the_transport_priors_are_the_reference_runs():
    mnist, text = RUNS["mnist-nfe"], (ROOT / "docs/ot.md").read_text()
    for budget in ("60s", "300s"):
        assert table_of_transport(mnist, budget) in text
    _, *rows = shown("docs/ot.md", "mean authenticity")
    runs = (RUNS["digits"], after(mnist, "60s"), after(mnist, "300s"))
    for (name, *cells, held_out, _), run in zip(rows, runs, strict=True):
        for prior, cell in zip(("mixture", "ot", "oracle", "vae"), cells, strict=True):
            found = [
                run[(run.prior == prior) & (run.t_trunc == int(t))].authenticity.mean()
                for t in re.findall(r"\d+", name)
            ]
            assert " / ".join(f"{share:.2f}" for share in found) == cell, (name, prior)
        assert f"{run.authenticity_test.mean():.2f}" == held_out


def test_how_near_ot_comes_to_its_training_images_is_the_reference_run():
    text = (ROOT / "docs/ot.md").read_text()
    found = after(RUNS["mnist-nfe"], "300s").groupby(["prior", "t_trunc", "seed"]).authenticity
    mean = found.mean()

    def less_oracle(prior, t_trunc):
        apart = mean[prior, t_trunc] - mean["oracle", t_trunc]
        half = scipy.stats.t.ppf(0.975, len(apart) - 1) * apart.sem()
        return f"{-apart.mean():.3f} ± {half:.3f} at", apart.mean() - half

    for t_trunc in (100, 200):
        shown_as, _ = less_oracle("ot", t_trunc)
        assert f"{shown_as} {'t_trunc ' * (t_trunc == 100)}{t_trunc}" in text
        assert less_oracle("vae", t_trunc)[1] > 0
    for page in ("docs/ot.md", "docs/results.md"):
        text = (ROOT / page).read_text()
        stored = [
            f"{after(RUNS['mnist-nfe'], budget).groupby('prior').stored_train.mean()[prior]:.2f}"
            for prior, budget in (("ot", "60s"), ("ot", "300s"), ("mixture", "60s"))
        ]
        assert "{} after a minute and {} after five,".format(*stored) in text
        assert f"that of `mixture` is {stored[2]}" in text


def test_the_first_table_of_the_results_is_the_reference_run():
    header, *rows = shown("docs/results.md", "prior")
    run = RUNS["digits"]
    for row in rows:
        for cell, column in zip(row[1:], header[1:], strict=True):
            (fid,) = run[
                (run.prior == row[0].split()[0]) & (run.t_trunc == int(column.split()[-1]))
            ].fid
            digits = len(cell.partition(".")[2])
            assert f"{fid:.{digits}f}" == cell, row


@pytest.mark.parametrize("run", ["digits", "mnist"])
def test_the_tables_over_evaluations_are_the_reference_runs(run):
    """Each entry is the test split's FID with half its 95 % interval, of the setting chosen on
    another split.
    """
    header, *rows = shown("docs/results.md", f"best on {run}, NFE")
    best = pd.read_csv(ROOT / f"results/reference/{run}-nfe/best.csv")
    for name, *cells in rows:
        prior, _, budget = name.partition(" (")[0].partition(", ")
        found = best[(best.prior == prior) & (best.fit_budget == (budget or best.fit_budget[0]))]
        for nfe, cell in zip(header[1:], cells, strict=True):
            (row,) = found[found.nfe == int(nfe)].itertuples()
            assert cell.startswith("**") == (row.rank == 1), (name, nfe)
            fid, half = cell.strip("*").split(" ± ")
            assert f"{row.fid:.{len(fid.partition('.')[2])}f}" == fid, (name, nfe)
            assert f"{(row.fid_high - row.fid_low) / 2:.{len(half.partition('.')[2])}f}" == half, (
                name,
                nfe,
            )


def test_the_table_of_the_late_start_is_the_reference_run():
    header, *rows = shown("docs/gls.md", "NFE")
    run = RUNS["gls"]
    for nfe, noise, *gaussian in rows:
        (fid,) = run[(run.prior == "noise") & (run.nfe == int(nfe))].fid
        assert f"{fid:.1f}" == noise
        for t_trunc, cell in zip(header[2:], gaussian, strict=True):
            (fid,) = run[
                (run.prior == "gaussian") & (run.nfe == int(nfe)) & (run.t_trunc == int(t_trunc))
            ].fid
            assert f"{fid:.1f}" == cell


@pytest.mark.parametrize("name", RUNS)
def test_a_reference_run_says_how_it_was_made(name):
    about = json.loads((ROOT / f"results/reference/{name}/run.json").read_text())
    assert about["command"].startswith(f"priorbench run {name} ")
    assert re.fullmatch(r"[0-9a-f]{40}", about["commit"])
    assert about["machine"]["processor"]
    assert (RUNS[name].status == "ok").all()


def test_the_full_chain_of_mnist_is_within_three_times_the_floor():
    chain = RUNS["mnist-nfe"].query("t_trunc == 1000 and solver == 'ddpm' and nfe == 100")
    assert (chain.fid <= 3 * chain.fid_floor).all()


def test_the_tables_of_the_rivals_are_the_sweeps():
    swept = ROOT / "results/reference/tune"
    sweep = pd.read_csv(swept / "tune.csv").set_index(["prior", "setting", "dataset", "nfe"])
    seen = 0
    for prior in ("vae", "gan"):
        for name, *cells, steps in shown("docs/rivals.md", prior)[1:]:
            rows = [
                sweep.loc[prior, name.strip("`"), dataset, nfe]
                for dataset in ("digits", "mnist")
                for nfe in (1, 3)
            ]
            assert cells == [f"{row.fid:.2f} ± {row.sd:.2f}" for row in rows], (prior, name)
            assert steps == " / ".join(f"{row.steps:,.0f}" for row in rows[::2])
            assert all(row.seeds == 3 for row in rows)
            seen += 1
    assert 4 * seen == len(sweep)
    again = pd.read_csv(swept / "gan-again.csv").set_index(["setting", "nfe"])
    text = (ROOT / "docs/rivals.md").read_text()
    for setting in ("defaults", "batch_size=64", "batch_size=16"):
        rows = [again.loc[setting, nfe] for nfe in (1, 3)]
        assert " / ".join(f"{row.fid:.1f} ± {row.sd:.1f}" for row in rows) in text, setting
        assert all(row.seeds == 5 for row in rows)


@pytest.mark.parametrize(
    ("prior", "axes"),
    [
        ("mixture", [("digits", 50), ("digits", 100), ("digits", 200), ("mnist", 50)]),
        ("ot", [("mnist", 50)]),
    ],
)
def test_the_table_of_a_transport_prior_is_the_sweep(prior, axes):
    sweep = pd.read_csv(ROOT / f"results/reference/tune/{prior}.csv")
    assert all(sweep.seeds == sweep.dataset.map({"digits": 3, "mnist": 1}))
    first = sweep[sweep.nfe == 1].set_index(["prior", "setting", "dataset", "t_trunc"])
    rows = shown("docs/ot.md", f"setting of {prior}")[1:]
    for name, *cells in rows:
        owner, _, setting = name.strip("`]").partition("[")
        for axis, cell in zip(axes, cells, strict=True):
            row = first.loc[(owner, setting or "defaults", *axis)]
            spread = f" ± {row.sd:.2f}" if row.seeds > 1 else ""
            assert f"{row.fid:.{2 if row.seeds > 1 else 1}f}{spread}" == cell, (name, axis)
    assert len(rows) * len(axes) == len(first)
