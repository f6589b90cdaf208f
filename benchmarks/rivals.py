"""Which settings of a prior are best, on the validation split alone?

    python benchmarks/rivals.py [--prior vae,gan,distil,mixture,ot] [--only SETTING ...]
        [--dataset digits,mnist] [--seeds 3] [--t-trunc 200] [--budget digits=10s,mnist=30s]
        [--output build/tune]

Runs the settings of `TRIED` through priorbench, prints a table, and writes it as `tune.csv`. If it
is interrupted, the same command resumes it. The rows of the test split are not read.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

import priorbench

say = Console(width=160, highlight=False).print

# What was tried beside the defaults, which come first. A setting that won is a default now. Beside
# `ot` stands the closed form that it begins with.
TRIED = {
    "vae": [
        "vae",
        "vae[density=normal]",
        "vae[density=gaussian]",
        "vae[components=10]",
        "vae[components=100]",
        "vae[emits=x_t]",
        "vae[latent=8]",
        "vae[latent=32]",
        "vae[width=256]",
        "vae[width=256,latent=8]",
        "vae[depth=3]",
        "vae[batch_size=64]",
        "vae[learning_rate=0.001]",
        "vae[beta=0.5]",
    ],
    "gan": [
        "gan",
        "gan[emits=x_t]",
        "gan[penalty=0.3]",
        "gan[penalty=3.0]",
        "gan[penalty_every=1]",
        "gan[latent=64]",
        "gan[width=128]",
        "gan[width=128,batch_size=32]",
        "gan[width=512]",
        "gan[depth=3]",
        "gan[batch_size=32]",
        "gan[batch_size=128]",
        "gan[learning_rate=0.001]",
        "gan[learning_rate=0.004]",
    ],
    "distil": [
        "distil",
        "distil[steps=5]",
        "distil[steps=20]",
        "distil[solver=unipc]",
        "distil[updates=1]",
        "distil[updates=16]",
        "distil[learning_rate=0.0001]",
        "distil[learning_rate=0.001]",
    ],
    "mixture": [
        "mixture",
        "mixture[latent=16]",
        "mixture[latent=24]",
        "mixture[latent=48]",
        "mixture[latent=64]",
        "mixture[components=1]",
        "mixture[components=100]",
        "mixture[components=400]",
        "mixture[crowd=50]",
        "mixture[crowd=12]",
        "mixture[ridge=0.01]",
        "mixture[ridge=0.1]",
    ],
    "ot": [
        "ot",
        "mixture",
        "ot[flow_steps=0]",
        "ot[flow_steps=1]",
        "ot[latent=16]",
        "ot[latent=24]",
        "ot[latent=48]",
        "ot[batch_size=128]",
        "ot[batch_size=512]",
        "ot[learning_rate=0.001]",
        "ot[learning_rate=0.004]",
        "ot[width=256]",
    ],
}

BUDGETS = {"digits": "10s", "mnist": "30s"}

COMMON: dict[str, Any] = {
    "controls": [],
    "rivals": [],
    "rival_timesteps": ["uniform"],
    "full_chain": {"solver": "ddim", "steps": 1},
    "solver": ["dpm++sde"],
    "steps": [1, 3],
    "n_samples": 1000,
}


def table(comparison: pd.DataFrame) -> pd.DataFrame:
    """A row for each setting, t_trunc and number of evaluations, from comparison.csv."""
    kept = comparison[(comparison.split == "validation") & ~comparison.control]
    kept = kept.assign(
        setting=kept.params.fillna("").replace("", "defaults"),
        ms_a_step=1000 * kept.fit_seconds / kept.fit_steps.replace(0, math.nan),
    )
    axes = ["prior", "setting", "dataset", "fit_budget", "t_trunc", "nfe"]
    found = kept.groupby(axes, sort=False).agg(
        fid=("fid", "mean"), sd=("fid", "std"), seeds=("fid", "size"),
        steps=("fit_steps", "mean"), ms_a_step=("ms_a_step", "mean"),
    )  # fmt: skip
    return found.reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", default=",".join(TRIED))
    parser.add_argument("--only", nargs="+", help="settings, such as vae 'vae[depth=3]'")
    parser.add_argument("--dataset", default=",".join(BUDGETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--t-trunc", type=int, nargs="+", default=[200])
    parser.add_argument("--budget", default="", help="such as mnist=60s, in place of BUDGETS")
    parser.add_argument("--output", type=Path, default=Path("build/tune"))
    options = parser.parse_args()
    budgets = BUDGETS | dict(pair.split("=") for pair in options.budget.split(",") if pair)
    found = []
    for dataset in options.dataset.split(","):
        for prior in options.prior.split(","):
            comparison = priorbench.run(
                COMMON | {"dataset": dataset},
                priors=",".join(options.only or TRIED[prior]),
                t_trunc=options.t_trunc,
                seeds=options.seeds,
                fit_budget=budgets[dataset],
                output=options.output / f"{dataset}-{prior}-{budgets[dataset]}",
                report=False,
            )
            found.append(table(comparison))
    result = pd.concat(found)
    result.to_csv(options.output / "tune.csv", index=False)
    say(result.to_string(index=False, float_format="{:.2f}".format))
    say(f"Written to {options.output / 'tune.csv'}.")


if __name__ == "__main__":
    main()
