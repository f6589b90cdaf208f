"""Rows of comparison.csv, made up by hand."""

from priorbench.tables import fold as table


def row(prior, fid, t_trunc=100, solver="dpm++", steps=3, seed=0, split="test", ms=3.0, **changes):
    """A row as a cell yields it; ``ms`` an image, a tenth of them the prior's."""
    return {
        "dataset": "d", "backbone": "b", "dataset_sha256": "12345678", "backbone_sha256": "123e4567",
        "prior": prior, "params": "", "emits": "x_t",
        "control": prior in ("noise", "oracle", "memoriser"), "t_trunc": t_trunc, "T": 1000, "solver": solver,
        "steps": steps, "nfe": steps, "seed": seed, "split": split, "n_samples": 1000, "extractor": "lenet",
        "fid": fid, "fid_se": 0.1, "fid_inf_se": 0.2, "fid_inf": fid - 0.1, "fit_seconds": 10.0, "fit_budget": "",
        "prior_seconds": 0.1 * ms / 1000, "denoise_seconds": 0.9 * ms / 1000, "device": "cpu", "threads": 2,
        "concurrency": 1, "model_precision": "fp32", "warning": "", "authenticity": 0.6, "authenticity_test": 0.6,
        "stored_train": 0.0, "stored_validation": 0.0, "stored_test": 0.0, "distinct": 1.0, "noise_xt": 1.0,
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


# --- the best setting of each ------------------------------------------------------------------------------


def three_seeds(prior, values, validation, **changes):
    return [r for s, v in enumerate(values) for r in both(prior, v, validation, seed=s, **changes)]
