"""The schema of the tables: which columns there are, and what each of them is for."""

from typing import Any

Row = dict[str, Any]  # a row of comparison.csv: column -> value

COLUMNS = [
    "dataset", "dataset_sha256", "backbone", "backbone_sha256", "prior", "params", "emits", "control",
    "t_trunc", "T", "alpha_bar", "solver", "steps", "nfe", "nfe_prior", "seed", "split", "n_samples", "extractor",
    "fid", "fid_se", "fid_floor", "fid_floor_se", "fid_inf", "fid_inf_se", "kid", "precision", "recall",
    "excess", "relative_nfe", "relative_time",
    "authenticity", "authenticity_test", "neighbour_ratio", "neighbour_ratio_validation", "neighbour_ratio_se",
    "stored_train", "stored_validation", "stored_test", "stored_se", "distinct", "noise_xt", "noise_se",
    "flag", "failed_checks",
    "sw2_xt", "w2_xt", "w2_gaussian_xt", "sw2_x0", "w2_x0", "w2_gaussian_x0", "amplification",
    "fit_budget", "fit_steps", "fit_seconds", "prior_seconds", "denoise_seconds", "seconds_low", "seconds_high",
    "images_per_second", "speedup", "break_even", "parameters", "peak_memory_mb",
    "device", "threads", "concurrency", "model_precision",
    "warning", "status", "error", "priorbench_version", "torch_version", "cell",
]  # fmt: skip

# What differs from run to run on the same machine; all other columns are reproduced.
MEASURED_IN_TIME = [
    "fit_seconds", "prior_seconds", "denoise_seconds", "seconds_low", "seconds_high", "images_per_second", "speedup",
    "peak_memory_mb", "relative_time", "break_even", "warning",
]  # fmt: skip

# The columns whose mean and interval over seeds stand in summary.csv.
AVERAGED = [
    "nfe_prior", "fid", "fid_floor", "fid_inf", "kid", "precision", "recall", "excess", "relative_nfe",
    "relative_time",
    "authenticity", "authenticity_test", "neighbour_ratio", "neighbour_ratio_validation",
    "stored_train", "stored_validation", "stored_test", "distinct", "noise_xt",
    "sw2_xt", "w2_xt", "w2_gaussian_xt", "sw2_x0", "w2_x0", "w2_gaussian_x0", "amplification",
    "fit_steps", "fit_seconds", "prior_seconds", "denoise_seconds", "images_per_second", "speedup", "break_even",
    "peak_memory_mb",
]  # fmt: skip

# Where one seed has an interval all the same: the column of its standard error over samples.
STANDARD_ERROR = {"fid": "fid_se", "fid_inf": "fid_inf_se"}

# What tells two rows of summary.csv apart; the seeds of a setting have all of it in common.
SETTING = [
    "dataset", "dataset_sha256", "backbone_sha256", "prior", "params", "emits", "control", "t_trunc", "T", "solver",
    "steps", "nfe", "split", "n_samples", "extractor", "fit_budget", "model_precision",
]  # fmt: skip
# Seconds that were taken under unlike conditions have no mean.
SECONDS = ["fit_seconds", "prior_seconds", "denoise_seconds", "images_per_second", "peak_memory_mb"]
# Those of a chain are the run's, not a seed's (see .seconds), so that seeds say nothing of their
# spread.
OF_THE_RUN = ["denoise_seconds", "images_per_second", "speedup"]
SEVERAL = "several"

LABEL = ["prior", "params"]
WHERE = ["t_trunc", "solver", "steps"]
PLACE = [*LABEL, *WHERE]
CLOCK = [
    "device",
    "threads",
    "concurrency",
]  # under what seconds were taken: unlike ones are not compared
ADDED = ["excess", "relative_nfe", "relative_time", "break_even", "flag"]


BEST = [
    "nfe", "prior", "params", "control", "rank", "beats_noise", "beats_noise_in_time",
    "t_trunc", "solver", "steps", "seeds",
    *(f"{name}{end}" for name in ("fid", "excess", "relative_nfe", "relative_time", "fid_inf")
      for end in ("", "_low", "_high")),
    "kid", "speedup", "break_even", "fit_seconds", "n_samples", "split", "chosen_on", "extractor", "flag",
]  # fmt: skip
