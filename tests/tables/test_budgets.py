"""Several budgets of the fit: each has rows, ranks and a verdict of its own."""

import pytest
from helpers.rows import both, chosen, folded, noise, only, three_seeds

from priorbench.tables.best import best
from priorbench.tables.columns import budgets_of, with_budget
from priorbench.tables.fold import summary
from priorbench.tables.headline import headline
from priorbench.tables.words import in_words

NOISE = three_seeds("noise", (9.9, 10.0, 10.1), 10, t_trunc=1000)
ORACLE = three_seeds("oracle", (0.1, 0.2, 0.3), 0)


def fitted(prior, values, budget, **changes):
    return three_seeds(prior, values, values[0], fit_budget=budget, **changes)


def tuned(fid, budget):
    return noise(fid, fid, params="timesteps=tuned", fit_budget=budget)


# ot is as good after 10 s as it will ever be; vae overtakes it.
RUN = [
    NOISE, ORACLE,
    fitted("ot", (3.0, 3.1, 3.2), "10s"), fitted("vae", (8.0, 8.2, 8.1), "10s"),
    fitted("ot", (2.9, 3.1, 3.0), "60s"), fitted("vae", (1.0, 1.1, 1.2), "60s"),
]  # fmt: skip


def test_every_budget_has_its_ranks_and_the_controls_beside_it():
    found = chosen(*RUN)
    assert found.fit_budget.tolist() == ["10s"] * 4 + ["60s"] * 4
    for budget, first, second in (("10s", "ot", "vae"), ("60s", "vae", "ot")):
        rows = found[found.fit_budget == budget].set_index("prior")
        assert set(rows.index) == {"ot", "vae", "noise", "oracle"}
        assert (rows.loc[first, "rank"], rows.loc[second, "rank"]) == (1, 2)
    assert only(found, prior="vae", fit_budget="60s").fid == pytest.approx(1.1)


def test_a_prior_that_memorises_with_one_budget_is_ranked_with_another():
    """But not at another t_trunc of that budget."""
    found = chosen(
        NOISE, ORACLE,
        fitted("gan", (1.0, 1.1, 1.2), "10s"), fitted("vae", (4.0, 4.1, 4.2), "10s"),
        fitted("gan", (1.0, 1.1, 1.2), "60s"), fitted("vae", (4.0, 4.1, 4.2), "60s"),
        fitted("gan", (9.0, 9.1, 9.2), "60s", t_trunc=200, stored_train=0.9),
    )  # fmt: skip
    gan = found[found.prior == "gan"].set_index("fit_budget")
    assert gan.t_trunc.tolist() == [100, 100]
    assert gan.flag.tolist() == ["", "memorises training images"]
    assert gan["rank"].fillna(0).tolist() == [1, 0]


def test_a_fit_is_one_of_its_budget_and_no_more_seeds_than_it_has():
    found = summary(folded(*RUN))
    mine = found[(found.prior == "vae") & (found.split == "test")]
    assert mine.seeds.tolist() == [3, 3]
    assert mine.fid.tolist() == pytest.approx([8.1, 1.1])


def test_every_budget_has_a_sentence_the_best_first():
    table = folded(*RUN)
    found = headline(table, best(table, summary(table)))
    assert found.pays
    assert found.sentence.startswith("Fitted in 60s: vae at t_trunc = 100, 3 steps of dpm++: FID ")
    (other,) = found.others
    assert other.startswith("Fitted in 10s: ot at t_trunc = 100, 3 steps of dpm++: FID 3.1")
    assert found.words.index(found.sentence) < found.words.index(other)
    said = in_words(best(table, summary(table)))
    assert "Fitted in 10s: First at NFE 3: ot." in said
    assert "Fitted in 60s: First at NFE 3: vae." in said


def test_a_single_budget_is_not_spoken_of():
    table = folded(NOISE, fitted("ot", (3.0, 3.1, 3.2), "10s"))
    found = headline(table, best(table, summary(table)))
    assert found.others == []
    assert "10s" not in found.words
    assert not any("10s" in sentence for sentence in in_words(best(table, summary(table))))


def test_a_prior_that_does_not_pay_with_one_budget_may_with_another():
    table = folded(NOISE, fitted("vae", (19.0, 20.0, 21.0), "10s"), fitted("vae", (1, 1, 1), "60s"))
    found = headline(table, best(table, summary(table)))
    assert found.pays
    assert found.others[0].startswith("Fitted in 10s: No prior pays")


