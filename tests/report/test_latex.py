"""The table for papers."""

from helpers.rows import both, folded, noise

from priorbench.report.gather import gather
from priorbench.report.latex import write_latex


def test_the_latex_table_says_nothing_of_what_controls_pay(tmp_path):
    folded(noise(9, 9), both("ot", 1, 1)).to_csv(tmp_path / "comparison.csv", index=False)
    text = write_latex(gather([str(tmp_path)]), tmp_path / "table.tex").read_text()
    assert "nan" not in text


def test_the_latex_table_names_budgets_where_there_are_several(tmp_path):
    for budgets in (("5s",), ("60s", "5s")):
        fits = [both("ot", 1, 1, fit_budget=budget) for budget in budgets]
        folded(noise(9, 9), *fits).to_csv(tmp_path / "comparison.csv", index=False)
        text = write_latex(gather([str(tmp_path)]), tmp_path / "table.tex").read_text()
        assert ("budget & prior &" in text) == (len(budgets) > 1)
    assert text.index("5s & ot") < text.index("60s & ot")


def test_the_latex_table_says_who_is_flagged(tmp_path):
    table = folded(noise(9, 9), both("ot", 1, 1, stored_train=0.9), both("vae", 1, 1))
    table.to_csv(tmp_path / "comparison.csv", index=False)
    text = write_latex(gather([str(tmp_path)]), tmp_path / "table.tex").read_text()
    assert "ot (flagged) &" in text
    assert "vae &" in text
    assert "% flagged: ot at t_trunc" in text
    assert "memorises training images" in text
