"""The page of a run: its verdict, that it is one file which loads nothing, its figures and tables
for papers.
"""

import base64
import hashlib
import html
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDPMScheduler
from helpers.models import tiny_unet
from helpers.pages import HOSTILE, SPEED, made_up
from helpers.rows import both, folded, noise, row, three_seeds
from helpers.runs import SMALL, Plugin, command, small_run
from PIL import Image
from rich.console import Console

import priorbench
from priorbench import FrozenDiffusion, TruncPrior, UserError, hookimpl, randn
from priorbench.metrics.neighbours import nearest
from priorbench.plugin_manager import load_plugins
from priorbench.report.gather import gather
from priorbench.report.page import as_json, write_report
from priorbench.report.samples import sprite
from priorbench.report.terminal import show
from priorbench.tables import fold as table
from priorbench.tables.headline import headline
from priorbench.tables.selection import best
from priorbench.tables.words import plus_minus

ROOT = Path(priorbench.__file__).parents[1]


def verdict(*groups):
    found = folded(*groups)
    return headline(found, best(found, table.summary(found)))


# --- the sentence ------------------------------------------------------------------------------------------


def test_the_verdict_names_the_setting_its_interval_and_what_it_gains():
    found = verdict(
        noise(32, 32, ms=3), noise(6, 6, steps=10, ms=54),
        both("ot", 5.4, 5.4, t_trunc=200, fid_se=0.15), both("vae", 9, 9),
    )  # fmt: skip
    assert found.pays
    assert found.sentence == (
        "ot at t_trunc = 200, 3 steps of dpm++, this fit (one seed): FID 5.40 ± 0.29, 5.9 times better than the best "
        "solver from pure noise at equal cost."
    )
    assert found.remark.startswith(
        "One seed says nothing about what other fits would score, and ranks no prior; --seeds 3"
    )
    assert dict(found.facts)["pure noise, equal NFE"] == "32.00 ± 0.20"
    assert dict(found.facts)["FID, 95 % interval of this fit"] == "5.40 ± 0.29"


def test_over_seeds_equal_cost_is_both_nfe_and_time():
    found = verdict(
        three_seeds("noise", (9.9, 10, 10.1), 10, t_trunc=1000), three_seeds("ot", (1, 1.1, 1.2), 1),
        three_seeds("noise", (1.9, 2, 2.1), 2, t_trunc=1000, steps=10, ms=9, solver="ddim"),
    )  # fmt: skip
    assert found.sentence.startswith(
        "ot at t_trunc = 100, 3 steps of dpm++: FID 1.10 ± 0.25, 9.1 times better than the "
    )
    assert "the best solver from pure noise at equal cost" in found.sentence
    assert found.remark == ""


def test_of_those_that_pay_the_best_on_the_choosing_split_is_named():
    found = verdict(
        noise(40, 40), noise(20, 20, steps=5), both("ot", 5, 7), both("vae", 6, 4, steps=5, ms=5)
    )
    assert found.sentence.startswith("vae at t_trunc = 100, 5 steps")


def test_no_prior_pays_where_pure_noise_is_as_good():
    found = verdict(noise(5, 5), both("ot", 8, 8))
    assert not found.pays
    assert found.sentence.startswith("No prior pays. The nearest is ot at t_trunc = 100")
    assert "FID 8.00 ± 0.20 against 5.00 ± 0.20" in found.sentence


def test_the_nearest_is_the_nearest_on_the_choosing_split():
    """ot is nearer to its rival on the test split, vae on the other. Where one has no score the
    test split decides.
    """
    rivals = noise(5, 5), noise(4, 4, steps=5)
    found = verdict(*rivals, both("ot", 6, 9), both("vae", 8, 5, steps=5))
    assert found.sentence.startswith(
        "No prior pays. The nearest is vae at t_trunc = 100, 5 steps of dpm++, this fit"
    )
    assert "FID 8.00 ± 0.20 against 4.00 ± 0.20" in found.sentence
    unscored = verdict(*rivals, both("ot", 6, 9), both("gan", 15, 5.5), [row("vae", 8, steps=5)])
    assert unscored.sentence.startswith("No prior pays. The nearest is ot at t_trunc = 100")


def test_what_the_prior_evaluates_itself_stands_beside_the_steps():
    found = verdict(noise(40, 40), noise(9, 9, steps=5), both("ot", 2, 2, nfe=5, nfe_prior=2.0))
    assert found.sentence.startswith(
        "ot at t_trunc = 100, 3 steps of dpm++ (NFE 5), this fit (one seed): FID 2.00"
    )


