"""A mixture of Gaussians with full covariances, by expectation maximisation from k-means."""

import math

import torch
from torch import Tensor

from priorbench import FitRun

STEPS = 20  # at most; more gain little likelihood
CONVERGED = 1e-3  # nats a point that a step gains, at least
PIECE = 32  # points whose densities are computed at once, within a cache
LEAST_RIDGE = 1e-6  # squared units; without it a component of few points has no density
NEGLIGIBLE = 1e-6  # a posterior that counts for nothing

Law = tuple[Tensor, Tensor, Tensor]  # shares (K,), centres (K, q), covariances (K, q, q)


class Densities:
    """The joint density of points and components, log p(y, k).

    Arguments:
        law: the mixture.
        like: a tensor of the type and device that points have.
    """

    def __init__(self, law: Law, like: Tensor) -> None:
        shares, centres, covariances = (part.double() for part in law)
        factors = torch.linalg.cholesky(covariances)
        eye = torch.eye(centres.shape[1], dtype=factors.dtype, device=factors.device)
        whiten = torch.linalg.solve_triangular(factors, eye, upper=False)  # (K, q, q)
        log_det = factors.diagonal(dim1=1, dim2=2).log().sum(1)
        constant = shares.log() - log_det - centres.shape[1] / 2 * math.log(2 * math.pi)
        self.whiten = whiten.flatten(0, 1).T.to(like)
        self.centres = (whiten @ centres[:, :, None]).flatten().to(like)
        self.constant = constant.to(like)

    def __call__(self, y: Tensor) -> Tensor:
        """log p(y, k), (N, K), of points y (N, q)."""
        k = len(self.constant)
        rows = [
            self.constant
            - (part @ self.whiten - self.centres).view(len(part), k, -1).square().sum(2) / 2
            for part in y.split(PIECE)
        ]
        return torch.cat(rows)

    def likeliest(self, y: Tensor) -> Tensor:
        """The component (N,) that each of the points y (N, q) is likeliest to be of."""
        return self(y).argmax(1)


def fit_mixture(points: Tensor, count: int, ridge: float, run: FitRun, report: bool = False) -> Law:
    """A mixture of ``count`` Gaussians over points (N, q).

    It stops at the run's deadline, and draws its seed from the run's generator.

    Arguments:
        ridge: a variance added to each component, in squared units of the points, 1e-6 at least;
            it is part of the covariances that are returned.
        report: whether to report progress, as is right for what is not part of a step.

    Returns:
        Shares (K,), centres (K, q) and covariances (K, q, q), float64, on the CPU.
    """
    y = points - (mean := points.mean(0))
    law = _maximised(y, _kinds(y, count, run), ridge)
    likelihood = -math.inf
    for step in range(STEPS):
        if report:
            run.progress(step + 1, STEPS, math.nan)
        if run.out_of_time():
            break
        joint = Densities(law, y)(y)
        total = joint.logsumexp(1)
        law = _maximised(y, (joint - total[:, None]).exp(), ridge)
        before, likelihood = likelihood, float(total.double().mean())
        if likelihood - before < CONVERGED:
            break
    shares, centres, covariances = law
    return shares.cpu(), (centres + mean).cpu(), covariances.cpu()


def _kinds(y: Tensor, count: int, run: FitRun) -> Tensor:
    """The posterior (N, K) that EM begins with: 1 for a point's cluster, by k-means."""
    from sklearn.cluster import KMeans

    seed = int(torch.randint(2**31 - 1, (), generator=run.generator, device=run.generator.device))
    labels = KMeans(count, n_init=1, random_state=seed).fit(y.cpu().numpy()).labels_
    clusters = torch.from_numpy(labels).long().to(y.device)
    return torch.nn.functional.one_hot(clusters, count).to(y)


def _maximised(y: Tensor, posterior: Tensor, ridge: float) -> Law:
    """The mixture that points y (N, q) with posteriors (N, K) are likeliest under."""
    total = posterior.sum(0, dtype=torch.float64)
    centres, covariances = [], []
    for weights, mass in zip(posterior.T.contiguous(), total.clamp(min=NEGLIGIBLE), strict=True):
        here = weights > NEGLIGIBLE  # in many dimensions, few
        points, shares = y[here].double(), (weights[here] / mass)[:, None]
        centre = (shares * points).sum(0)
        centres.append(centre)
        covariances.append((points - centre).T @ (shares * (points - centre)))
    eye = torch.eye(y.shape[1], dtype=torch.float64, device=y.device)
    covariance = torch.stack(covariances) + max(ridge, LEAST_RIDGE) * eye
    return total / len(y), torch.stack(centres), covariance
