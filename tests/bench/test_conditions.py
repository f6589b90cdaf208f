"""What must not be compared is not: seconds of unlike conditions, failed seeds, sources that
changed on the way.
"""

import json
import math
import os

import pandas as pd
import pytest
from helpers.rows import both, folded, noise, only, row

import priorbench
from priorbench import UserError
from priorbench.bench.cell import task_of
from priorbench.files import sweep
from priorbench.plan.layout import make_plan, read_plan
from priorbench.plan.reading import make_config
from priorbench.plugin_files import FILES
from priorbench.plugin_manager import add_plugin, load_plugins
from priorbench.report.gather import gather
from priorbench.report.latex import write_latex
from priorbench.store.results import FOLDERS, Store
from priorbench.tables import fold as table
from priorbench.tables.compare import differences
from priorbench.tables.headline import headline
from priorbench.tables.selection import best


def chosen(*groups):
    found = folded(*groups)
    return best(found, table.summary(found))


def seeds(prior, values, **changes):
    return [r for s, v in enumerate(values) for r in both(prior, v, v, seed=s, **changes)]


# --- seconds ----------------------------------------------------------------------------------------------


def test_between_two_rivals_a_slow_prior_meets_the_slower_one_too():
    """2 ms for three steps and 40 ms for the full chain: a prior of 15 ms may not be measured by
    the first alone.
    """
    rivals = noise(8, 8, ms=2), noise(1, 1, steps=100, ms=40)
    slow = only(folded(*rivals, both("ot", 2, 2, ms=15)), prior="ot", split="test")
    quick = only(folded(*rivals, both("ot", 2, 2, ms=2)), prior="ot", split="test")
    assert slow.relative_nfe == quick.relative_nfe == quick.relative_time == pytest.approx(2 / 8)
    assert slow.relative_time == pytest.approx(2)


def test_equal_cost_names_the_lesser_of_the_two_gains():
    found = chosen(noise(40, 40, ms=4), noise(8, 8, steps=5, ms=6), both("ot", 2, 2, ms=6.1))
    sentence = headline(
        folded(noise(40, 40, ms=4), noise(8, 8, steps=5, ms=6), both("ot", 2, 2, ms=6.1)), found
    )
    assert (
        "4.0 times better than the best solver from pure noise at equal cost" in sentence.sentence
    )


def test_a_seed_timed_otherwise_is_a_seed_all_the_same_and_its_seconds_are_not_averaged():
    groups = [
        seeds("noise", (9, 10, 11), t_trunc=1000),
        seeds("ot", (1.0, 1.1), solver="unipc", ms=2),
    ]
    odd = both("ot", 1.2, 1.2, solver="unipc", seed=2, concurrency=2, threads=1, ms=20)
    (mine,) = [r for r in chosen(*groups, odd).to_dict("records") if r["prior"] == "ot"]
    assert mine["seeds"] == 3
    assert mine["fid"] == pytest.approx(1.1)
    assert mine["beats_noise"] == "yes"
    means = table.summary(folded(*groups, odd))
    (summed,) = means[(means.prior == "ot") & (means.split == "test")].to_dict("records")
    assert summed["threads"] == summed["concurrency"] == "several"
    assert math.isnan(summed["denoise_seconds"])
    found = folded(*groups, odd)
    assert found[found.prior == "ot"].relative_time.isna().all()
    assert math.isnan(only(found, prior="ot", seed=2, split="test").speedup)
    assert only(found, prior="ot", seed=1, split="test").speedup == pytest.approx(1.5)


def test_two_seeds_of_unlike_conditions_have_a_verdict():
    groups = [
        seeds("noise", (9, 10), t_trunc=1000),
        both("ot", 1, 1),
        both("ot", 1.1, 1.1, seed=1, threads=1),
    ]
    (mine,) = [r for r in chosen(*groups).to_dict("records") if r["prior"] == "ot"]
    assert mine["seeds"] == 2
    assert mine["beats_noise_in_time"] == "undecided"


def test_a_run_of_unlike_conditions_has_a_page_still(tmp_path):
    groups = [noise(9, 9), both("ot", 1, 1, concurrency=2), both("vae", 2, 2)]
    folded(*groups).to_csv(tmp_path / "comparison.csv", index=False)
    assert gather([str(tmp_path)]).best.prior.tolist().count("ot") == 1


# --- seeds ------------------------------------------------------------------------------------------------