def test_what_the_intervals_do_not_decide_is_not_decided():
    found = verdict(noise(5, 5), both("ot", 4.9, 4.9))
    assert not found.pays
    assert found.sentence.startswith("No prior is shown to pay.")


def test_a_gain_that_is_lost_in_time_does_not_pay():
    """Ten times the rival's time: a rival with more steps does better in it."""
    found = verdict(noise(40, 40, ms=3), noise(1, 1, steps=20, ms=20), both("ot", 8, 8, ms=30))
    assert not found.pays
    assert "lost in equal time" in found.sentence


@pytest.mark.parametrize(
    "caught", [{"stored_train": 0.9}, {"stored_test": 0.9}, {"distinct": 0.3}, {"noise_xt": 0.8}]
)
def test_a_prior_that_cheats_never_wins(caught):
    cheat = both("cheat", 0.1, 0.1, **caught)
    assert verdict(noise(40, 40), cheat, both("ot", 9, 9)).sentence.startswith("ot at")
    alone = verdict(noise(40, 40), cheat)
    assert alone.sentence == "No prior pays: every contender that did not fail is flagged."


def test_storing_in_one_setting_disqualifies_in_all():
    """Late in the chain nobody can tell what is stored; the prior is the same."""
    cheat = three_seeds("cheat", (5, 5, 5), 5, stored_train=0.9) + three_seeds(
        "cheat", (0.1,) * 3, 0.1, t_trunc=400
    )
    found = folded(
        three_seeds("noise", (39, 40, 41), 40, t_trunc=1000),
        cheat,
        three_seeds("ot", (8, 9, 10), 9),
    )
    chosen = best(found, table.summary(found))
    assert chosen.set_index("prior")["rank"].dropna().to_dict() == {"ot": 1}
    assert headline(found, chosen).sentence.startswith("ot at")


def test_without_a_choosing_split_there_is_no_verdict_but_a_remark():
    found = verdict([row("ot", 3), row("ot", 2, t_trunc=200), row("noise", 9, t_trunc=1000)])
    assert found.sentence.startswith("No verdict")
    assert "too low because it was picked by itself, is 2: ot at t_trunc = 200" in found.remark


def test_where_all_failed_nothing_is_judged():
    found = verdict([row("ot", float("nan"), status="failed", error="no")], noise(4, 4))
    assert found.sentence == "No verdict: every contender failed."


@pytest.mark.parametrize(
    ("half", "text"),
    [(0.28, "5.41 ± 0.28"), (0.0123, "5.413 ± 0.012"), (12.3, "5 ± 12"), (float("nan"), "5.41")],
)
def test_an_interval_is_written_to_its_second_figure(half, text):
    assert plus_minus({"fid": 5.4132, "fid_low": 5.4132 - half, "fid_high": 5.4132 + half}) == text


# --- what a cell keeps to be shown -------------------------------------------------------------------------


class Latent(TruncPrior):
    """x = m + z: a map that shows its latents."""

    def __init__(self, *, emits: str = "x_t") -> None:
        super().__init__()
        self.emits = emits

    def build(self, shape):
        self.register_buffer("mean", torch.zeros(shape))

    def fit(self, marginal, run):
        self.mean.copy_(marginal.draw(100, run.generator).mean(0))

    def latents(self, n, generator):
        return randn((n, self.mean.numel()), generator, self.device)

    def from_latents(self, z):
        return self.mean + z.view(-1, *self.mean.shape)

    def sample(self, n, generator):
        return self.from_latents(self.latents(n, generator))


