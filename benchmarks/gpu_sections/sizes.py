"""How much is measured: all of it on a GPU, and the same code in small on a CPU."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """The sizes of a measurement.

    Attributes:
        quick: whether the checks that take several fits are left out.
        reference: the priors whose cells of digits are compared with the reference.
        batches: of the chain.
        losses: (N, d) of the sliced loss, with ``projections`` directions.
        timed_steps, profiled_steps: of each prior's fit, after ``first_steps`` to warm up.
        training_seconds: of each of two trainings.
        images, features: whose features are computed; the sizes of FID.
        points: of the clouds between which W2 is computed.
    """

    name: str
    quick: bool
    reference: tuple[str, ...]
    batches: tuple[int, ...]
    losses: tuple[tuple[int, int], ...]
    projections: int
    data: str
    first_steps: int
    timed_steps: int
    profiled_steps: int
    training_seconds: float
    images: int
    features: tuple[int, ...]
    points: int
    repeats: int


SMALL = Size(
    name="small", quick=True, reference=("gaussian",), batches=(2,),
    losses=((200, 64),), projections=16, data="digits", first_steps=1, timed_steps=2,
    profiled_steps=2, training_seconds=1.0, images=200, features=(32,), points=100, repeats=1,
)  # fmt: skip
FULL = Size(
    name="full", quick=False,
    reference=("gaussian", "oracle", "mixture", "ot", "vae", "gan"), batches=(64, 256, 1024),
    losses=((2000, 784), (2000, 3072), (10_000, 784), (10_000, 3072), (100_000, 784),
            (100_000, 3072)),
    projections=512, data="mnist", first_steps=20, timed_steps=100, profiled_steps=20,
    training_seconds=5.0, images=10_000, features=(768, 1280), points=1000, repeats=5,
)  # fmt: skip
SIZES = {"small": SMALL, "full": FULL}