def test_seeds_that_failed_leave_no_rank_and_no_headline():
    """One good seed of three is no mean over three, however good it is."""
    good = [both("gan", 0.1, 0.1)[i] for i in (0, 1)]
    bad = [row("gan", math.nan, seed=s, split=split, status="failed", error="diverged") for s in (1, 2)
           for split in ("test", "validation")]  # fmt: skip
    groups = [seeds("noise", (9, 10, 11), t_trunc=1000), seeds("ot", (1, 1.1, 1.2)), good, bad]
    found = chosen(*groups)
    gan = found[found.prior == "gan"].iloc[0]
    assert gan.flag == "failed in 2 of 3 seeds"
    assert math.isnan(gan["rank"])
    assert headline(folded(*groups), found).sentence.startswith("ot at")


def test_a_setting_that_failed_nowhere_is_chosen_before_one_that_did():
    bad = [
        row("ot", math.nan, seed=1, t_trunc=200, split=s, status="failed")
        for s in ("test", "validation")
    ]
    found = chosen(
        seeds("noise", (9, 10), t_trunc=1000),
        seeds("ot", (2, 2.1)),
        both("ot", 1, 1, t_trunc=200),
        bad,
    )
    assert found[found.prior == "ot"].t_trunc.tolist() == [100]


def test_without_intervals_there_is_no_rank():
    found = chosen(
        noise(9, 9), both("ot", 1, 1, fid_se=math.nan), both("vae", 5, 5, fid_se=math.nan)
    )
    assert found["rank"].isna().all()


def test_other_sizes_of_the_choosing_split_are_not_folded():
    def run(n):
        return folded(noise(9, 9), [row("ot", 1), row("ot", 1, split="validation", n_samples=n)])

    assert differences([("a", run(300)), ("b", run(300))]) == []
    (found,) = differences([("a", run(300)), ("b", run(100))])
    assert "'n_samples' differs: 300 in a (choosing split); 100 in b (choosing split)" in found


def test_a_rival_chosen_by_another_number_of_samples_is_not_folded():
    """Earlier versions chose rivals by as many samples as they reported, and the rest by fewer:
    such runs can be folded with each other, and not with one that chooses all alike.
    """

    def run(rivals):
        ot = [row("ot", 1), row("ot", 1, split="validation", n_samples=300)]
        return folded([row("noise", 9, t_trunc=1000)], ot,
                      [row("noise", 9, t_trunc=1000, split="validation", n_samples=rivals)])  # fmt: skip

    assert differences([("old", run(1000)), ("older", run(1000))]) == []
    assert differences([("old", run(1000)), ("new", run(300))]) == [
        "column 'n_samples' differs: 1000 in old (choosing split); 300 in new (choosing split)"
    ]


def test_a_gain_is_only_said_to_be_lost_where_it_was_one():
    """vae gains at equal NFE and loses in time; ot, nearer, is shown neither."""
    groups = [
        noise(10, 10, ms=1), noise(1, 1, steps=10, ms=9), both("vae", 8, 8, ms=9),
        both("ot", 7, 7, ms=9, fid_se=4.0),
    ]  # fmt: skip
    said = headline(folded(*groups), chosen(*groups)).sentence
    assert said.startswith("No prior is shown to pay. The nearest is ot")
    assert "lost" not in said


def test_the_latex_table_says_nothing_of_what_controls_pay(tmp_path):
    folded(noise(9, 9), both("ot", 1, 1)).to_csv(tmp_path / "comparison.csv", index=False)
    text = write_latex(gather([str(tmp_path)]), tmp_path / "table.tex").read_text()
    assert "nan" not in text


# --- what changes while a run goes on ---------------------------------------------------------------------


def test_a_process_that_loads_something_else_than_was_planned_says_so():
    plan = read_plan(None, {"priors": "gaussian", "t_trunc": [100], "n_samples": 24})
    spec = next(spec for spec in plan.cells if spec.prior == "gaussian")
    assert task_of(spec)
    for name in ("dataset", "backbone", "extractor"):
        with pytest.raises(
            UserError, match=f"{name.replace('dataset', 'data set')} .* has changed since"
        ):
            task_of(_with(spec, digests=spec.digests | {name: "0" * 64}))
    with pytest.raises(UserError, match="plugin of prior 'gaussian' has changed"):
        task_of(_with(spec, versions=spec.versions | {spec.distribution: "0"}))


def _with(spec, **changes):
    from dataclasses import replace

    return replace(spec, **changes)


PLUGIN = """
from priorbench import TruncPrior, hookimpl
class P(TruncPrior):
    WIDTH = {width}
@hookimpl
def register_priors(register):
    register("edited", "edited_prior:P")
"""


def test_an_edited_plugin_file_runs_as_it_is_now(tmp_path, monkeypatch):
    monkeypatch.setenv(FILES, "")
    file = tmp_path / "edited_prior.py"
    versions = set()
    for width in (1, 2):
        file.write_text(PLUGIN.format(width=width))
        os.utime(file, (width, width))  # whatever the clock's resolution
        add_plugin(file)
        found = load_plugins().find("prior", "edited")
        assert width == found.load().WIDTH
        versions.add(found.version)
    assert len(versions) == 2
    load_plugins.cache_clear()


