"""The figures of the README and docs are those of the tracked reference runs."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

import priorbench

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


def test_the_first_table_of_the_readme_is_the_reference_run():
    header, *rows = shown("README.md", "prior")
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
    header, *rows = shown("README.md", f"best on {run}, NFE")
    best = pd.read_csv(ROOT / f"results/reference/{run}-nfe/best.csv")
    for prior, *cells in rows:
        for nfe, cell in zip(header[1:], cells, strict=True):
            row = best[(best.prior == prior.split()[0]) & (best.nfe == int(nfe))].iloc[0]
            fid, half = cell.strip("*").split(" ± ")
            assert f"{row.fid:.{len(fid.partition('.')[2])}f}" == fid, (prior, nfe)
            assert f"{(row.fid_high - row.fid_low) / 2:.{len(half.partition('.')[2])}f}" == half, (
                prior,
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
