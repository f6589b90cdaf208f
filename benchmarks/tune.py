"""Which settings of the rivals `vae` and `gan` are best, on the validation split alone?

    python benchmarks/tune.py [--prior vae,gan] [--dataset digits,mnist] [--seeds 2]
        [--budget digits=20s,mnist=60s] [--only 'vae[density=normal]'] [--output build/tune]

Runs every setting of `TRIED` through priorbench, prints a table, and writes it as `tune.csv`. If it
is interrupted, the same command resumes it. The test split takes no part: its rows are of few
samples, and are not read.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

import priorbench

say = Console(width=160, highlight=False).print

# What was tried, against the defaults. A setting that won is now a default.
TRIED = {
    "vae": [
        "vae",
        "vae[density=normal]",
        "vae[density=gaussian]",
        "vae[components=20]",
        "vae[components=100]",
        "vae[emits=x_t]",
        "vae[latent=8]",
        "vae[latent=32]",
        "vae[beta=2.0]",
        "vae[batch_size=64]",
        "vae[learning_rate=0.001]",
        "vae[width=1024]",
        "vae[depth=3]",
    ],
    "gan": ["gan"],
}

RUNS: dict[str, dict[str, Any]] = {
    "digits": {"fit_budget": "20s", "solver": ["dpm++sde"], "t_trunc": [200, 400]},
    "mnist": {"fit_budget": "60s", "solver": ["dpm++sde"], "t_trunc": [200, 400]},
}

COMMON = {
    "controls": [],
    "rivals": [],
    "full_chain": {"solver": "ddim", "steps": 1},
    "steps": [1, 3],
    "n_samples": 100,  # of the test split
    "n_validation": 1000,
}


def table(comparison: pd.DataFrame) -> pd.DataFrame:
    """A row for each setting, t_trunc and number of evaluations, from comparison.csv."""
    kept = comparison[(comparison.split == "validation") & ~comparison.control]
    # The rows of the choosing split do not all say what the fit took.
    said = comparison.groupby("cell")[["fit_steps", "fit_seconds"]].transform("max")
    kept = kept.assign(**said.loc[kept.index])
    kept = kept.assign(ms=1000 * kept.fit_seconds / kept.fit_steps, params=kept.params.fillna(""))
    axes = ["prior", "params", "dataset", "fit_budget", "t_trunc", "solver", "nfe"]
    found = kept.groupby(axes, sort=False).agg(
        fid=("fid", "mean"), sd=("fid", "std"), seeds=("fid", "size"),
        steps=("fit_steps", "mean"), ms=("ms", "mean"),
    )  # fmt: skip
    return found.reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", default="vae,gan")
    parser.add_argument("--dataset", default="digits,mnist")
    parser.add_argument("--only", help="settings in place of those in TRIED, joined by ';'")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--budget", default="", help="such as mnist=5min, in place of RUNS'")
    parser.add_argument("--output", type=Path, default=Path("build/tune"))
    options = parser.parse_args()
    settings = options.only.split(";") if options.only else [
        setting for prior in options.prior.split(",") for setting in TRIED[prior]
    ]  # fmt: skip
    budgets = dict(pair.split("=") for pair in options.budget.split(",") if pair)
    found = []
    for dataset in options.dataset.split(","):
        config = COMMON | RUNS[dataset] | {"dataset": dataset, "seeds": options.seeds}
        config["fit_budget"] = budgets.get(dataset, config["fit_budget"])
        comparison = priorbench.run(
            config,
            priors=",".join(settings),
            output=options.output / f"{dataset}-{config['fit_budget']}",
            report=False,
        )
        found.append(table(comparison))
    result = pd.concat(found)
    result.to_csv(options.output / "tune.csv", index=False)
    say(result.to_string(index=False, float_format="{:.2f}".format))
    say(f"Written to {options.output / 'tune.csv'}.")


if __name__ == "__main__":
    main()
