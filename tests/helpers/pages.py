"""Report pages of made-up rows."""

import numpy as np

from helpers.rows import both, noise, row
from priorbench.tables import fold as table

SPEED = {"speedup": 18.0, "alpha_bar": 0.6, "sw2_xt": 0.3, "sw2_x0": 0.1, "fid_floor": 0.8}
HOSTILE = "<img src=x onerror=alert(1)>"


def made_up(folder, **changes):
    """A results folder with a winner of a hostile name, a prior that stores, one that fails, and a
    few images.
    """
    rows = [
        *noise(40, 40, ms=3),
        *noise(9, 9, steps=5, ms=5),
        *noise(2, 2, steps=50, ms=50),
        *both("oracle", 1, 1),
        *both("oracle", 0.9, 0.9, steps=5, ms=5, t_trunc=200),
        *both(HOSTILE, 6, 6, params="a=</script><b>,c=%{x}"),
        *both(HOSTILE, 3, 3, t_trunc=200, steps=5, ms=5),
        *both("vae_1", 7, 7),
        *both("vae_1", 5, 5, t_trunc=200),
        *both("vae_1", 4, 4, t_trunc=200, steps=5, ms=5),
        *both("stores", 0.5, 0.5, stored_train=0.9),
        row(
            "fails",
            float("nan"),
            status="failed",
            error="ValueError: <script>alert(2)</script> & so on",
        ),
    ]
    found = table.comparison([r | SPEED | changes for r in rows], "dpm++", 50)
    folder.mkdir(parents=True)
    found.to_csv(folder / "comparison.csv", index=False)
    (folder / "images").mkdir()
    draw = np.random.default_rng(0)
    names = ["x_t", "z", "f(z)", *(f"chain dpm++ 5 {t}" for t in (200, 120, 40, 0)), "nearest"]
    for t in (100, 200):
        images = {name: draw.integers(0, 256, (10, 1, 8, 8)).astype(np.uint8) for name in names}
        np.savez(folder / "images" / f"{HOSTILE}{t}0.npz".replace("/", ""), **images)
    return folder
