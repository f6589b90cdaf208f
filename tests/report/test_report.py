"""The page of a run: its verdict, that it is one file which loads nothing, its figures and tables
for papers.
"""

import base64
import hashlib
import html
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from helpers.commands import call, python
from helpers.pages import HOSTILE, SPEED, made_up
from helpers.rows import row, three_seeds

import priorbench
from priorbench import UserError
from priorbench.report.gather import gather
from priorbench.report.page import as_json, write_report
from priorbench.tables import fold as table

ROOT = Path(priorbench.__file__).parents[1]


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a made-up run: its path and its text."""
    folder = made_up(tmp_path_factory.mktemp("page") / "run <b>")
    write_report([str(folder)], folder / "report.html")
    return folder / "report.html", (folder / "report.html").read_text()


def test_the_page_is_one_file_that_loads_nothing(page):
    _, text = page
    own = text.replace(plotly_script(), "")
    found = re.findall(r"""\b(?:src|href|action|srcset|data|poster)=["']([^"']*)""", own)
    assert {
        link.partition(":")[0] if ":" in link else link
        for link in found
        if not link.startswith("#")
    } == {
        "data",
        "comparison.csv",
    }
    assert not re.search(r"@import|url\(", own)
    assert len(text) < 8e6


def plotly_script():
    import importlib.resources

    return importlib.resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text()


def test_a_backbone_that_spoils_the_verdict_is_said_first_and_in_amber(page, tmp_path):
    folder = made_up(tmp_path / "run", fid_floor=0.1)
    write_report([str(folder)], folder / "report.html")
    text = (folder / "report.html").read_text()
    assert '<p class="kicker doubted">' in text
    assert "<h1>This run measures its backbone more than its priors: the full chain (dpm++," in text
    assert "kicker pays" not in text
    assert '<p class="kicker doubted">' not in page[1]


def test_the_policy_lets_the_pages_own_scripts_run_and_nothing_else(page):
    _, text = page
    policy = html.unescape(
        re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in rules["script-src"]
    scripts = re.findall(
        r"<script(?: type=\"text/plain\" id=\"plotly\")?>(.*?)</script>", text, re.S
    )
    hashes = {
        "'sha256-" + base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() + "'"
        for s in scripts
    }
    assert len(scripts) == 3
    assert hashes == set(rules["script-src"].split())


def test_what_users_named_is_text_everywhere(page):
    _, text = page
    own = text.replace(plotly_script(), "")
    assert "<img src=x" not in own
    assert "<script>alert" not in own
    assert "&lt;img src=x onerror=alert(1)&gt; at t_trunc = 200" in own
    assert len(re.findall(r"</script>", own)) == 4
    data = json.loads(re.search(r'id="data">(.*?)</script>', own, re.S)[1])
    assert any(
        s["name"].startswith(HOSTILE) for f in data for view in f["views"].values() for s in view
    )
    assert "<" not in as_json({"</script>": "<!--"})


def test_failures_flags_and_what_is_missing_stand_below_the_verdict(page):
    _, text = page
    said = html.unescape(
        re.sub(r"<[^>]+>", " ", text[text.index('<ul class="notes">') : text.index('id="figures"')])
    )
    assert "failed fails at t_trunc 100: ValueError: <script>alert(2)</script> & so on" in " ".join(
        said.split()
    )
    assert "flagged stores at t_trunc 100: memorises training images" in " ".join(said.split())


def test_every_figure_has_named_axes_with_units_and_a_caption(page):
    found = gather([str(page[0].parent)]).figures
    assert [f.id for f in found] == ["quality-time", "fid-t_trunc", "repair", "cost", "fid-nfe"]
    for figure in found:
        assert re.search(r"\(.+\)$", figure.x.title)
        assert re.search(r"\(.+\)$", figure.y.title)
        assert len(figure.caption) > 30
    time, start = found[0], found[1]
    (series,) = (s for s in time.views["all settings"] if s.name == "pure noise")
    assert sorted(zip(series.x, series.y, strict=True)) == [
        pytest.approx(p) for p in ((3, 40), (5, 9), (50, 2))
    ]
    assert start.first == "dpm++, NFE 5"
    (hostile,) = (s for s in start.views["dpm++, NFE 5"] if s.name == HOSTILE)
    assert (hostile.x, hostile.y) == ([200], [3])
    assert hostile.low[0] == pytest.approx(3 - 1.96 * 0.1, abs=1e-3)


def test_of_one_seed_no_figure_calls_a_prior_first(page, tmp_path):
    said = {f.id: f.caption for f in gather([str(page[0].parent)]).figures}
    assert said["quality-time"].startswith(
        "The front of these fits (one seed, which ranks no priors): vae_1 5 in "
    )
    assert "First" not in said["fid-nfe"]
    assert "who is first" not in page[1]
    groups = [
        three_seeds(p, (v, v + 0.1, v + 0.2), v, steps=k)
        for p, v in (("ot", 1), ("vae", 2))
        for k in (3, 5)
    ]
    several = table.comparison([r | SPEED for g in groups for r in g], "dpm++", 50)
    several.to_csv(tmp_path / "comparison.csv", index=False)
    report = write_report([str(tmp_path)], tmp_path / "report.html")
    said = {f.id: f.caption for f in report.figures}
    assert said["quality-time"].startswith(
        "Nothing beats these settings in both time and FID: ot 1.1 in "
    )
    assert said["fid-nfe"].endswith("First by evaluations: ot at 3; ot at 5.")
    assert "and who is first" in (tmp_path / "report.html").read_text()


def test_the_floor_stands_with_its_interval(tmp_path):
    found = table.comparison(
        [row("ot", 3) | SPEED, row("noise", 9, t_trunc=1000) | SPEED], "dpm++", 3
    )
    found.to_csv(tmp_path / "comparison.csv", index=False)
    write_report([str(tmp_path)], tmp_path / "report.html")
    assert "Floor (as many training images): FID 0.8." in (tmp_path / "report.html").read_text()
    found.assign(fid_floor=1.03, fid_floor_se=0.032).to_csv(
        tmp_path / "comparison.csv", index=False
    )
    report = write_report([str(tmp_path)], tmp_path / "report.html")
    assert (
        "Floor (as many training images): FID 1.030 ± 0.063."
        in (tmp_path / "report.html").read_text()
    )
    levels = [
        s.text[0]
        for f in report.figures
        for view in f.views.values()
        for s in view
        if s.name == "floor"
    ]
    assert levels
    assert all(said.endswith("training images: 1.030 ± 0.063") for said in levels)


def test_the_front_is_of_what_nothing_beats_and_has_no_cheat_on_it(page):
    time = gather([str(page[0].parent)]).figures[0]
    (front,) = (s for s in time.views["all settings"] if s.name == "Pareto front")
    assert [(round(x, 6), y) for x, y in zip(front.x, front.y, strict=True)] == [
        (3, 5),
        (5, 3),
        (50, 2),
    ]


def test_several_runs_share_a_page_or_are_refused(tmp_path, monkeypatch):
    a, b = (made_up(tmp_path / name, seed=seed) for seed, name in enumerate("ab"))
    report = write_report([str(a), str(b)], tmp_path / "report.html")
    assert report.title == "a, b"
    assert set(report.table.seed) == {0, 1}
    text = (tmp_path / "report.html").read_text()
    assert 'href="a/comparison.csv"' in text
    assert 'href="b/comparison.csv"' in text
    c = made_up(tmp_path / "c", extractor="another")
    with pytest.raises(UserError, match="column 'extractor' differs"):
        write_report([str(a), str(c)], tmp_path / "no.html")
    assert not (tmp_path / "no.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "digits-nfe", "mnist-nfe", "gls"])
def test_the_tracked_references_have_a_page_that_says_what_they_lack(name, tmp_path):
    report = write_report([str(ROOT / "results/reference" / name)], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert {"quality-time", "fid-t_trunc"} <= {f.id for f in report.figures}
    for column in report.runs[0].missing:
        assert column in text
    assert report.runs[0].about["command"] in html.unescape(text)
    assert len(report.grids) == len(
        list((ROOT / "results/reference" / name / "grids").glob("*.png"))
    )


# --- the command, figures and table for papers ----------------------------------------------------


@pytest.mark.slow
def test_the_command_writes_the_page_figures_and_table(page, tmp_path):
    result = call(
        "report",
        str(page[0].parent),
        "--output",
        str(tmp_path),
        "--figures",
        "pdf,svg,png",
        "--latex",
    )
    assert result.returncode == 0, result.stderr
    assert f"{HOSTILE} at t_trunc = 200" in result.stdout
    names = {p.name for p in (tmp_path / "figures").iterdir()}
    plain = {
        f"{n}.{kind}"
        for n in ("quality-time", "repair", "cost", "fid-nfe")
        for kind in ("pdf", "svg", "png")
    }
    assert plain < names
    assert len(names) == 3 * (4 + 2)  # FID over t_trunc at each of two settings
    for path in (tmp_path / "figures").iterdir():
        data = path.read_bytes()
        assert data.startswith({".pdf": b"%PDF", ".svg": b"<?xml", ".png": b"\x89PNG"}[path.suffix])
        if path.suffix == ".svg":
            text = html.unescape(data.decode())
            assert HOSTILE in text or path.stem == "fid-t_trunc-dpm++-NFE-3"
            assert "<img" not in data.decode()
    latex = (tmp_path / "table.tex").read_text()
    assert "\\toprule" in latex
    assert "\\bottomrule" in latex
    assert (
        "vae\\_1 & 200 & dpm++ & 5 & $4.00 \\pm 0.20$".replace(
            "$4.00 \\pm 0.20$", "4.00 $\\pm$ 0.20"
        )
        in latex
    )
    assert "</script><b>" in latex.replace("\\", "") or "\\textless" in latex
    for line in latex.splitlines():
        assert not re.search(
            r"(?<!\\)[_%#](?!.*Needs)", re.sub(r"\$[^$]*\$", "", line)
        ) or line.startswith("%")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere does not exist; give the folder of a run"),
        (["RUN", "--figures", "pdf,gif"], "there is no format of figures 'gif'"),
        (["RUN", "--output", "RUN/comparison.csv/x"], "cannot write"),
        ([], "Missing argument 'RUNS...'"),
    ],
)
def test_refuses_what_cannot_be_done_in_one_line(page, arguments, said):
    result = call("report", *(a.replace("RUN", str(page[0].parent)) for a in arguments))
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_csv_alone_is_enough(page, tmp_path):
    (tmp_path / "comparison.csv").write_bytes((page[0].parent / "comparison.csv").read_bytes())
    result = call("report", str(tmp_path / "comparison.csv"))
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "report.html").read_text()
    assert "There is no run.json" in text
    assert "kept no images" in text


@pytest.mark.slow
def test_the_page_comes_without_torch():
    """It is made where only the tables are, and in seconds."""
    code = "import sys, priorbench.report.page, priorbench.report.static; "
    code += "assert 'torch' not in sys.modules"
    assert python(code).returncode == 0


def test_a_table_without_rows_of_a_contender_has_a_page(tmp_path):
    found = table.comparison([row("noise", 4, t_trunc=1000)], "dpm++", 3)
    found.to_csv(tmp_path / "comparison.csv", index=False)
    assert write_report([str(tmp_path)], tmp_path / "report.html").verdict.sentence.startswith(
        "No verdict"
    )
    failed = [row("ot", float("nan"), status="failed", error="no")]
    pd.DataFrame(failed).to_csv(tmp_path / "comparison.csv", index=False)
    assert not write_report([str(tmp_path)], tmp_path / "report.html").figures