def test_a_model_trained_again_into_its_folder_is_another(tmp_path, pipeline):
    import shutil

    folder = tmp_path / "model"
    digests = []
    for beta in (0.02, 0.03):
        shutil.copytree(pipeline(beta_end=beta), folder, dirs_exist_ok=True)
        plan = make_plan(
            make_config(None, {"priors": "gaussian", "t_trunc": [100], "backbone": str(folder)})
        )
        digests.append(plan.cells[0].digests["backbone"])
    assert digests[0] != digests[1]


def test_the_network_is_more_than_its_weights(tmp_path, pipeline):
    folder = pipeline()
    found = []
    for activation in ("silu", "gelu"):
        config = json.loads((folder / "unet" / "config.json").read_text())
        (folder / "unet" / "config.json").write_text(json.dumps(config | {"act_fn": activation}))
        plan = make_plan(
            make_config(None, {"priors": "gaussian", "t_trunc": [100], "backbone": str(folder)})
        )
        found.append(plan.cells[-1])
    assert found[0].digests["backbone"] == found[1].digests["backbone"]
    assert found[0].cell != found[1].cell
    assert found[0].fit != found[1].fit


# --- what is kept and told --------------------------------------------------------------------------------


def test_collect_shows_what_failed_and_says_what_is_missing(tmp_path, monkeypatch):
    from helpers.survival import FAULTY, SMALL, Watcher

    monkeypatch.setenv(FILES, str(FAULTY))
    load_plugins.cache_clear()
    arguments = {
        "t_trunc": [100],
        "steps": 2,
        "n_samples": 24,
        "output": tmp_path,
        "settings": SMALL,
    }
    first = priorbench.run(priors="gaussian,raises", **arguments)
    watcher = Watcher()
    again = priorbench.run(priors="gaussian,raises", collect=True, observer=watcher, **arguments)
    assert first.status.tolist() == again.status.tolist()
    assert (again.status == "failed").sum() == 1
    assert watcher.notes == ["3 of 4 results are there; the tables lack the others"]
    load_plugins.cache_clear()


def test_a_prior_that_says_anything_and_fails_leaves_the_others_alone(tmp_path, monkeypatch):
    from helpers.survival import FAULTY, small_run

    monkeypatch.setenv(FILES, str(FAULTY))
    load_plugins.cache_clear()
    found = small_run(tmp_path, priors="raises,gaussian")
    assert set(found[found.prior == "gaussian"].status) == {"ok"}
    assert "Panic: of another language" in found[found.prior == "raises"].error.iloc[0]
    load_plugins.cache_clear()


def test_only_the_runs_own_folders_are_swept(tmp_path):
    mine = [tmp_path / ".run.json.12.tmp", tmp_path / "cells" / ".a.json.12.tmp"]
    others = [tmp_path / "other-run" / "cells" / ".a.json.12.tmp", tmp_path / "mine" / ".b.12.tmp"]
    for path in (*mine, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    sweep(tmp_path, FOLDERS)
    assert not any(p.exists() for p in mine)
    assert all(p.exists() for p in others)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short"])
def test_images_cut_short_are_no_images(tmp_path, content):
    plan = read_plan(None, {"priors": "gaussian", "t_trunc": [100], "n_samples": 24})
    store = Store(tmp_path)
    path = store.images_path(plan.cells[0])
    path.parent.mkdir()
    path.write_bytes(content)
    assert store.images(plan.cells[0]) == {}


def test_long_budgets_are_written_as_they_are_read():
    config = make_config(None, {"fit_budget": "300h"}, ["timeout=400h"])
    assert config.fit_budget == "1080000s"
    assert config.timeout == "1440000s"


@pytest.mark.parametrize("name", ["~nobody-of-this-name/x", "n" * 300])
def test_a_name_that_is_no_path_is_one_line(name):
    for key in ("dataset", "backbone", "extractor"):
        with pytest.raises(UserError):
            read_plan(None, {key: name})
    with pytest.raises(UserError):
        read_plan(name, {})


def test_an_extractor_that_cannot_read_the_images_is_told_before_anything_is_computed(tmp_path):
    with pytest.raises(UserError):
        read_plan(None, {"extractor": "mnist"})


def test_a_table_has_no_mean_over_paths(tmp_path):
    """The same weights from two folders are one backbone."""
    found = table.summary(folded(both("ot", 1, 1), both("ot", 2, 2, seed=1, backbone="elsewhere")))
    assert found[found.split == "test"].seeds.tolist() == [2]
    assert isinstance(found, pd.DataFrame)
