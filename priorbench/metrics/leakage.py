r"""Leakage checks on a prior's output, before the frozen model denoises it.

**Stored images.** With r_s(x) the squared distance from x to the nearest image of split s, scaled
as x is,

.. math:: D_s(x) = r_s(x) - r_o(x), \qquad
          \mathrm{stored}_s =
              \frac{E[D_s(\text{unseen})] - E[D_s(\text{samples})]}
                   {E[D_s(\text{unseen})] - E[D_s(s)]}

where o is another split, "unseen" is the third split, and s in the last term is split s itself.
Each is looked at as the prior would emit it: as x_{t_trunc}, or clean. So images that were never
seen have 0, and images of split s have 1. A prior that stores the training set has stored_train =
1, and one that returns the images it is measured against has stored_test = 1. Blurred or typical
images are near to both splits, which cancels. The index works where x_0 tells nothing any more,
because the chain has forgotten where it came from.

**Repetition.** ``distinct`` is the share of emitted samples that are further from every other
sample than a tenth of the least distance between two images of the test split, emitted alike.
``variation`` is their variance, over all pixels, divided by that of these images: it tells a prior
that repeats a few samples from one whose samples all look much the same.

**Noise level.** In the directions in which clean images hardly vary, x_t is noise of variance 1 -
alpha_bar. noise_xt is the variance of the samples there over that of held-out draws. If it is below
1, the prior generates an x_t of some smaller t.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from .neighbours import nearest_distances, neighbour_distances

# Split s -> (split o of the index, the unseen split).
OTHERS = {
    "train": ("test", "validation"),
    "validation": ("test", "train"),
    "test": ("validation", "train"),
}
QUIET = 0.25  # the share of the directions that count as quiet: those with the least variance
PIXELS = 1024  # the number of pixels that the directions are computed from, at most
REPEATED = 0.1  # samples nearer than this share of the least real distance are one sample twice
TOLD = 8  # the index needs this many standard errors between split s and unseen images


class Stored:
    """Tells which split the samples of a prior come from.

    Arguments:
        images: the clean images of each split, (N_s, C, H, W).
        draws: each split as a prior would emit it, (n_s, C, H, W): the images, or fresh draws of
            x_{t_trunc}.
        scale: of the images in the samples: 1, or sqrt(alpha_bar).
    """

    def __init__(
        self, images: Mapping[str, Tensor], draws: Mapping[str, Tensor], scale: float = 1.0
    ) -> None:
        self.images, self.scale = images, scale
        looked_up = {split: self._differences(x) for split, x in draws.items()}
        self.unseen = {s: looked_up[third][s] for s, (_, third) in OTHERS.items()}
        self.own = {s: float(looked_up[s][s].mean()) for s in OTHERS}
        self.apart = float(neighbour_distances(draws["test"].flatten(1)).min())
        self.variance = _variance(draws["test"])

    def _differences(self, x: Tensor) -> dict[str, Tensor]:
        """D_s of each split s, (N,)."""
        x = x / self.scale
        square = {
            s: (self.scale * nearest_distances(x, images)).square()
            for s, images in self.images.items()
        }
        return {s: square[s] - square[other] for s, (other, _) in OTHERS.items()}

    def judge(self, x: Tensor) -> dict[str, float]:
        """stored_train, stored_validation, stored_test, stored_se, distinct and variation.

        They are of samples (N, C, H, W).

        An index is NaN if too little of the images is left to tell its split from unseen images, as
        near T. stored_se is the greatest standard error of the three indices.
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
            "variation": _variance(x) / self.variance,
        }


def _variance(x: Tensor) -> float:
    """The variance of images (N, C, H, W), summed over pixels."""
    return float(x.flatten(1).double().var(0).sum())


def quiet_directions(clean: Tensor) -> Tensor:
    """The directions (d, q) in which images x_0 (N, C, H, W) vary least.

    They are a quarter of all directions, computed from 1,024 pixels at most.
    """
    x = clean.flatten(1)
    chosen = torch.linspace(0, x.shape[1] - 1, min(x.shape[1], PIXELS)).round().long()
    _, vectors = torch.linalg.eigh(torch.cov(x[:, chosen].T))
    found = x.new_zeros(x.shape[1], max(1, int(QUIET * len(chosen))))
    found[chosen] = vectors[:, : found.shape[1]]
    return found


class NoiseLevel:
    """Compares the noise in samples of x_{t_trunc} with that in held-out draws.

    Arguments:
        quiet: the directions to look at, from :func:`quiet_directions`.
        draws: held-out draws of x_{t_trunc}, (n, C, H, W).
    """

    def __init__(self, quiet: Tensor, draws: Tensor) -> None:
        self.quiet = quiet
        self.draws = len(draws)
        self.variance = self._variance(draws)

    def _variance(self, x: Tensor) -> float:
        return float((x.flatten(1) @ self.quiet).double().var(0).mean())

    def judge(self, x_t: Tensor) -> dict[str, float]:
        """noise_xt and noise_se, its standard error if the noise is Gaussian of the right level."""
        error = (2 / self.quiet.shape[1] * (1 / len(x_t) + 1 / self.draws)) ** 0.5
        return {"noise_xt": self._variance(x_t) / self.variance, "noise_se": error}
