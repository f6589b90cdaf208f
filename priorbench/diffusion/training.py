r"""Training a denoiser by the simple loss of Ho et al. (2020), equation 14.

.. math:: L = \mathbb{E}_{t \sim U\{1..T\}, x_0, \epsilon} \,
              \lVert \epsilon - \epsilon_\theta(x_t, t) \rVert^2

The optimiser is AdamW, with a cosine learning rate (after a linear warmup, if one is asked for) and
an exponential moving average of the weights. On small data a denoiser ends up reciting its training
images. So the average is judged on validation images from time to time, and the best one is kept.

The draws of a step follow from the seed and the number of the step alone. So a training that was
killed resumes from its last checkpoint and ends as if it had never stopped, and several processes
share the batch that one process would have had.

Reference: Denoising Diffusion Probabilistic Models (Ho et al., 2020),
https://arxiv.org/abs/2006.11239
"""

import json
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..data.dataset import Dataset, to_float
from ..errors import UserError
from ..files import write_atomically
from .checkpoint import Checkpoint, Learner, State
from .frozen import FrozenDiffusion
from .process import ForwardProcess, generator_for, randn, scheduler_index, seeded

if TYPE_CHECKING:
    from accelerate import Accelerator
    from diffusers import DDPMScheduler


HELD = 4 * 2**30  # bytes of training images that are kept on the device


@dataclass(frozen=True)
class TrainingSettings:
    """What determines a training.

    Arguments:
        steps: steps of the optimiser, each on ``batch_size`` images. Several processes share the
            images of a batch.
        learning_rate: that of AdamW, at the start of a cosine decay to 0.
        warmup: steps in which the learning rate first rises to that.
        ema_decay: decay of the average of the weights that is kept.
        flip: mirror each image, left to right, with probability 1/2.
        channels: channels of each level; each level has half the resolution of the one before it.
        layers: residual layers of each level.
        attention_levels: the last so many levels have attention, as the middle block always has.
        heads: heads of that attention, at the width of the last level.
        T: noising steps; ``beta_schedule`` gives their variances.
        evaluate_every: steps from one look at the validation images to the next; a checkpoint
            follows each.
        validation_draws: the least number of noisy images that the average is judged on.
        mixed_precision: ``no``, ``bf16`` or ``fp16``.
        compile: the mode of ``torch.compile``; empty for none.
        start_from: the sha256 of the model whose weights were the start (see :func:`train`). Its
            architecture and schedule are kept, and the settings for these are ignored.
    """

    steps: int = 14_000
    batch_size: int = 64
    learning_rate: float = 2e-3
    warmup: int = 0
    ema_decay: float = 0.999
    dropout: float = 0.1
    flip: bool = False
    channels: tuple[int, ...] = (32, 64)
    layers: int = 1
    attention_levels: int = 0
    heads: int = 2
    T: int = 1000
    beta_schedule: str = "linear"
    prediction_type: str = "epsilon"
    evaluate_every: int = 500
    validation_draws: int = 4096
    mixed_precision: str = "no"
    compile: str = ""
    seed: int = 0
    start_from: str = ""


def unet(shape: tuple[int, int, int], settings: TrainingSettings) -> nn.Module:
    """A ``UNet2DModel`` for (C, H, W), with the widths, layers and attention of ``settings``.

    Raises:
        UserError: if the images are too small for so many levels, or the attention does not fit.
    """
    from diffusers import UNet2DModel

    channels, height, width = shape
    depth, attentive = len(settings.channels), settings.attention_levels
    if min(height, width) < 2 ** (depth - 1):
        raise UserError(f"{depth} levels of channels are too many for images of {height}x{width}")
    if attentive > depth:
        raise UserError(f"{attentive} levels of attention are too many for {depth} levels")
    head = settings.channels[-1] // settings.heads
    narrow = [c for c in settings.channels[depth - attentive :] if c % head]
    if narrow:
        raise UserError(f"a head is {head} channels wide, which does not divide {narrow[0]}")
    plain = depth - attentive
    network: nn.Module = UNet2DModel(
        sample_size=height if height == width else (height, width),
        in_channels=channels,
        out_channels=channels,
        layers_per_block=settings.layers,
        block_out_channels=settings.channels,
        down_block_types=("DownBlock2D",) * plain + ("AttnDownBlock2D",) * attentive,
        up_block_types=("AttnUpBlock2D",) * attentive + ("UpBlock2D",) * plain,
        attention_head_dim=head,
        norm_num_groups=8,
        dropout=settings.dropout,
    )
    return network