class WrongLatents(Latent):
    """Samples as it should, but its map does not return an image for each z."""

    def from_latents(self, z):
        return super().from_latents(z)[:1]

    def sample(self, n, generator):
        return super().from_latents(self.latents(n, generator))


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A run of priors that show their latents, of one that gets it wrong, and of one that has none."""

    def register_priors(register):
        register("latent", f"{__name__}:Latent")
        register("wrong", f"{__name__}:WrongLatents")

    plugins = load_plugins()
    plugins.add(Plugin(register_priors=hookimpl(register_priors)), "shown", "shown", "1")
    folder = tmp_path_factory.mktemp("shown")
    priors, settings = "latent,latent[emits=x_0],wrong,gaussian", SMALL | {"controls": []}
    found = small_run(
        folder, priors=priors, steps=5, t_trunc=[200], settings=settings, report=False
    )
    assert not (folder / "report.html").exists()
    found = small_run(folder, priors=priors, steps=5, t_trunc=[200], settings=settings, report=True)
    yield folder, found
    plugins.manager.unregister(name="shown/shown")
    for name in ("latent", "wrong"):
        del plugins.registrations["prior", name]


def kept(folder, found, prior, params=""):
    cell = found[(found.prior == prior) & (found.params == params)].cell.iloc[0]
    with np.load(folder / "images" / f"{cell}.npz") as images:
        return {name: images[name] for name in images.files}


def test_a_cell_keeps_a_few_samples_on_their_way_and_the_nearest_training_images(shown):
    images = kept(*shown, "gaussian")
    chain = {name: x for name, x in images.items() if name.startswith("chain ")}
    assert list(chain) == [f"chain dpm++ 5 {t}" for t in (200, 160, 80, 40, 0)]
    assert all(x.shape == (10, 1, 8, 8) for x in chain.values())
    train = priorbench.task.load_data(priorbench.task.Source("digits")).train.numpy()
    assert all((train == image).all(axis=(1, 2, 3)).any() for image in images["nearest"])
    assert not {"z", "f(z)"} & set(images)


def test_a_map_shows_z_beside_what_it_makes_of_it(shown):
    images = kept(*shown, "latent")
    assert images["z"].shape == images["f(z)"].shape == (10, 1, 8, 8)
    assert (images["f(z)"] == images["chain dpm++ 5 200"]).all()  # and the chain starts there
    clean = kept(*shown, "latent", "emits=x_0")
    assert not (
        clean["f(z)"] == clean["chain dpm++ 5 200"]
    ).all()  # a clean guess is diffused first
    rows = {(g.label, g.t_trunc): g.rows for g in gather([str(shown[0])]).grids}
    assert rows["latent", 200][:2] == ["z", "f(z) = x_200"]
    assert rows["latent[emits=x_0]", 200][:3] == ["z", "f(z)", "x_200"]
    assert rows["latent", 200][-1] == "x_0"


def test_latents_that_are_wrong_cost_a_picture_alone(shown):
    folder, found = shown
    assert (found.status == "ok").all()
    (log,) = folder.glob("logs/*.log")
    assert "wrong t_trunc 200 has no picture of its way: from_latents" in log.read_text()


@pytest.mark.parametrize("solver", ["dpm++", "EulerDiscreteScheduler", "ddpm"])
def test_a_trajectory_ends_where_denoising_does(tiny, solver):
    x_t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    seen = tiny.trajectory(x_t, 80, solver, 10, torch.Generator().manual_seed(1))
    wanted = tiny.denoise(x_t, 80, solver, 10, torch.Generator().manual_seed(1))
    assert torch.equal(seen[0], wanted)
    assert sorted(seen) == [0, 16, 40, 64, 80]
    assert torch.equal(seen[80], x_t)


def test_a_trajectory_shows_x_t_whatever_units_the_solver_keeps_it_in():
    """Euler's steps in x / sqrt(alpha_bar) are those of DDIM where nothing is clipped."""
    scheduler = DDPMScheduler(
        num_train_timesteps=100, beta_start=1e-3, beta_end=0.05, clip_sample=False
    )
    diffusion = FrozenDiffusion(tiny_unet((1, 8, 8)), scheduler, device="cpu")
    x_t = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    ddim, euler = (
        diffusion.trajectory(x_t, 80, solver, 5, torch.Generator().manual_seed(1))
        for solver in ("ddim", "EulerDiscreteScheduler")
    )
    assert sorted(ddim) == [0, 16, 32, 64, 80]
    for t in ddim:
        assert torch.allclose(ddim[t], euler[t], atol=1e-3 * float(ddim[t].abs().max())), t


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_short_chain_has_fewer_moments(tiny, steps):
    x_t = torch.zeros(2, 1, 8, 8)
    assert (
        len(tiny.trajectory(x_t, 50, "dpm++", steps, torch.Generator().manual_seed(0))) == steps + 1
    )


def test_the_nearest_training_image_is_the_nearest():
    features = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    assert nearest(features[[4, 17, 2]] + 1e-3, features).tolist() == [4, 17, 2]


