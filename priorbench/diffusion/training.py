r"""Training a denoiser: the simple loss of Ho et al. (2020, https://arxiv.org/abs/2006.11239,
equation 14),

.. math:: L = \mathbb{E}_{t \sim U\{1..T\}, x_0, \epsilon} \, \lVert \epsilon - \epsilon_\theta(x_t, t) \rVert^2

with AdamW, a cosine learning rate and an exponential moving average of the weights. On small data a
denoiser ends up reciting its training images, so the average is judged on validation images as it
goes, and the best one is kept.

The draws of a step follow from the seed and its number alone. So a training that was killed goes on
from its last checkpoint as if nothing had happened, and several processes share the batch that one
would have had.
"""

import json
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..data.dataset import Dataset, to_float
from ..errors import UserError
from ..files import write_atomically
from .checkpoint import Checkpoint
from .frozen import FrozenDiffusion
from .process import ForwardProcess, generator_for, randn, scheduler_index, seeded


@dataclass(frozen=True)
class TrainingSettings:
    """What determines a training.

    Arguments:
        steps: of the optimiser, each on ``batch_size`` images, however many processes share them.
        learning_rate: AdamW's, at the start of a cosine decay to 0.
        ema_decay: of the average of the weights that is kept.
        channels: of each level; each has half the resolution of the one before it.
        heads: of the attention in the middle block.
        T: noising steps, their variances by ``beta_schedule``.
        evaluate_every: steps between two looks at the validation images, each followed by a
            checkpoint.
        validation_draws: noisy images that the average is judged on, at the least.
        mixed_precision: ``no``, ``bf16`` or ``fp16``.
        start_from: the sha256 of the model whose weights were the start (see :func:`train`); its
            architecture and schedule are kept, and the settings of these count for nothing.
    """

    steps: int = 14_000
    batch_size: int = 64
    learning_rate: float = 2e-3
    ema_decay: float = 0.999
    dropout: float = 0.1
    channels: tuple[int, ...] = (32, 64)
    heads: int = 2
    T: int = 1000
    beta_schedule: str = "linear"
    prediction_type: str = "epsilon"
    evaluate_every: int = 500
    validation_draws: int = 4096
    mixed_precision: str = "no"
    compile: bool = False
    seed: int = 0
    start_from: str = ""


def unet(shape: tuple[int, int, int], settings: TrainingSettings) -> nn.Module:
    """A ``UNet2DModel`` for (C, H, W) images: one layer a block, attention in the middle block
    alone.
    """
    from diffusers import UNet2DModel

    channels, height, width = shape
    depth = len(settings.channels)
    if min(height, width) < 2 ** (depth - 1):
        raise UserError(f"{depth} levels of channels are too many for images of {height}x{width}")
    return UNet2DModel(
        sample_size=height if height == width else (height, width),
        in_channels=channels,
        out_channels=channels,
        layers_per_block=1,
        block_out_channels=settings.channels,
        down_block_types=("DownBlock2D",) * depth,
        up_block_types=("UpBlock2D",) * depth,
        attention_head_dim=settings.channels[-1] // settings.heads,
        norm_num_groups=8,
        dropout=settings.dropout,
    )


def target(
    process: ForwardProcess, kind: str, x_0: Tensor, noise: Tensor, t: Tensor
) -> tuple[Tensor, Tensor]:
    """(x_t, what the network should say of it) for times ``t`` (N,), by prediction type."""
    alpha_bar = process.alpha_bar.to(t.device)[t].to(x_0.device, x_0.dtype).view(-1, 1, 1, 1)
    signal, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    x_t = signal * x_0 + sigma * noise
    wanted = {"epsilon": noise, "sample": x_0, "v_prediction": signal * noise - sigma * x_0}[kind]
    return x_t, wanted


