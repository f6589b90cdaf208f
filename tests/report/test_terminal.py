"""The tables in the terminal."""

import io
import re

from helpers.rows import both, folded, noise, row, three_seeds
from rich.console import Console

from priorbench.report.terminal import show
from priorbench.tables import fold as table
from priorbench.tables.best import best


def printed(*groups):
    found = folded(*groups)
    means = table.summary(found)
    console = Console(file=io.StringIO(), width=200)
    show(found, means, best(found, means), console)
    return console.file.getvalue()


def test_the_terminal_marks_the_best_of_several_seeds_and_nothing_of_one():
    several = printed(
        three_seeds("noise", (9, 10, 11), 10, t_trunc=1000),
        three_seeds("ot", (1, 1.1, 1.2), 1),
        three_seeds("vae", (5, 5.1, 5.2), 5),
    )
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


def test_controls_are_not_listed_as_flagged_for_being_what_they_are():
    said = printed(
        noise(9, 9), both("noise", 9, 9, noise_xt=1.6), both("memoriser", 1, 1, stored_train=1.0),
        both("cheat", 1, 1, stored_train=1.0),
    )  # fmt: skip
    assert re.findall(r"^flagged (\w+)", said, re.MULTILINE) == ["cheat"]
