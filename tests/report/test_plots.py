"""What the figures of budgets and operations are drawn from, by hand."""

from helpers.rows import both, folded, noise, three_seeds

from priorbench.report.gather import gather


def figures(tmp_path, *groups):
    folded(*groups).to_csv(tmp_path / "comparison.csv", index=False)
    return {figure.id: figure for figure in gather([str(tmp_path)]).figures}


def points(series):
    return [(x, round(y, 9)) for x, y in zip(series.x, series.y, strict=True)]


def test_fid_over_the_time_to_fit_has_a_point_for_each_budget_and_lines_for_controls(tmp_path):
    fits = [
        three_seeds(prior, (fid - 0.1, fid, fid + 0.1), 1, fit_budget=budget, fit_seconds=seconds)
        for prior, fid, budget, seconds in (
            ("ot", 3.0, "10s", 10), ("ot", 2.0, "60s", 60),
            ("vae", 8.0, "10s", 12), ("vae", 1.0, "60s", 61), ("gan", 7.0, "10s", 11),
        )
    ]  # fmt: skip
    rest = [three_seeds("noise", (9.0, 10.0, 11.0), 1, t_trunc=1000, fit_seconds=0)]
    rest += [three_seeds("oracle", (0.4, 0.5, 0.6), 1, fit_seconds=0)]
    found = figures(tmp_path, *fits, *rest)["fid-fit"]
    assert list(found.views) == ["NFE 3"]
    series = {one.name: one for one in found.views["NFE 3"]}
    assert points(series["ot"]) == [(10, 3), (60, 2)]
    assert points(series["vae"]) == [(12, 8), (61, 1)]
    assert points(series["gan"]) == [(11, 7)]  # never fitted for longer
    assert set(series["pure noise, equal NFE"].y) == {10}
    assert set(series["oracle"].y) == {0.5}
    for line in ("pure noise, equal NFE", "oracle"):
        assert (min(series[line].x), max(series[line].x)) == (10, 61)


def test_one_budget_has_no_figure_over_the_time_to_fit(tmp_path):
    found = figures(tmp_path, noise(9, 9), both("ot", 1, 1, fit_budget="10s"))
    assert "fid-fit" not in found


def test_other_figures_are_of_the_largest_budget(tmp_path):
    fits = [both("ot", fid, fid, fit_budget=budget) for fid, budget in ((3, "9s"), (2, "5min"))]
    found = figures(tmp_path, noise(9, 9), *fits)
    for name in ("quality-time", "fid-t_trunc"):
        (view,) = found[name].views.values()
        assert next(one.y for one in view if one.name == "ot") == [2], name


def test_operations_are_those_of_prior_and_chain_for_an_image(tmp_path):
    found = figures(
        tmp_path,
        noise(9, 9, flops_prior=0, flops_chain=3e9),
        both("ot", 1, 1, flops_prior=5e8, flops_chain=3e9),
    )["quality-operations"]
    (view,) = found.views.values()
    series = {one.name: one for one in view}
    assert points(series["ot"]) == [(3.5, 1)]
    assert points(series["pure noise"]) == [(3.0, 9)]
    assert "ot 1 in 3.5 GFLOP" in found.caption
    assert "(GFLOP)" in found.x.title


def test_without_operations_there_is_no_figure_of_them(tmp_path):
    assert "quality-operations" not in figures(tmp_path, noise(9, 9), both("ot", 1, 1))


def test_the_figures_say_which_budget_they_show(tmp_path):
    fits = [both("ot", 3, 3, fit_budget=budget) for budget in ("9s", "5min")]
    found = figures(tmp_path, noise(9, 9), *fits)
    for name, figure in found.items():
        assert ("Fitted in 5min." in figure.caption) == (name != "fid-fit"), name
    (view,) = found["fid-fit"].views.values()
    assert ["fitted in 9s" in text for text in view[0].text] == [True, False]


def test_the_curves_are_means_over_seeds_whatever_their_shares(tmp_path):
    """Fits by seconds are looked at just after an eighth of them.

    Another fit, which an earlier run left there, takes no part.
    """
    (tmp_path / "fits").mkdir()
    for seed, late, distance in ((0, 0.001, 2.0), (1, 0.004, 4.0)):
        rows = [
            f"ot,,100,{seed},,{share},{i},{seconds},,{distance},0.1"
            for i, (share, seconds) in enumerate(((0, 0), (0.25 + late, 2.5), (1, 10)))
        ]
        text = "prior,params,t_trunc,seed,fit_budget,share,step,seconds,loss,distance,floor"
        (tmp_path / "fits" / f"ot-{seed}.csv").write_text("\n".join([text, *rows]) + "\n")
    (tmp_path / "fits" / "ot-old.csv").write_text((tmp_path / "fits" / "ot-1.csv").read_text())
    fits = [both("ot", 1 + seed, 1, seed=seed, fit=f"ot-{seed}") for seed in (0, 1)]
    found = figures(tmp_path, noise(9, 9), *fits)["learning"]
    (view,) = found.views.values()
    assert points(view[0]) == [(0, 3), (2.5, 3), (10, 3)]
