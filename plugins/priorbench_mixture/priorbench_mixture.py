r"""``mixture``: a mixture of Gaussians over images, fitted by scikit-learn after a PCA.

.. math:: x_0 = m + A z + r \epsilon, \qquad z \sim \sum_k w_k \mathcal{N}(\mu_k, L_k L_k^\top)

A holds the leading principal components, and r is the standard deviation of the rest. The harness
diffuses x_0. The diffused law is again such a mixture, so fitting it at t = 0 loses nothing.
"""

import torch
from torch import Tensor

from priorbench import FitRun, Register, TruncatedMarginal, TruncPrior, hookimpl, randn

priorbench_interface = "1.1"


class MixturePrior(TruncPrior):
    """A mixture of Gaussians in the space of the leading principal components.

    Arguments:
        components: the number of Gaussians in the mixture.
        rank: the number of principal components.
    """

    emits = "x_0"
    mean: Tensor
    axes: Tensor
    left_out: Tensor
    weights: Tensor
    centres: Tensor
    factors: Tensor

    def __init__(self, *, components: int = 20, rank: int = 32) -> None:
        super().__init__()
        if components < 1 or rank < 1:
            raise ValueError(f"components and rank must be at least 1, got {components} and {rank}")
        self.components = components
        self.rank = rank

    def build(self, shape: tuple[int, int, int]) -> None:
        d = shape[0] * shape[1] * shape[2]
        rank = min(self.rank, d)
        self.shape = tuple(shape)
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("axes", torch.zeros(rank, d))
        self.register_buffer("left_out", torch.zeros(()))
        self.register_buffer("weights", torch.ones(self.components) / self.components)
        self.register_buffer("centres", torch.zeros(self.components, rank))
        self.register_buffer("factors", torch.eye(rank).repeat(self.components, 1, 1))

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        from sklearn.decomposition import PCA
        from sklearn.mixture import GaussianMixture

        if run.out_of_time():
            return  # scikit-learn cannot be interrupted; the prior stays as build() made it
        seed = int(torch.randint(2**31, (), generator=run.generator))
        x = marginal.images.flatten(1).cpu().numpy().astype("float64")
        pca = PCA(len(self.axes), random_state=seed).fit(x)
        z = pca.transform(x)
        mixture = GaussianMixture(self.components, reg_covar=1e-4, random_state=seed).fit(z)
        factors = torch.linalg.cholesky(torch.from_numpy(mixture.covariances_))
        for buffer, value in (
            (self.mean, pca.mean_),
            (self.axes, pca.components_),
            (self.left_out, pca.noise_variance_**0.5),
            (self.weights, mixture.weights_),
            (self.centres, mixture.means_),
            (self.factors, factors),
        ):
            buffer.copy_(torch.as_tensor(value))

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        k = torch.multinomial(self.weights.cpu(), n, replacement=True, generator=generator)
        k = k.to(self.device)
        noise = randn((n, self.factors.shape[1], 1), generator, self.device)
        z = self.centres[k] + (self.factors[k] @ noise).squeeze(2)
        x = self.mean + z @ self.axes
        return (x + self.left_out * randn(x.shape, generator, self.device)).view(n, *self.shape)


@hookimpl
def register_priors(register: Register) -> None:
    register(
        "mixture",
        "priorbench_mixture:MixturePrior",
        summary="a mixture of Gaussians by scikit-learn",
    )
