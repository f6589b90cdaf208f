r"""Training a denoiser: the simple loss of Ho et al. (2020, https://arxiv.org/abs/2006.11239, equation 14),

.. math:: L = \mathbb{E}_{t \sim U\{1..T\}, x_0, \epsilon} \, \lVert \epsilon - \epsilon_\theta(x_t, t) \rVert^2

with AdamW, a cosine learning rate and an exponential moving average of the weights. On small data a denoiser ends up
reciting its training images, so the average is judged on validation images as it goes, and the best one is kept.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.dataset import Dataset, to_float
from .process import ForwardProcess, randn, scheduler_index


@dataclass(frozen=True)
class TrainingSettings:
    """``steps`` optimiser steps of ``batch_size`` images; ``T`` noising steps of schedule ``beta_schedule``."""

    steps: int = 12_000
    batch_size: int = 64
    learning_rate: float = 2e-3
    ema_decay: float = 0.999
    dropout: float = 0.1
    channels: tuple[int, ...] = (32, 64)
    T: int = 1000
    beta_schedule: str = "linear"
    prediction_type: str = "epsilon"
    evaluate_every: int = 500
    mixed_precision: str = "no"
    compile: bool = False
    seed: int = 0


def unet(shape: tuple[int, int, int], settings: TrainingSettings) -> nn.Module:
    """A ``UNet2DModel`` for (C, H, W) images: one layer a block, attention in the middle block alone."""
    from diffusers import UNet2DModel

    channels, height, width = shape
    depth = len(settings.channels)
    return UNet2DModel(
        sample_size=height if height == width else (height, width),
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=settings.channels,
        down_block_types=("DownBlock2D",) * depth,
        up_block_types=("UpBlock2D",) * depth,
        attention_head_dim=settings.channels[-1] // 2,
        norm_num_groups=8,
        dropout=settings.dropout,
    )


def target(process: ForwardProcess, kind: str, x_0: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, what the network should say of it) for times ``t`` (N,), by prediction type."""
    alpha_bar = process.alpha_bar.to(x_0.device)[t].to(x_0.dtype).view(-1, 1, 1, 1)
    signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    x_t = signal * x_0 + sigma * noise
    wanted = {"epsilon": noise, "sample": x_0, "v_prediction": signal * noise - sigma * x_0}[kind]
    return x_t, wanted


def train(
    dataset: Dataset,
    output: Path,
    settings: TrainingSettings,
    progress: Callable[[int, int, float], None] = lambda step, total, loss: None,
) -> dict[str, Any]:
    """Train on ``dataset.train`` and save a ``diffusers`` pipeline folder; returns steps, seconds and losses."""
    from accelerate import Accelerator
    from diffusers import DDPMPipeline, DDPMScheduler
    from diffusers.training_utils import EMAModel

    started = time.monotonic()
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    with torch.random.fork_rng(devices=[]):
        # diffusers initialises, and drops out, by the global generator: it is seeded here, and put back after.
        torch.manual_seed(settings.seed)
        network = unet(dataset.shape, settings)
        averaged = EMAModel(network.parameters(), decay=settings.ema_decay, use_ema_warmup=True, power=0.75)
        scheduler = DDPMScheduler(
            num_train_timesteps=settings.T,
            beta_schedule=settings.beta_schedule,
            prediction_type=settings.prediction_type,
        )
        process = ForwardProcess(scheduler.alphas_cumprod)
        optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
        model, optimizer = accelerator.prepare(network, optimizer)
        if settings.compile:
            model.compile()
        averaged.to(accelerator.device)
        generator = torch.Generator().manual_seed(settings.seed)
        images = to_float(dataset.train).to(accelerator.device)
        held_out = to_float(dataset.validation).to(accelerator.device)
        best, best_step, best_weights, smoothed = (
            float("inf"),
            0,
            averaged.state_dict()["shadow_params"],
            None,
        )

        def loss_on(x_0: Tensor, draws: torch.Generator) -> Tensor:
            t = torch.randint(1, process.T + 1, (len(x_0),), generator=draws).to(x_0.device)
            x_t, wanted = target(process, settings.prediction_type, x_0, randn(x_0.shape, draws, x_0.device), t)
            return nn.functional.mse_loss(model(x_t, scheduler_index(t)).sample.float(), wanted)

        for step in range(1, settings.steps + 1):
            chosen = torch.randint(len(images), (settings.batch_size,), generator=generator).to(images.device)
            loss = loss_on(images[chosen], generator)
            optimizer.zero_grad()
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            cosine.step()
            averaged.step(network.parameters())
            smoothed = loss.item() if smoothed is None else 0.99 * smoothed + 0.01 * loss.item()
            if step % settings.evaluate_every == 0 or step == settings.steps:
                averaged.store(network.parameters())
                averaged.copy_to(network.parameters())
                model.eval()
                with torch.no_grad():  # the same draws each time, so that only the weights differ
                    draws = torch.Generator().manual_seed(settings.seed + 1)
                    validation = torch.stack([loss_on(held_out, draws) for _ in range(8)]).mean().item()
                model.train()
                if validation < best:
                    best, best_step = validation, step
                    best_weights = [p.detach().clone() for p in network.parameters()]
                averaged.restore(network.parameters())
                progress(step, settings.steps, validation)
        with torch.no_grad():
            for parameter, kept in zip(network.parameters(), best_weights, strict=True):
                parameter.copy_(kept)
    if accelerator.is_main_process:
        DDPMPipeline(unet=network.eval(), scheduler=scheduler).save_pretrained(str(output))
    return {
        "steps": settings.steps,
        "images_seen": settings.steps * settings.batch_size,
        "seconds": round(time.monotonic() - started, 1),
        "training_loss": round(smoothed or 0.0, 5),
        "validation_loss": round(best, 5),
        "kept_step": best_step,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
