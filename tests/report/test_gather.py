"""Runs gathered for a page."""

from helpers.rows import both, folded, noise

from priorbench.report.gather import gather


def test_a_run_of_unlike_conditions_has_a_page_still(tmp_path):
    groups = [noise(9, 9), both("ot", 1, 1, concurrency=2), both("vae", 2, 2)]
    folded(*groups).to_csv(tmp_path / "comparison.csv", index=False)
    assert gather([str(tmp_path)]).best.prior.tolist().count("ot") == 1