def train(
    dataset: Dataset,
    output: Path,
    settings: TrainingSettings,
    progress: Callable[[int, int, float], None] = lambda step, total, loss: None,
    fresh: bool = False,
    start: FrozenDiffusion | None = None,
) -> dict[str, Any]:
    """Train on ``dataset.train``; returns what ``training.json`` says. ``start`` gives
    architecture, schedule and first weights, in place of fresh ones.

    Writes a ``diffusers`` pipeline folder, ``loss.csv`` and ``training.json`` to ``output``; on the
    way there ``checkpoint.safetensors``, from which the same call goes on. ``fresh`` starts over.

    Raises:
        UserError: if ``output`` holds a training with other settings or another model.
    """
    from accelerate import Accelerator
    from diffusers import DDPMPipeline, DDPMScheduler
    from diffusers.training_utils import EMAModel

    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    device, rank, world = accelerator.device, accelerator.process_index, accelerator.num_processes
    if settings.batch_size % world:
        raise UserError(
            f"batch size {settings.batch_size} cannot be shared evenly by {world} processes"
        )
    if start is not None:
        settings = replace(settings, start_from=start.digest())
    identity = {
        **asdict(settings),
        "channels": list(settings.channels),
        "dataset_sha256": dataset.digest(),
    }
    checkpoint = Checkpoint(output, identity)
    finished = checkpoint.finished(fresh)
    if finished is not None:
        return finished

    with seeded(settings.seed, device):
        network = (
            unet(dataset.shape, settings)
            if start is None
            else deepcopy(start.network).requires_grad_(True)
        )
    network = network.to(memory_format=torch.channels_last)  # training is twice as fast
    averaged = EMAModel(
        network.parameters(), decay=settings.ema_decay, use_ema_warmup=True, power=0.75
    )
    scheduler = (
        DDPMScheduler(
            num_train_timesteps=settings.T,
            beta_schedule=settings.beta_schedule,
            prediction_type=settings.prediction_type,
        )
        if start is None
        else DDPMScheduler.from_config(start.config)
    )
    prediction_type = scheduler.config.prediction_type
    process = ForwardProcess(scheduler.alphas_cumprod)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=1e-4
    )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    model, optimizer = accelerator.prepare(network, optimizer)
    if settings.compile:
        model.compile()
    averaged.to(device)
    state = checkpoint.restore(network, averaged, optimizer, cosine, accelerator.scaler, fresh)
    started = time.monotonic() - state.seconds

    def loss_of(predict: nn.Module, x_0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        x_t, wanted = target(process, prediction_type, x_0, noise, t)
        return nn.functional.mse_loss(
            predict(x_t, scheduler_index(t).to(device)).sample.float(), wanted
        )

    def step_loss(step: int) -> Tensor:
        """The loss of this process's share of the batch of ``step``."""
        draws = generator_for(settings.seed, f"train {step}")
        mine = slice(rank, None, world)
        chosen = torch.randint(len(dataset.train), (settings.batch_size,), generator=draws)[mine]
        t = torch.randint(1, process.T + 1, (settings.batch_size,), generator=draws)[mine]
        noise = randn((settings.batch_size, *dataset.shape), draws)[mine].to(device)
        dropout = int(torch.randint(2**31, (world,), generator=draws)[rank])
        with seeded(dropout, device):
            return loss_of(model, to_float(dataset.train[chosen]).to(device), t, noise)

    @torch.no_grad()
    def validation_loss() -> float:
        """Of the averaged weights; on the same draws each time, so that only the weights differ."""
        draws = generator_for(settings.seed, "validation")
        held_out = dataset.validation.repeat(-(-256 // len(dataset.validation)), 1, 1, 1)
        losses, counts = [], []
        network.eval()
        for images in held_out.split(256) * -(-settings.validation_draws // len(held_out)):
            t = torch.randint(1, process.T + 1, (len(images),), generator=draws)
            noise = randn((len(images), *dataset.shape), draws, device)
            losses.append(
                loss_of(network, to_float(images).to(device), t, noise).item() * len(images)
            )
            counts.append(len(images))
        network.train()
        return sum(losses) / sum(counts)

    network.train()
    for step in range(state.step + 1, settings.steps + 1):
        loss = step_loss(step)
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        cosine.step()
        averaged.step(network.parameters())
        state.running.append(accelerator.reduce(loss.detach(), "mean").item())
        if step % settings.evaluate_every == 0 or step == settings.steps:
            averaged.store(network.parameters())
            averaged.copy_to(network.parameters())
            state.record(step, validation_loss(), network.parameters(), time.monotonic() - started)
            averaged.restore(network.parameters())
            if accelerator.is_main_process:
                checkpoint.save(state, network, averaged, optimizer, cosine, accelerator.scaler)
                progress(step, settings.steps, state.history[-1][2])
    with torch.no_grad():
        for parameter, kept in zip(network.parameters(), state.best, strict=True):
            parameter.copy_(kept)
    about = {
        "settings": identity,
        "steps": settings.steps,
        "images_seen": settings.steps * settings.batch_size,
        "seconds": round(state.seconds, 1),
        "processes": world,
        "device": device.type,
        "threads": torch.get_num_threads(),
        "training_loss": state.history[-1][1],
        "validation_loss": state.best_loss,
        "kept_step": state.best_step,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    if accelerator.is_main_process:
        network = network.to(memory_format=torch.contiguous_format).eval()
        DDPMPipeline(unet=network, scheduler=scheduler).save_pretrained(str(output))
        write_atomically(output / "training.json", (json.dumps(about, indent=2) + "\n").encode())
        checkpoint.path.unlink()
    accelerator.wait_for_everyone()
    return about
