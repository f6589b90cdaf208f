r"""Pairs of draws for the flow to join: exact optimal transport within each component.

A draw of component k of the mixture is paired with an image of component k, so that the sum of
squared distances is the least that a pairing of as many points can have. What has to be learned
between two such points is shorter, and less at odds with its neighbours, than between any two
(Pooladian et al., ICML 2023, https://arxiv.org/abs/2304.14772; Tong et al., TMLR 2024,
https://arxiv.org/abs/2302.00482).
"""

import torch
from priorbench_mixture import Densities, GaussianMaps
from torch import Tensor

from priorbench import randn

CROWD = 500  # points that are paired at once: pairing costs their number cubed

Pairs = tuple[Tensor, Tensor, Tensor]


class Pairing:
    """Pairs of draws of a mixture with the coordinates of images.

    Arguments:
        maps: the mixture.
        densities: of its components, which tell whose an image is.
        codes: the leading coordinates of images, (N, q).
    """

    def __init__(self, maps: GaussianMaps, densities: Densities, codes: Tensor) -> None:
        self.maps = maps
        self.codes = codes
        self.component = densities.likeliest(codes)

    def draw(self, generator: torch.Generator) -> Pairs:
        """A pair for each image, in any order: draws (N, q), codes (N, q), components (N,)."""
        device = self.codes.device
        order = torch.randperm(len(self.codes), generator=generator, device=generator.device)
        k = self.component[order.to(device)]
        starts = self.maps.draw(k, randn(self.codes.shape, generator, device))
        ends = self.codes[order.to(device)]
        for component in k.unique():
            for here in (k == component).nonzero()[:, 0].split(CROWD):
                ends[here] = ends[here][matched(starts[here], ends[here])]
        return starts, ends, k


def matched(x: Tensor, y: Tensor) -> Tensor:
    """The order of points y (N, q) in which they are paired with x (N, q) at the least cost."""
    from scipy.optimize import linear_sum_assignment

    cost = torch.cdist(x.double(), y.double()).square().cpu().numpy()
    return torch.from_numpy(linear_sum_assignment(cost)[1]).to(y.device)
