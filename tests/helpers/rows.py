"""Rows of comparison.csv, made up by hand."""

from priorbench.tables import fold as table
from priorbench.tables.best import best
from priorbench.tables.headline import headline

# The columns of comparison.csv that are promised.
CONTRACT = [
    "dataset", "backbone", "prior", "params", "emits", "control", "t_trunc", "T", "solver", "nfe",
    "seed", "split", "n_samples", "extractor", "fid", "kid", "precision", "recall", "authenticity",
    "sw2_xt", "w2_xt", "sw2_x0", "w2_x0", "fit_seconds", "prior_seconds", "denoise_seconds",
    "images_per_second", "speedup", "parameters", "peak_memory_mb", "device", "threads",
    "concurrency", "status", "error", "priorbench_version", "torch_version", "cell",
]  # fmt: skip


def row(prior, fid, t_trunc=100, solver="dpm++", steps=3, seed=0, split="test", ms=3.0, **changes):
    """A row as a cell yields it; ``ms`` an image, a tenth of them the prior's."""
    return {
        "dataset": "d", "backbone": "b", "dataset_sha256": "12345678",
        "backbone_sha256": "123e4567", "prior": prior, "params": "", "emits": "x_t",
        "control": prior in ("noise", "oracle", "memoriser"), "t_trunc": t_trunc, "T": 1000,
        "solver": solver,
        "steps": steps, "nfe": steps, "seed": seed, "split": split, "n_samples": 1000,
        "extractor": "lenet",
        "fid": fid, "fid_se": 0.1, "fid_inf_se": 0.2, "fid_inf": fid - 0.1, "fit_seconds": 10.0,
        "fit_budget": "",
        "prior_seconds": 0.1 * ms / 1000, "denoise_seconds": 0.9 * ms / 1000, "device": "cpu",
        "hardware": "EPYC", "node": "here", "threads": 2,
        "concurrency": 1, "model_precision": "fp32", "warning": "", "authenticity": 0.6,
        "authenticity_test": 0.6,
        "stored_train": 0.0, "stored_validation": 0.0, "stored_test": 0.0, "distinct": 1.0,
        "noise_xt": 1.0,
        "noise_se": 0.01, "status": "ok", "error": "", "cell": f"{prior}{t_trunc}{seed}",
    } | changes  # fmt: skip


def both(prior, test, validation, **changes):
    """A setting's rows on both splits."""
    split = "train" if prior == "oracle" else "validation"
    return [row(prior, test, **changes), row(prior, validation, split=split, **changes)]


def noise(test, validation, **changes):
    return both("noise", test, validation, **{"t_trunc": 1000, **changes})


def folded(*groups):
    return table.comparison([r for g in groups for r in g], "dpm++", 3)


def only(found, **where):
    for name, value in where.items():
        found = found[found[name] == value]
    (index,) = found.index
    return found.loc[index]


def three_seeds(prior, values, validation, **changes):
    return [r for s, v in enumerate(values) for r in both(prior, v, validation, seed=s, **changes)]


def chosen(*groups):
    found = folded(*groups)
    return best(found, table.summary(found))


def seeds(prior, values, **changes):
    return [r for s, v in enumerate(values) for r in both(prior, v, v, seed=s, **changes)]


def verdict(*groups):
    found = folded(*groups)
    return headline(found, best(found, table.summary(found)))
