"""The table for papers."""

from helpers.rows import both, folded, noise

from priorbench.report.gather import gather
from priorbench.report.latex import write_latex


def test_the_latex_table_says_nothing_of_what_controls_pay(tmp_path):
    folded(noise(9, 9), both("ot", 1, 1)).to_csv(tmp_path / "comparison.csv", index=False)
    text = write_latex(gather([str(tmp_path)]), tmp_path / "table.tex").read_text()
    assert "nan" not in text


def test_the_latex_table_says_who_is_flagged(tmp_path):
    table = folded(noise(9, 9), both("ot", 1, 1, stored_train=0.9), both("vae", 1, 1))
    table.to_csv(tmp_path / "comparison.csv", index=False)
    text = write_latex(gather([str(tmp_path)]), tmp_path / "table.tex").read_text()
    assert "ot (flagged) &" in text
    assert "vae &" in text
    assert "% flagged: ot at t_trunc" in text
    assert "memorises training images" in text