def target(
    kind: str, x_0: Tensor, noise: Tensor, signal: Tensor, sigma: Tensor
) -> tuple[Tensor, Tensor]:
    """x_t of variances ``signal**2`` and ``sigma**2``, (N, 1, 1, 1), and what a network of
    prediction type ``kind`` should answer.

    Both have the shape of ``x_0`` and ``noise``, (N, C, H, W).
    """
    x_t = signal * x_0 + sigma * noise
    wanted = {"epsilon": noise, "sample": x_0, "v_prediction": signal * noise - sigma * x_0}[kind]
    return x_t, wanted


class Trainer:
    """One training: its images, its forward process, and the objects that its steps change.

    Arguments:
        dataset: trains on ``train``, judges the averaged weights on ``validation``.
        settings: what determines the training.
        start: the model to start from, or None for a :func:`unet` with fresh weights.
        accelerator: gives the device and the precision, and this process's share of a batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: TrainingSettings,
        start: FrozenDiffusion | None,
        accelerator: "Accelerator",
    ) -> None:
        from diffusers.optimization import get_cosine_schedule_with_warmup
        from diffusers.training_utils import EMAModel

        self.dataset, self.settings, self.accelerator = dataset, settings, accelerator
        self.device: torch.device = accelerator.device
        network = self._first_network(start)
        averaged = EMAModel(
            network.parameters(),
            decay=settings.ema_decay,
            use_ema_warmup=True,
            power=0.75,
            foreach=True,  # one kernel for all parameters
        )
        self.scheduler = self._noise_schedule(start)
        self.process = ForwardProcess(self.scheduler.alphas_cumprod)
        alpha_bar = self.process.alpha_bar.view(-1, 1, 1, 1)
        self.signal, self.sigma = (
            level.sqrt().float().to(self.device) for level in (alpha_bar, 1 - alpha_bar)
        )
        held = self.device if dataset.train.nbytes <= HELD else "cpu"
        self.images = dataset.train.to(held)
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            network.parameters(),
            lr=settings.learning_rate,
            weight_decay=1e-4,
            fused=self.device.type == "cuda",
        )
        cosine = get_cosine_schedule_with_warmup(optimizer, settings.warmup, settings.steps)
        # The same network, as the accelerator wraps it for training in several processes.
        self.model, optimizer = accelerator.prepare(network, optimizer)
        if settings.compile:
            self.model.compile(mode=settings.compile)
        averaged.to(self.device)
        self.learner = Learner(network, averaged, optimizer, cosine, accelerator.scaler)
        self.state = State()

    def _first_network(self, start: FrozenDiffusion | None) -> nn.Module:
        with seeded(self.settings.seed, self.device):
            network = (
                unet(self.dataset.shape, self.settings)
                if start is None
                else deepcopy(start.network).requires_grad_(True)
            )
        return network.to(memory_format=torch.channels_last)  # training is twice as fast

    def _noise_schedule(self, start: FrozenDiffusion | None) -> "DDPMScheduler":
        from diffusers import DDPMScheduler

        if start is not None:
            return DDPMScheduler.from_config(start.config)
        return DDPMScheduler(
            num_train_timesteps=self.settings.T,
            beta_schedule=self.settings.beta_schedule,
            prediction_type=self.settings.prediction_type,
        )

    def run(
        self, checkpoint: Checkpoint, progress: Callable[[int, int, float], None], fresh: bool
    ) -> None:
        """Take the steps that ``checkpoint`` leaves, then put the best weights into the network."""
        self.state = checkpoint.restore(self.learner, fresh)
        started = time.monotonic() - self.state.seconds
        self.learner.network.train()
        for step in range(self.state.step + 1, self.settings.steps + 1):
            self._step(step)
            if step % self.settings.evaluate_every == 0 or step == self.settings.steps:
                self._evaluate(step, started)
                if self.accelerator.is_main_process:
                    checkpoint.save(self.state, self.learner)
                    progress(step, self.settings.steps, self.state.history[-1][2])
        with torch.no_grad():
            weights = self.learner.network.parameters()
            for parameter, kept in zip(weights, self.state.best, strict=True):
                parameter.copy_(kept)

    def _step(self, step: int) -> None:
        """Take one step of the optimiser, of the learning rate and of the average."""
        learner = self.learner
        loss = self._step_loss(step)
        learner.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
        learner.optimizer.step()
        learner.cosine.step()
        learner.averaged.step(learner.network.parameters())
        self.state.running.append(self.accelerator.reduce(loss.detach(), "mean"))

    def _step_loss(self, step: int) -> Tensor:
        """The loss on this process's share of the batch of ``step``."""
        size, rank, world = self.settings.batch_size, self.accelerator.process_index, self.processes
        draws = generator_for(self.settings.seed, f"train {step}")
        mine = slice(rank, None, world)
        chosen = torch.randint(len(self.dataset.train), (size,), generator=draws)[mine]
        t = torch.randint(1, self.process.T + 1, (size,), generator=draws)[mine]
        dropout = int(torch.randint(2**31, (world,), generator=draws)[rank])
        mirrored = torch.rand(size, generator=draws)[mine] < 0.5 * self.settings.flip
        noise = randn(
            (size, *self.dataset.shape),
            generator_for(self.settings.seed, f"train {step} noise", self.device),
        )[mine]
        images = self._there(self.images[self._there(chosen, self.images.device)])
        mirrored = self._there(mirrored).view(-1, 1, 1, 1)
        with seeded(dropout, self.device):
            return self._loss(self.model, images.where(~mirrored, images.flip(-1)), t, noise)

    def _loss(self, predict: nn.Module, images: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """The mean squared error of ``predict`` on ``images``, bytes (N, C, H, W)."""
        t = self._there(t)
        x_0, kind = to_float(self._there(images)), self.scheduler.config.prediction_type
        x_t, wanted = target(kind, x_0, noise, self.signal[t], self.sigma[t])
        output = predict(x_t, scheduler_index(t)).sample
        return nn.functional.mse_loss(output.float(), wanted)

    def _there(self, tensor: Tensor, device: torch.device | None = None) -> Tensor:
        """``tensor`` on the device, without waiting for what is queued there."""
        device = self.device if device is None else device
        if tensor.device.type == "cpu" and device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(device, non_blocking=True)

    def _evaluate(self, step: int, started: float) -> None:
        """Record the validation loss of the averaged weights, and keep them if it is the lowest."""
        weights, averaged = self.learner.network.parameters, self.learner.averaged
        averaged.store(weights())
        averaged.copy_to(weights())
        self.state.record(step, self._validation_loss(), weights(), time.monotonic() - started)
        averaged.restore(weights())

    @torch.no_grad()
    def _validation_loss(self) -> float:
        """The loss of the weights as they are, on the same draws each time."""
        network, validation = self.learner.network, self.dataset.validation
        draws = generator_for(self.settings.seed, "validation")
        held_out = validation.repeat(-(-256 // len(validation)), 1, 1, 1)
        rounds = -(-self.settings.validation_draws // len(held_out))
        losses, counts = [], []
        network.eval()
        for images in held_out.split(256) * rounds:
            t = torch.randint(1, self.process.T + 1, (len(images),), generator=draws)
            noise = randn((len(images), *self.dataset.shape), draws, self.device)
            with torch.compiler.set_stance("force_eager"):  # a few batches: no compilation pays
                losses.append(self._loss(network, images, t, noise).item() * len(images))
            counts.append(len(images))
        network.train()
        return sum(losses) / sum(counts)

    @property
    def processes(self) -> int:
        """How many processes share a batch."""
        return int(self.accelerator.num_processes)

    def summary(self, identity: dict[str, Any]) -> dict[str, Any]:
        """What ``training.json`` says of a training that is done."""
        return {
            "settings": identity,
            "steps": self.settings.steps,
            "images_seen": self.settings.steps * self.settings.batch_size,
            "seconds": round(self.state.seconds, 1),
            "processes": self.processes,
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "training_loss": self.state.history[-1][1],
            "validation_loss": self.state.best_loss,
            "kept_step": self.state.best_step,
            "parameters": sum(p.numel() for p in self.learner.network.parameters()),
        }

    def save(self, folder: Path) -> None:
        """Write a ``diffusers`` pipeline of the network to ``folder``."""
        from diffusers import DDPMPipeline

        network = self.learner.network.to(memory_format=torch.contiguous_format).eval()
        DDPMPipeline(unet=network, scheduler=self.scheduler).save_pretrained(str(folder))


def train(
    dataset: Dataset,
    output: Path,
    settings: TrainingSettings,
    progress: Callable[[int, int, float], None] = lambda step, total, loss: None,
    fresh: bool = False,
    start: FrozenDiffusion | None = None,
) -> dict[str, Any]:
    """Train on ``dataset.train``, or resume a training that was interrupted.

    Writes a ``diffusers`` pipeline folder, ``loss.csv`` and ``training.json`` to ``output``. Until
    these are there, ``checkpoint.safetensors`` is what the same call resumes from.

    Arguments:
        progress: called with (step, steps, validation loss) after each evaluation.
        fresh: start over, whatever is in ``output``.
        start: a model that gives architecture, schedule and first weights, in place of fresh ones.

    Returns:
        What ``training.json`` says.

    Raises:
        UserError: if ``output`` holds a training with other settings or another model, or if the
            processes cannot share a batch evenly.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    world = accelerator.num_processes
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
    trainer = Trainer(dataset, settings, start, accelerator)
    trainer.run(checkpoint, progress, fresh)
    about = trainer.summary(identity)
    if accelerator.is_main_process:
        trainer.save(output)
        write_atomically(output / "training.json", (json.dumps(about, indent=2) + "\n").encode())
        checkpoint.path.unlink()
    accelerator.wait_for_everyone()
    return about
