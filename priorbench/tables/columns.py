"""The schema of the tables: every column of comparison.csv, its meaning, and the part it plays.

A new column starts here: give it a line in :data:`SCHEMA`, and let :mod:`priorbench.bench.measure`
return its value (or :mod:`.selection`, where it takes other rows to know it). The documentation's
table of columns is generated from this one.
"""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..plan.budget import size

Row = dict[str, Any]  # a row of comparison.csv: column -> value


# What the tables do with a column: the parts it can play.
ROLES = {
    "setting": "tells two rows of summary.csv apart; all seeds of a setting share it",
    "averaged": "summary.csv holds its mean over seeds, with the ends of the 95 % interval",
    "seconds": "has no mean over rows that were timed under different conditions",
    "shared": "is pooled over the run (see .seconds), so seeds say nothing about its spread",
    "varies": "differs from run to run on the same machine; all other columns reproduce",
    "same": "must agree before runs can be ranked in one table",
    "text": "is read as text, with nothing as the empty string",
    "digest": "is read as text: a hash such as 123e4567 is not a number",
    "younger": "is missing from tables of earlier versions, which can be read without it",
}


@dataclass(frozen=True)
class Column:
    """A column of comparison.csv: its name, what it holds (with the unit), and its roles."""

    name: str
    meaning: str
    roles: str = ""

    def plays(self, role: str) -> bool:
        """Whether ``role``, a key of :data:`ROLES`, is one of the column's."""
        return role in self.roles.split()


