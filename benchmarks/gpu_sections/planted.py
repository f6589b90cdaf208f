"""A plugin with two priors that a GPU has to cope with; ``benchmarks/gpu.py`` alone adds it."""

import torch
from torch import Tensor

from priorbench import FitRun, Register, TruncatedMarginal, TruncPrior, hookimpl, randn

GIGABYTE = 2**30


class Greedy(TruncPrior):
    """Asks for more memory than there is, after it took some that there is.

    Arguments:
        gigabytes: what it asks for.
    """

    def __init__(self, *, gigabytes: int = 200) -> None:
        super().__init__()
        self.gigabytes = gigabytes

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        """Learns nothing."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Raises, while it keeps a quarter of a gigabyte."""
        self.kept = torch.zeros(GIGABYTE // 4, dtype=torch.uint8, device=self.device)
        return torch.empty(self.gigabytes * GIGABYTE, dtype=torch.uint8, device=self.device)[:n]


class Hasty(TruncPrior):
    """Launches work on a stream of its own and returns pure noise at once.

    Arguments:
        size: of the matrices that it multiplies.
        products: how many.
    """

    def __init__(self, *, size: int = 4096, products: int = 100) -> None:
        super().__init__()
        self.size, self.products = size, products

    def build(self, shape: tuple[int, int, int]) -> None:
        """The matrix, and the shape of the images."""
        self.shape = shape
        self.register_buffer("matrix", torch.eye(self.size))

    def fit(self, marginal: TruncatedMarginal, run: FitRun) -> None:
        """Learns nothing."""

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Pure noise."""
        noise = randn((n, *self.shape), generator, self.device)
        aside = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        with torch.cuda.stream(aside):  # None changes nothing
            self.work()
        return noise

    def work(self) -> None:
        """The products, which nobody needs."""
        matrix = dict(self.named_buffers())["matrix"]
        out = torch.empty_like(matrix)
        for _ in range(self.products):
            torch.mm(matrix, matrix, out=out)


@hookimpl
def register_priors(register: Register) -> None:
    """Both as controls, whose contract a run does not check."""
    register("greedy", "planted:Greedy", summary="out of memory", control=True)
    register("hasty", "planted:Hasty", summary="returns at once", control=True)