def test_tuned_times_are_the_rival_of_the_priors_that_were_fitted_as_long():
    """Tuning for 60 s finds times that 10 s did not, and a prior of 10 s does not meet those."""
    table = folded(
        noise(40, 40), tuned(20, "10s"), tuned(5, "60s"),
        both("ot", 10, 10, fit_budget="10s"), both("ot", 10, 10, fit_budget="60s"),
        both("gaussian", 10, 10),
    )  # fmt: skip
    ratio = {
        (prior, budget): only(table, prior=prior, split="test", fit_budget=budget).relative_nfe
        for prior, budget in (("ot", "10s"), ("ot", "60s"), ("gaussian", ""))
    }
    assert ratio == {
        ("ot", "10s"): 10 / 20, ("ot", "60s"): 10 / 5, ("gaussian", ""): 10 / 40,
    }  # fmt: skip
    found = best(table, summary(table))
    rivals = found[found.prior == "noise"].set_index("fit_budget").fid
    assert rivals.to_dict() == {"": 40, "10s": 20, "60s": 5}


def test_tuned_times_that_took_their_own_steps_meet_their_own_kind_alone():
    """`none` is one of several budgets, and no licence to meet everybody."""
    table = folded(
        noise(40, 40), tuned(1, ""), tuned(20, "10s"),
        both("ot", 10, 10, fit_budget="10s"), both("ot", 10, 10, fit_budget=""),
    )  # fmt: skip
    mine = only(table, prior="ot", split="test", fit_budget="10s")
    assert mine.relative_nfe == 10 / 20
    assert only(table, prior="ot", split="test", fit_budget="").relative_nfe == 10 / 1
    found = best(table, summary(table))
    rivals = found[found.prior == "noise"].set_index("fit_budget").fid
    assert rivals.to_dict() == {"": 1, "10s": 20}
    assert with_budget(table, "10s").fit_budget.tolist().count("") == 2  # uniform times


def test_a_closed_form_counts_once_among_what_is_corrected_for():
    """It scores the same with every budget, and what is the same is no further question."""
    rival = three_seeds("noise", (9.0, 10.0, 11.0), 10, t_trunc=1000)
    mine = fitted("ot", (7.8, 9.2, 9.8), "10s")
    once = fitted("gaussian", (30.0, 33.0, 31.0), "10s")
    again = [fitted("gaussian", (30.0, 33.0, 31.0), f"{s}s") for s in range(20, 30)]
    ps = {
        len(groups): only(chosen(*groups), prior="ot").beats_noise_p
        for groups in ([rival, mine, once], [rival, mine, once, *again])
    }
    assert ps[3] == pytest.approx(ps[13])


def test_a_closed_form_is_ranked_with_the_budgets_that_it_keeps_to():
    rows = [fitted("mixture", (1, 1.1, 1.2), b, fit_seconds=5.0) for b in ("2s", "60s")]
    found = chosen(NOISE, *rows).query("prior == 'mixture'").set_index("fit_budget")
    assert found.flag.to_dict() == {"2s": "over its budget of 2s", "60s": ""}
    assert found["rank"].isna().to_dict() == {"2s": True, "60s": False}


def test_every_budget_says_who_was_still_learning():
    late = {"late_gain": 0.1, "fit_steps": 100, "gain": 0.5}
    table = folded(
        NOISE, fitted("vae", (8, 8.1, 8.2), "10s", **late), fitted("vae", (1, 1.1, 1.2), "60s")
    )
    found = headline(table, best(table, summary(table)))
    assert found.learning == ""
    assert found.others[0].endswith(
        "vae was still learning when the fit ended: more fitting may change the order."
    )


def test_budgets_are_sorted_by_size_and_filtered_with_their_controls():
    table = folded(
        *(both("ot", 1, 1, fit_budget=b) for b in ("5min", "60s", "10s", "", "500 steps", "25%")),
        noise(40, 40),
    )
    assert budgets_of(table) == ["25%", "", "500 steps", "10s", "60s", "5min"]
    assert set(with_budget(table, "60s").prior) == {"ot", "noise"}
    assert len(with_budget(table, "60s")) == 4
    assert budgets_of(folded(noise(40, 40))) == [""]
