"""The pipeline of an exported folder. Its code is copied there with all that it needs
(:mod:`.bundle`), so it must need no more than torch, numpy and diffusers.
"""

from typing import Any

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from torch import Tensor

from ..data.dataset import batch_sizes, to_bytes
from ..diffusion.solvers import Chain, evaluate, process_of
from ..sampler import Streams


class TruncatedPipeline(DiffusionPipeline):  # type: ignore[misc]
    """Images in a few evaluations: a prior supplies x_{t_trunc}, and a solver takes it to x_0.

    Arguments:
        prior: (n, generator) -> x_{t_trunc}, or a clean guess x_0; its ``config.emits`` says which.
        unet, scheduler: the diffusion model.
        t_trunc: the number of noising steps that the chain starts from.
        solver: ``ddpm``, ``ddim``, ``dpm++``, ``dpm++sde``, ``unipc``, or the class of a scheduler
            of diffusers.
        times: the times t_1 < ... < t_K = t_trunc of the chain, joined by commas.
        chunk: how many images are made at once.
        precision: ``fp32``, or ``bf16``/``fp16`` for mixed precision in the network alone.
    """

    def __init__(
        self,
        prior: Any,
        unet: Any,
        scheduler: Any,
        # diffusers takes what has no default for a part that it has to load
        t_trunc: int = 1,
        solver: str = "ddim",
        times: str = "1",
        chunk: int = 250,
        precision: str = "fp32",
    ) -> None:
        super().__init__()
        self.register_modules(prior=prior, unet=unet, scheduler=scheduler)
        self.register_to_config(
            t_trunc=t_trunc, solver=solver, times=times, chunk=chunk, precision=precision
        )

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int = 1,
        seed: int = 0,
        generator: torch.Generator | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """``batch_size`` images.

        Arguments:
            seed: of all random draws; with as many images at once, a seed draws the same images.
            generator: draws the seed, if it is given.
            output_type: ``pil``, ``np`` for (N, H, W, C) in [0, 1], or ``pt`` for (N, C, H, W) in
                [-1, 1].
        """
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type must be pil, np or pt, got {output_type!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if self.unet.dtype != torch.float32:
            raise ValueError("the weights must be float32; its config's precision says the rest")
        if generator is not None:
            seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        device = self.unet.device
        if device.type == "cpu":  # the layout in which convolutions are fastest there
            self.unet.to(memory_format=torch.channels_last)
        process, streams = process_of(self.scheduler), Streams.of(seed)
        times = [int(t) for t in self.config.times.split(",")]
        chain = Chain(self.config.solver, process, times, dict(self.scheduler.config))

        def network(x: Tensor, index: float) -> Tensor:
            return evaluate(self.unet, x, index, self.config.precision)

        made = []
        for size in self.progress_bar(batch_sizes(batch_size, self.config.chunk)):
            x = self.prior(size, streams.sample).to(device, torch.float32)
            if self.prior.config.emits == "x_0":
                x = process.diffuse(x, self.config.t_trunc, streams.diffuse)
            made.append(chain.run(network, x, streams.denoise).clamp(-1, 1))
        images: Any = torch.cat(made)
        if output_type == "pil":
            images = self.numpy_to_pil(to_bytes(images).permute(0, 2, 3, 1).numpy() / 255)
        elif output_type == "np":
            images = (images / 2 + 0.5).permute(0, 2, 3, 1).cpu().numpy()
        return ImagePipelineOutput(images=images) if return_dict else (images,)