SCHEMA = (
    Column("dataset", "The data set, by name.", "setting same"),
    Column("dataset_sha256", "The first 8 digits of the hash of its images and splits.",
           "setting same digest"),
    Column("backbone", "The frozen model, by name or path."),
    Column("backbone_sha256", "The first 8 digits of the hash of its weights and schedule.",
           "setting same digest"),
    Column("prior", "The prior, by its registered name.", "setting"),
    Column("params", "The hyperparameters that were set, `a=1,b=2`; empty for the defaults.",
           "setting text"),
    Column("emits", "What `sample` returns: `x_t`, or `x_0`, which the harness then noises.",
           "setting"),
    Column("control", "True for priors that are never ranked: `noise`, `oracle`, `memoriser`.",
           "setting"),
    Column("t_trunc", "Where the chain starts, in noising steps.", "setting"),
    Column("T", "The number of noising steps of the whole chain.", "setting same"),
    Column("alpha_bar", "The share of the signal's variance that is left at t_trunc."),
    Column("solver", "The solver that takes x_{t_trunc} to x_0.", "setting"),
    Column("steps", "The steps of the truncated chain.", "setting"),
    Column("nfe", "Evaluations of the frozen network for one image, counted: those of the chain "
           "plus `nfe_prior` (rounded up).", "setting"),
    Column("nfe_prior", "The prior's own part of `nfe`: those that it made in `sample`, and its "
           "other operations in whole evaluations (a half is one), so that no network of its own "
           "as large as the frozen one goes uncounted. 0 for nearly all priors.",
           "averaged younger"),
    Column("seed", "The seed of the fit and of all draws."),
    Column("split", "`test` rows are reported. `validation` rows (`train` for the oracle) are what "
           "settings are chosen by; of the quality columns they have `fid` alone.", "setting"),
    Column("n_samples", "How many samples the row's figures were computed from.", "setting same"),
    Column("extractor", "The network whose features FID and its relatives are computed from.",
           "setting same"),
    Column("features", "How many features that network gives an image.", "younger"),
    Column("n_reference", "How many images of the split the samples are compared with.", "younger"),
    Column("fid", "Fréchet distance between samples and the images of the split.", "averaged"),
    Column("fid_se", "Standard error of `fid` over new samples, against the same test images."),
    Column("fid_floor", "FID of `n_samples` training images (all of them, if there are fewer) "
           "against the test split, the mean of ten draws: what a perfect model would score.",
           "averaged"),
    Column("fid_floor_se", "Standard error of that mean.", "younger"),
    Column("fid_inf", "FID extrapolated to infinitely many images.", "averaged"),
    Column("fid_inf_se", "Standard error of `fid_inf` over new samples and new test images."),
    Column("kid", "Kernel inception distance: unbiased, like `fid_inf`.", "averaged"),
    Column("precision", "Share of samples that lie among the test images (k nearest neighbours).",
           "averaged"),
    Column("recall", "Share of test images that lie among the samples.", "averaged"),
    Column("excess", "`fid` minus that of the best oracle row with the same NFE: the prior's part "
           "of the error.", "averaged"),
    Column("relative_nfe", "`fid` divided by that of the best solver from pure noise with the same "
           "NFE; below 1 the prior wins. Empty where there is no such solver.", "averaged"),
    Column("relative_time", "`fid` divided by that of the best solver from pure noise that is not "
           "shown to take more than 1.05 times the row's seconds.", "averaged varies"),
    Column("relative_flops", "`fid` divided by that of the best solver from pure noise that takes "
           "no more operations than the row, the next dearer one included where none takes half "
           "of them.", "averaged younger"),
    Column("authenticity", "Share of samples that are not copies of a training image (Alaa et al., "
           "2022).", "averaged"),
    Column("authenticity_test", "The same share of the test images.", "averaged"),
    Column("neighbour_ratio", "Median over samples of the distance to the nearest training image "
           "divided by the distance to the nearest test image.", "averaged"),
    Column("neighbour_ratio_validation", "The same of the validation images.", "averaged"),
    Column("neighbour_ratio_se", "Standard error of the difference between the two.", "younger"),
    Column("stored_train", "Whether what the prior emits was stored from training images: 0 for "
           "unseen images, 1 for stored ones.", "averaged"),
    Column("stored_validation", "The same for validation images.", "averaged"),
    Column("stored_test", "The same for test images.", "averaged"),
    Column("stored_se", "The largest standard error of the three.", "younger"),
    Column("distinct", "Share of what the prior emits that does not repeat another sample.",
           "averaged"),
    Column("variation", "Variance of what the prior emits divided by that of test images, emitted "
           "alike.", "averaged younger"),
    Column("noise_xt", "Variance of x_{t_trunc} in directions where clean images hardly vary, "
           "divided by that of real draws.", "averaged"),
    Column("noise_se", "Standard error that `noise_xt` has for Gaussian noise."),
    Column("flag", "What of the above is wrong beyond chance, in words; usually empty.", "text"),
    Column("failed_checks", "The quick conformance checks that the prior fails; usually empty.",
           "text younger"),
    Column("sw2_xt", "Sliced W2 between the prior's x_{t_trunc} and fresh held-out draws, in pixel "
           "units ([-1, 1]) times the root of their number.", "averaged"),
    Column("w2_xt", "Exact W2 between `w2_points` of each, in the same units. It is biased upward, "
           "by the same amount in every row: compare it with the oracle's.", "averaged"),
    Column("w2_gaussian_xt", "W2 between the Gaussians with their means and covariances.",
           "averaged"),
    Column("sw2_x0", "Sliced W2 between x_0 and the test images.", "averaged"),
    Column("w2_x0", "Exact W2 between x_0 and the test images.", "averaged"),
    Column("w2_gaussian_x0", "W2 between the Gaussians of x_0 and of the test images.", "averaged"),
    Column("amplification", "`sw2_x0` divided by `sw2_xt` / sqrt(alpha_bar): below 1 the frozen "
           "model repairs the prior's error, above 1 it amplifies it.", "averaged"),
    Column("fit_budget", "The seconds or steps given to the fit, `60s`; empty for each prior's "
           "own number of steps, and for controls without tuned times.", "setting text"),
    Column("fit_steps", "Optimiser steps that the fit took.", "averaged"),
    Column("fit_seconds", "Seconds that the fit took.", "averaged seconds varies"),
    Column("gain", "Share by which the fit lowered sliced W2 at x_{t_trunc} to held-out draws, "
           "from its start; between clean images for a fit that t_trunc has no part in; empty for "
           "fits without steps.", "averaged younger"),
    Column("late_gain", "The same for the last quarter of the fit.", "averaged younger"),
    Column("learning", "`still learning` where the last quarter lowered it by more than 2 %, or "
           "where there were too few steps to tell; else empty.", "text younger"),
    Column("transport_cost", "Mean squared distance that the prior moves a normal draw z to f(z), "
           "per number of an image; empty where it shows no z in image space.",
           "averaged younger"),
    Column("transport_cost_points", "The least cost of any pairing of the same z and f(z), exact. "
           "It bounds the least cost of all maps from above: few points in many dimensions have "
           "no cheaper pairing.", "averaged younger"),
    Column("transport_cost_gaussian", "The least cost between the Gaussians with their means and "
           "covariances. It bounds the least cost of all maps from below.", "averaged younger"),
    Column("prior_seconds", "Seconds per image that the prior took, over the whole draw.",
           "averaged seconds varies"),
    Column("denoise_seconds", "Seconds per image of the chain: the median over all batches of all "
           "cells that ran this chain.", "averaged seconds shared varies"),
    Column("seconds_low", "The 10 % quantile over batches of both together (test rows).",
           "varies younger"),
    Column("seconds_high", "The 90 % quantile.", "varies younger"),
    Column("images_per_second", "Images per second, the prior's time included.",
           "averaged seconds shared varies"),
    Column("speedup", "Seconds per image of the run's full chain divided by this row's.",
           "averaged shared varies"),
    Column("break_even", "Images after which the fit has paid for itself, against the quickest "
           "solver from pure noise with as low an FID; inf: never; empty: none is as good.",
           "averaged varies"),
    Column("flops_prior", "Floating-point operations of the prior for an image, its evaluations of "
           "the frozen network included: those of matrix products, convolutions and attention.",
           "averaged younger"),
    Column("flops_chain", "Those of the chain.", "averaged younger"),
    Column("parameters", "Parameters of the prior."),
    Column("peak_memory_mb", "The most memory in use during the cell, in MB: allocated on CUDA, "
           "else resident in the process.", "averaged seconds varies"),
    Column("device", "The device that the frozen model ran on."),
    Column("hardware", "What it is: the name of the GPU, else that of the processor.",
           "text younger"),
    Column("node", "The machine that computed the row, by its host name.", "text varies younger"),
    Column("threads", "CPU threads of the process: of torch, and of the BLAS of numpy and scipy."),
    Column("concurrency", "How many cells ran at once while this one was timed.", "same"),
    Column("model_precision", "The frozen model's arithmetic: fp32, bf16 or fp16.", "setting same"),
    Column("warning", "What to know before believing the row; usually empty.", "text varies"),
    Column("status", "`ok` or `failed`."),
    Column("error", "Why it failed.", "text"),
    Column("priorbench_version", "The version of priorbench that computed the row."),
    Column("torch_version", "The version of torch."),
    Column("cell", "The hash that names the row's file in `cells/`.", "digest"),
    Column("fit", "The name of the fitted prior in `priors/`, and of its curve in `fits/`.",
           "text younger"),
)  # fmt: skip


