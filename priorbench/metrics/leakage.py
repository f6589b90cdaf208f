r"""What a prior supplies, looked at where it supplies it, before the frozen model has had its say.

**Stored images.** With r_s(x) the squared distance from x to the nearest image of split s, scaled
as x is,

.. math:: D_s(x) = r_s(x) - r_o(x), \qquad
          \mathrm{stored}_s = \frac{E[D_s(\text{unseen})] - E[D_s(\text{samples})]}{E[D_s(\text{unseen})] - E[D_s(s)]}

where o is another split, "unseen" is the third, which is in neither, and the last term is of split
s itself; each as the prior would emit it, x_{t_trunc} or clean. So 0 is what images have that were
never seen, and 1 what those of split s have: a prior that stores the training set has stored_train
= 1, one that hands out the images it is measured against stored_test = 1. Blurred or typical images
are near to both splits, which cancels. It works where x_0 no longer tells anything, because the
chain has forgotten where it came from.

**Repetition.** ``distinct`` is the share of emitted samples that are further from every other than
a tenth of the least distance between two images of the test split, emitted alike.

**Noise level.** In the directions in which clean images hardly vary, x_t is noise of variance 1 -
alpha_bar. noise_xt is the samples' variance there over that of held-out draws: below 1, the prior
supplies an x_t of some smaller t.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from .neighbours import nearest_distances, neighbour_distances

OTHERS = {
    "train": ("test", "validation"),
    "validation": ("test", "train"),
    "test": ("validation", "train"),
}
QUIET = 0.25  # of the directions, those with the least variance
PIXELS = 1024  # more than so many need not be looked at
REPEATED = 0.1  # of the least distance between two real images: nearer samples are one sample twice
TOLD = 8  # standard errors between split s and unseen images from which on the index says something


class Stored:
    """Tells which split a prior's samples come from.

    Arguments:
        images: of each split (N_s, C, H, W), scaled as the samples are: by 1, or by
            sqrt(alpha_bar).
        draws: what each split looks like when it is emitted, (n_s, C, H, W): the images, or fresh
            draws of x_{t_trunc}.
    """

    def __init__(self, images: Mapping[str, Tensor], draws: Mapping[str, Tensor]) -> None:
        self.images = images
        looked_up = {split: self._differences(x) for split, x in draws.items()}
        self.unseen = {s: looked_up[third][s] for s, (_, third) in OTHERS.items()}
        self.own = {s: float(looked_up[s][s].mean()) for s in OTHERS}
        self.apart = float(neighbour_distances(draws["test"].flatten(1)).min())

    def _differences(self, x: Tensor) -> dict[str, Tensor]:
        """D_s of each split s, (N,)."""
        square = {
            s: nearest_distances(x, images).double().square() for s, images in self.images.items()
        }
        return {s: square[s] - square[other] for s, (other, _) in OTHERS.items()}

    def judge(self, x: Tensor) -> dict[str, float]:
        """stored_train, stored_validation, stored_test and distinct of (N, C, H, W), and stored_se.

        An index is NaN where too little of the images is left to tell its split from unseen ones,
        as near T. ``stored_se`` is the greatest of the three indices' standard errors.
        """
        found, errors = {}, [float("nan")]
        for split, made in self._differences(x).items():
            unseen = self.unseen[split]
            span = float(unseen.mean()) - self.own[split]
            spread = float((made.var() / len(made) + unseen.var() / len(unseen)).sqrt())
            index = (float(unseen.mean()) - float(made.mean())) / span if span > 0 else float("nan")
            told = span > TOLD * spread
            found[f"stored_{split}"] = index if told else float("nan")
            errors += [spread / span] if told else []
        distinct = neighbour_distances(x.flatten(1)) > REPEATED * self.apart
        return found | {
            "stored_se": max(errors, key=lambda e: e if e == e else -1),
            "distinct": float(distinct.double().mean()),
        }


def quiet_directions(clean: Tensor) -> Tensor:
    """The directions (d, q) in which images x_0 (N, C, H, W) vary least: a quarter of all, of 1,024
    pixels at most.
    """
    x = clean.flatten(1)
    chosen = torch.linspace(0, x.shape[1] - 1, min(x.shape[1], PIXELS)).round().long()
    _, vectors = torch.linalg.eigh(torch.cov(x[:, chosen].T))
    found = x.new_zeros(x.shape[1], max(1, int(QUIET * len(chosen))))
    found[chosen] = vectors[:, : found.shape[1]]
    return found


class NoiseLevel:
    """Compares the noise in samples of x_{t_trunc} with that in held-out draws (n, C, H, W), along
    quiet directions.
    """

    def __init__(self, quiet: Tensor, draws: Tensor) -> None:
        self.quiet = quiet
        self.draws = len(draws)
        self.variance = self._variance(draws)

    def _variance(self, x: Tensor) -> float:
        return float((x.flatten(1) @ self.quiet).double().var(0).mean())

    def judge(self, x_t: Tensor) -> dict[str, float]:
        """noise_xt, and the standard error that it has for the right amount of Gaussian noise."""
        error = (2 / self.quiet.shape[1] * (1 / len(x_t) + 1 / self.draws)) ** 0.5
        return {"noise_xt": self._variance(x_t) / self.variance, "noise_se": error}
