"""At which size should EfficientNet-Lite0 look at small images? FID of twenty known degradations.

Five kinds of damage are done to training images, each in four strengths. For each size that the
images are brought to, the table says:

- order: the mean over the kinds of the rank correlation (Spearman) of FID with the strength;
- as 224: the rank correlation of the twenty FIDs with those at 224 pixels, the network's own size;
- mildest: how many standard deviations of the FID of undamaged images the mildest damage of each
  kind lies above their mean: the least and the median over the kinds;
- time: that of a batch of 50 images, relative to the first size, the median of five rounds.

    python benchmarks/extractor_size.py --dataset path/to/cifar10
"""

import argparse
import io
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from scipy.stats import spearmanr
from torch import Tensor
from torchvision.transforms.v2.functional import adjust_contrast, gaussian_blur

from priorbench.data.loading import load_dataset
from priorbench.metrics.fidelity import features_of, fid
from priorbench.metrics.imagenet import LAYER, NAME, EfficientNetLite0

say = Console(width=160, highlight=False).print

UNDAMAGED = 6  # draws of undamaged images, which say how FID varies by chance


def noisy(x: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Bytes with Gaussian noise of ``deviation`` grey values."""
    noise = torch.randn(x.shape, generator=generator)
    return (x + deviation * noise).round().clamp(0, 255).to(torch.uint8)


def jpeg(x: Tensor, quality: float, generator: torch.Generator) -> Tensor:
    """Bytes after JPEG of ``quality``."""
    found = []
    for image in x.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=int(quality))
        found.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).contiguous()


def blurred(x: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Bytes blurred by ``sigma`` pixels."""
    return gaussian_blur(x, [7, 7], [sigma, sigma])


def flattened(x: Tensor, contrast: float, generator: torch.Generator) -> Tensor:
    """Bytes with less ``contrast``."""
    return adjust_contrast(x, contrast)


Damage = Callable[[Tensor, float, torch.Generator], Tensor]
KINDS: dict[str, tuple[Damage, tuple[float, ...]]] = {  # from mild to strong
    "noise": (noisy, (2, 4, 8, 16)),
    "blur": (blurred, (0.3, 0.4, 0.6, 1.0)),
    "jpeg": (jpeg, (90, 75, 50, 25)),
    "contrast": (flattened, (0.95, 0.9, 0.8, 0.6)),
}
DROPPED = (1, 2, 4, 7)  # classes that are missing: the fifth kind


def damaged(images: Tensor, labels: Tensor, n: int) -> dict[str, list[Tensor]]:
    """Kind -> four sets of ``n`` images, from mild to strong; "none" -> undamaged ones."""
    generator = torch.Generator().manual_seed(0)

    def drawn(pool: Tensor) -> Tensor:
        return images[pool[torch.randperm(len(pool), generator=generator)[:n]]]

    every = torch.arange(len(images))
    found = {
        kind: [damage(drawn(every), s, generator) for s in strengths]
        for kind, (damage, strengths) in KINDS.items()
    }
    found["classes"] = [drawn(every[labels >= missing]) for missing in DROPPED]
    return found | {"none": [drawn(every) for _ in range(UNDAMAGED)]}


def scores(sets: dict[str, list[Tensor]], test: Tensor, size: int) -> dict[str, list[float]]:
    """The FID of each set of images at ``size`` pixels."""
    reader = EfficientNetLite0(NAME, [LAYER], size)
    reference = features_of(test, reader)
    return {
        kind: [fid(features_of(images, reader), reference) for images in each]
        for kind, each in sets.items()
    }


def seconds(images: Tensor, sizes: list[int]) -> dict[int, float]:
    """The median time of a batch at each size, the sizes in turn."""
    readers = {size: EfficientNetLite0(NAME, [LAYER], size) for size in sizes}
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(5):
        for size, reader in readers.items():
            started = time.perf_counter()
            reader(images[:50])
            times[size].append(time.perf_counter() - started)
    return {size: median(each) for size, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, help="a folder of CIFAR-10 with labels")
    parser.add_argument("--sizes", default="64,96,128,224")
    parser.add_argument("--n", type=int, default=2000, help="images of each damage")
    parser.add_argument("--n-test", type=int, default=5000)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    data = load_dataset(options.dataset)
    sets = damaged(data.train, data.labels["train"], options.n)
    found = {}
    for size in sizes:
        found[size] = scores(sets, data.test[: options.n_test], size)
        for kind, each in found[size].items():
            say(f"{size:4d} {kind:9s}", *(f"{score:9.2f}" for score in each))
    times, kinds = seconds(data.train, sizes), [kind for kind in sets if kind != "none"]
    say("| pixels | order | as 224 | mildest, least | median | time |")
    say("|---|---|---|---|---|---|")
    for size in sizes:
        by = found[size]
        order = np.mean([spearmanr(by[kind], range(4)).statistic for kind in kinds])
        native = [s for kind in kinds for s in found[sizes[-1]][kind]]
        agreement = spearmanr([s for kind in kinds for s in by[kind]], native).statistic
        spread, mean = np.std(by["none"], ddof=1), np.mean(by["none"])
        mildest = [(by[kind][0] - mean) / spread for kind in kinds]
        say(
            f"| {size} | {order:.3f} | {agreement:.3f} | {min(mildest):.1f} | "
            f"{median(mildest):.1f} | {times[size] / times[sizes[0]]:.1f} |"
        )


if __name__ == "__main__":
    main()