def test_a_sprite_has_every_image_at_its_place():
    images = np.arange(12, dtype=np.uint8).repeat(4).reshape(2, 6, 1, 2, 2) * 20
    picture = Image.open(
        io.BytesIO(base64.b64decode(sprite(list(images), 6, (2, 2)).partition(",")[2]))
    )
    assert picture.size == (6 * 3 - 1, 2 * 3 - 1)
    pixels = np.asarray(picture)
    assert [pixels[3 * i, 3 * j, 0] for i in range(2) for j in range(6)] == [
        20 * k for k in range(12)
    ]
    assert pixels[2].max() == 0  # transparent lines between


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
    assert {link.partition(":")[0] if ":" in link else link for link in found if not link.startswith("#")} == {
        "data", "comparison.csv",
    }  # fmt: skip
    assert not re.search(r"@import|url\(", own)
    assert len(text) < 8e6


def plotly_script():
    import importlib.resources

    return importlib.resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text()


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
    assert "Floor (as many training images): FID 0.4." in (tmp_path / "report.html").read_text()
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


def test_a_run_writes_its_page_unless_told_not_to(shown):
    folder, _ = shown
    assert "latent at t_trunc" in (folder / "report.html").read_text()
    assert "priorbench.run" in (folder / "report.html").read_text()
    assert "--no-report" in command("run", "--help").stdout


# --- the terminal ------------------------------------------------------------------------------------------


def printed(*groups):
    found = folded(*groups)
    means = table.summary(found)
    console = Console(file=io.StringIO(), width=200)
    show(found, means, best(found, means), console)
    return console.file.getvalue()


def test_the_terminal_marks_the_best_of_several_seeds_and_nothing_of_one():
    several = printed(three_seeds("noise", (9, 10, 11), 10, t_trunc=1000), three_seeds("ot", (1, 1.1, 1.2), 1),
                      three_seeds("vae", (5, 5.1, 5.2), 5))  # fmt: skip
    assert "1.10*" in several
    assert "5.10*" not in several
    assert re.search(r"NFE +rank +prior", several)
    assert "* best of all contenders," in several
    assert "First at NFE 3: ot." in several
    one = printed(noise(9, 9), both("ot", 1, 1), both("vae", 5, 5))
    assert "*" not in one
    assert "With one seed no row is marked as best" in one
    assert "rank " not in one
    assert "First" not in one
    assert "ot (this fit) against the best solver from pure noise" in one


def test_the_terminal_warns_once_of_what_many_rows_warn_of():
    busy = {"denoise_batches": [0.001, 0.001, 0.004, 0.004]}
    said = printed(
        noise(9, 9, warning="few images", **busy),
        both("ot", 1, 1, **busy),
        both("vae", 5, 5, t_trunc=200),
    )
    assert len(re.findall(r"warning few images", said)) == 1
    assert said.count("the same work took up to 4.0 times longer") == 1
    assert said.count("warning") == 2


def test_the_terminal_shows_the_floors_interval():
    said = printed([row("ot", 1, fid_floor=1.03, fid_floor_se=0.032)])
    assert "Floor (training images): FID 1.030 ± 0.063;" in said


# --- the command, figures and table for papers -------------------------------------------------------------


def test_the_command_writes_the_page_figures_and_table(page, tmp_path):
    result = command(
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
        (["nowhere"], "nowhere holds no comparison.csv"),
        (["RUN", "--figures", "pdf,gif"], "there is no format of figures 'gif'"),
        (["RUN", "--output", "RUN/comparison.csv/x"], "cannot write"),
        ([], "Missing argument 'RUNS...'"),
    ],
)
def test_what_cannot_be_done_is_one_line(page, arguments, said):
    result = command("report", *(a.replace("RUN", str(page[0].parent)) for a in arguments))
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_the_csv_alone_is_enough(page, tmp_path):
    (tmp_path / "comparison.csv").write_bytes((page[0].parent / "comparison.csv").read_bytes())
    result = command("report", str(tmp_path / "comparison.csv"))
    assert result.returncode == 0, result.stderr
    text = (tmp_path / "report.html").read_text()
    assert "There is no run.json" in text
    assert "kept no images" in text


def test_the_page_comes_without_torch():
    """It is made where only the tables are, and in seconds."""
    import subprocess
    import sys

    code = "import sys, priorbench.report.page, priorbench.report.static; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_table_without_rows_of_a_contender_has_a_page(tmp_path):
    found = table.comparison([row("noise", 4, t_trunc=1000)], "dpm++", 3)
    found.to_csv(tmp_path / "comparison.csv", index=False)
    assert write_report([str(tmp_path)], tmp_path / "report.html").verdict.sentence.startswith(
        "No verdict"
    )
    failed = [row("ot", float("nan"), status="failed", error="no")]
    pd.DataFrame(failed).to_csv(tmp_path / "comparison.csv", index=False)
    assert not write_report([str(tmp_path)], tmp_path / "report.html").figures