def _playing(role: str) -> list[str]:
    return [column.name for column in SCHEMA if column.plays(role)]


COLUMNS = [column.name for column in SCHEMA]
SETTING = _playing("setting")
AVERAGED = _playing("averaged")
SECONDS = _playing("seconds")
SHARED = _playing("shared")
VARIES = _playing("varies")
SAME = _playing("same")
TEXT = _playing("text")
DIGESTS = _playing("digest")
YOUNGER = _playing("younger")

SEVERAL = "several"  # stands where the rows of a group disagree

LABEL = ["prior", "params"]
WHERE = ["t_trunc", "solver", "steps"]
FIT = [*LABEL, "t_trunc", "fit_budget"]
PLACE = [*FIT, "solver", "steps"]
MACHINE = ["device", "hardware", "threads"]
CLOCK = [*MACHINE, "concurrency"]  # the conditions of timing: seconds under different ones differ
# Those that tables add: they need other rows, or are words for what rows hold.
ADDED = [
    "excess", "relative_nfe", "relative_time", "relative_flops", "break_even", "flag", "learning",
]  # fmt: skip

BEST = [
    "fit_budget", "nfe", "prior", "params", "control", "rank", "beats_noise", "beats_noise_in_time",
    "t_trunc", "solver", "steps", "seeds",
    *(f"{name}{end}"
      for name in ("fid", "excess", "relative_nfe", "relative_time", "relative_flops", "fid_inf")
      for end in ("", "_low", "_high")),
    "beats_noise_p", "beats_noise_in_time_p", "difference", "difference_low", "difference_high",
    "kid", "speedup", "break_even", "fit_seconds", "flops_prior", "flops_chain", "gain",
    "n_samples", "split", "chosen_on", "extractor", "learning", "flag", "doubt", "fit",
]  # fmt: skip


def succeeded(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that have figures."""
    return table[table.status == "ok"]


def reported(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the test split: what is reported."""
    return table[table.split == "test"]


def choosing(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the splits that settings are chosen on."""
    return table[table.split != "test"]


def contenders(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of priors that are ranked, controls left out."""
    return table[~table.control.astype(bool)]


def budgets_of(table: pd.DataFrame) -> list[str]:
    """The budgets that contenders were fitted with, the smallest first; "" is each prior's own."""
    return sorted(contenders(table).fit_budget.fillna("").unique(), key=size) or [""]


def with_budget(table: pd.DataFrame, budget: str) -> pd.DataFrame:
    """The rows of a budget, and of the controls that are given none, which stand beside every one.

    Pure noise over tuned times is given budgets. Its own number of steps is then one of them.
    """
    mine = table.fit_budget.fillna("")
    given = mine.groupby([table.prior, table.params.fillna("")]).transform("max") != ""
    return table[(mine == budget) | (table.control.astype(bool) & ~given)]
