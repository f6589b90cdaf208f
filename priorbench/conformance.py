"""The checks that any prior must pass; :mod:`priorbench.testing` runs them."""

import inspect
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .diffusion.solvers import chain_times
from .errors import UserError, one_line
from .isolation import isolated
from .marginal import TruncatedMarginal
from .prior import HasLatents, parameter_defaults
from .subject import (
    SHAPE,
    T_TRUNC,
    Subject,
    draw,
    example_marginal,
    global_state,
    moved_states,
)

PATIENCE = 2.0  # seconds that a fit may continue after its deadline
# What a prior emits -> the share of the distance of a prior that knows nothing (pure noise, or one
# blank image) within which it must come.
NEARER = {"x_t": 0.5, "x_0": 0.9}
STRAY = 2.0  # times the sliced distance of two equal draws: what lies farther has another law


def _same(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, where NaN equals NaN."""
    return x.shape == y.shape and bool(((x == y) | (x.isnan() & y.isnan())).all())


def check_parameters(subject: Subject) -> None:
    """Hyperparameters are keyword-only, have defaults, and are stored as given by their names."""
    for name, parameter in list(inspect.signature(subject.cls.__init__).parameters.items())[1:]:
        if parameter.kind is not parameter.KEYWORD_ONLY:
            raise subject.failed(
                f"{name!r} as a keyword-only parameter (after *)", str(parameter.kind), "__init__"
            )
        if parameter.default is parameter.empty:
            raise subject.failed(f"a default for the parameter {name!r}", "none", "__init__")
    wanted = parameter_defaults(subject.cls) | dict(subject.params)
    stored = vars(subject.make())
    for name, value in wanted.items():
        if name not in stored:
            raise subject.failed(
                f"the parameter {name!r} stored as self.{name}", "no such attribute", "__init__"
            )
        if stored[name] is not value and stored[name] != value:
            raise subject.failed(
                f"self.{name} as it was given, {value!r}", repr(stored[name]), "__init__"
            )
    try:
        json.dumps(wanted)
    except TypeError as error:
        raise subject.failed(
            "parameters that can be written as JSON", one_line(error), "__init__"
        ) from error


def check_emits(subject: Subject) -> None:
    """``emits`` is "x_t" or "x_0", and the same before and after ``fit``."""
    before, after = subject.make().emits, subject.fitted.emits
    if before not in ("x_t", "x_0") or before != after:
        raise subject.failed(
            "emits to be 'x_t' or 'x_0', the same before and after fit", f"{before!r}, {after!r}"
        )


def check_unfitted(subject: Subject) -> None:
    """``sample`` before ``fit`` raises."""
    prior = subject.make()
    prior_built = subject.make()
    prior_built.build(SHAPE)
    for unfitted in (prior, prior_built):
        try:
            draw(unfitted, 1)
        except RuntimeError:
            continue
        raise subject.failed("sample before fit to raise RuntimeError", "samples", "sample")


def check_shape(subject: Subject) -> None:
    """Samples are (n, C, H, W), for one sample and for odd numbers of samples."""
    for n in (1, 7, 33):
        x = draw(subject.fitted, n)
        if not isinstance(x, Tensor) or tuple(x.shape) != (n, *SHAPE):
            got = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise subject.failed(f"sample({n}) of shape {(n, *SHAPE)}", str(got), "sample")


def check_dtype(subject: Subject) -> None:
    """Samples are float32."""
    x = draw(subject.fitted, 3)
    if x.dtype != torch.float32:
        raise subject.failed("float32", str(x.dtype), "sample")


def check_device(subject: Subject) -> None:
    """Samples and weights are on the device of the marginal, and weights follow ``to``."""
    tensors = [*subject.fitted.state_dict().values(), draw(subject.fitted, 3)]
    # That of the images has an index ("cuda:0"), which the one that was asked for may lack.
    devices, wanted = {str(t.device) for t in tensors}, str(subject.marginal.images.device)
    if devices != {wanted}:
        raise subject.failed(f"everything on {wanted}", ", ".join(sorted(devices)), "sample")
    moved = subject.make()
    moved.build(SHAPE)
    moved.to("meta")
    left = [name for name, t in moved.state_dict().items() if t.device.type != "meta"]
    hidden = [name for name, value in vars(subject.fitted).items() if isinstance(value, Tensor)]
    if left or hidden:
        got = f"{', '.join(left + hidden)} as plain attributes"
        raise subject.failed(
            "every tensor in a parameter or a buffer, so that .to(device) moves it", got, "build"
        )


def check_finite(subject: Subject) -> None:
    """Samples have no NaN and no infinity."""
    x = draw(subject.fitted, 200)
    bad = int((~x.isfinite()).sum())
    if bad:
        raise subject.failed("finite values", f"{bad} of {x.numel()} that are not", "sample")


def check_generator(subject: Subject) -> None:
    """Equal generators give equal samples; other generators, and a second call, give others."""
    prior = subject.fitted
    if not _same(draw(prior, 5), draw(prior, 5)):
        raise subject.failed("equal samples from equal generators", "other samples", "sample")
    if _same(draw(prior, 5), draw(prior, 5, seed=2)):
        raise subject.failed("other samples from another generator", "the same ones", "sample")
    generator = torch.Generator().manual_seed(1)
    if _same(prior.sample(5, generator), prior.sample(5, generator)):
        expected = "sample to advance the generator, so that a second call gives other samples"
        raise subject.failed(expected, "the same", "sample")


def check_distinct(subject: Subject) -> None:
    """The samples of one call differ from one another."""
    x = draw(subject.fitted, 33).flatten(1)
    different = len(torch.unique(x, dim=0))
    if different < 30:
        raise subject.failed("33 different samples", f"{different} different ones", "sample")


def check_times(subject: Subject) -> None:
    """``times`` gives None or the times of a chain, the same at each call."""
    for steps in (1, 3, T_TRUNC):
        given = [subject.fitted.times(T_TRUNC, steps) for _ in range(2)]
        try:
            found = [chain_times(T_TRUNC, steps, times) for times in given]
        except UserError as error:
            said = str(error).partition(", got")[0].removeprefix("times must be ")
            raise subject.failed(f"None or {said}", f"{given[0]}"[:60], "times") from error
        if found[0] != found[1]:
            raise subject.failed("the same times at each call", f"{given}"[:60], "times")


def check_states_kept(subject: Subject) -> None:
    """A fit and a draw leave the global random states of torch, numpy and Python as they were."""
    prior = subject.fitted
    # An import in the first fit may have changed them (that of rich does). Another fit tells.
    if subject.moved:
        subject.fit()
    before = global_state()
    draw(prior, 3)
    moved = ", ".join(sorted(subject.moved | moved_states(before)))
    if moved:
        raise subject.failed(
            "the global random state unchanged", f"a draw from that of {moved}", "fit"
        )


def check_global_state(subject: Subject) -> None:
    """As :func:`check_states_kept`, and a fit does not depend on the global random states."""
    samples = []
    with isolated():
        check_states_kept(subject)
        for seed in (0, 1):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - this tests the global state
            torch.manual_seed(seed)
            samples.append(draw(subject.fit(), 3))
    if not _same(*samples):
        expected = "a fit that follows from run.generator alone"
        raise subject.failed(expected, "another one with another global seed", "fit")


def check_save_and_load(subject: Subject) -> None:
    """A prior that is saved and loaded gives the same samples: all it learned is in safetensors."""
    with tempfile.TemporaryDirectory() as folder:
        subject.fitted.save(folder, prior="checked", shape=list(SHAPE))
        loaded = subject.make()
        loaded.build(SHAPE)
        loaded.load_weights(Path(folder) / "prior.safetensors")
    try:
        x = draw(loaded.to(subject.marginal.device).eval(), 5)
    except Exception as error:
        raise subject.failed(
            "samples after save and load", one_line(error, named=True), "build"
        ) from error
    if not _same(x, draw(subject.fitted, 5)):
        expected = "the same samples after save and load (all that fit learns is in parameters and "
        raise subject.failed(f"{expected}buffers)", "other samples", "build")


def check_refit(subject: Subject) -> None:
    """A second ``fit`` starts afresh: it leaves no trace of the first."""
    other = TruncatedMarginal(
        -subject.marginal.images[:100],
        subject.marginal.diffusion,
        T_TRUNC,
        -subject.marginal.images[300:],
    )
    prior = subject.fit(other)
    prior.fit(subject.marginal, subject.run())
    if not _same(draw(prior, 5), draw(subject.fitted, 5)):
        raise subject.failed(
            "fit to start afresh each time", "samples that remember an earlier fit", "fit"
        )


def check_process(subject: Subject) -> None:
    """A prior that is saved here and loaded in another process gives the same samples."""
    source = inspect.getsourcefile(subject.cls)
    with tempfile.TemporaryDirectory() as folder:
        subject.fitted.save(folder, prior="checked", shape=list(SHAPE))
        about = {
            "module": subject.cls.__module__,
            "file": source,
            "name": subject.cls.__qualname__,
            "params": dict(subject.params),
            "path": sys.path,
            "threads": torch.get_num_threads(),
            "device": str(subject.marginal.device),
        }
        (Path(folder) / "subject.json").write_text(json.dumps(about))
        environment = os.environ | {"PYTHONHASHSEED": "12345"}
        done = subprocess.run(
            [sys.executable, "-c", _OTHER_PROCESS, folder],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise subject.failed(
                "to be loaded in another process", lines[-1] if lines else "nothing", "build"
            )
        x = torch.from_numpy(np.load(Path(folder) / "samples.npy"))
    if not _same(x, draw(subject.fitted, 5).cpu()):
        raise subject.failed("the same samples in another process", "other samples", "sample")


_OTHER_PROCESS = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
about = json.loads((folder / "subject.json").read_text())
sys.path[:] = about["path"]
import importlib, importlib.util
import numpy, torch
torch.set_num_threads(about["threads"])
known = None if about["module"] == "__main__" else importlib.util.find_spec(about["module"])
if known is None or known.origin is None:  # a plugin in a file
    name = "checked" if about["module"] == "__main__" else about["module"]
    spec = importlib.util.spec_from_file_location(name, about["file"])
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
else:
    module = importlib.import_module(about["module"])
found = module
for part in about["name"].split("."):
    found = getattr(found, part)
prior = found(**about["params"])
prior.build((1, 8, 8))
prior.load_weights(folder / "prior.safetensors")
prior = prior.to(about["device"]).eval()
x = prior.sample(5, torch.Generator().manual_seed(1))
numpy.save(folder / "samples.npy", x.cpu().numpy())
"""


def check_deadline(subject: Subject) -> None:
    """``fit`` returns soon after its deadline, with something to sample from."""
    started = time.monotonic()
    prior = subject.fit(deadline=started)
    late = time.monotonic() - started
    if late > PATIENCE:
        raise subject.failed(
            f"fit to return within {PATIENCE:g} s of its deadline", f"{late:.1f} s", "fit"
        )
    if not bool(draw(prior, 2).isfinite().all()):
        raise subject.failed(
            "finite samples from a fit that was cut short", "NaN or infinity", "fit"
        )


def check_frozen(subject: Subject) -> None:
    """A fit and a draw leave the frozen model and the images of the marginal as they were."""
    before, images = subject.marginal.diffusion.digest(), subject.marginal.images.clone()
    draw(subject.fit(), 3)
    changed = subject.marginal.diffusion.digest() != before
    if changed or not torch.equal(images, subject.marginal.images):
        example_marginal.cache_clear()  # the other checks get the world as it was
        what = "weights of the frozen model" if changed else "images of the marginal"
        raise subject.failed("the frozen model and the marginal unchanged", f"other {what}", "fit")


def check_gaussian_target(subject: Subject) -> None:
    """A prior fitted to a Gaussian law comes nearer to it than one that knows nothing of it.

    The distance is W2 between Gaussians with the moments of the samples. A prior that emits x_t has
    to halve the distance of pure noise. One that emits x_0, to which the harness adds noise of the
    right level, has to come a tenth nearer than a blank image.
    """
    from .metrics.wasserstein import gaussian_w2

    generator = torch.Generator().manual_seed(2)
    n, clean = 2000, subject.fitted.emits == "x_0"
    x = draw(subject.fitted, n)
    if clean:
        x = subject.marginal.diffuse(x, generator)
    y = subject.marginal.draw(n, generator)
    noise = torch.randn(y.shape, generator=generator)  # on the CPU, as the distance is
    ignorant = subject.marginal.diffuse(torch.zeros_like(y), generator) if clean else noise
    share = NEARER["x_0" if clean else "x_t"]
    distance, limit = gaussian_w2(x, y), share * gaussian_w2(ignorant, y)
    if not distance <= limit:
        than = "a blank image, diffused" if clean else "pure noise"
        wanted = f"W2 to a Gaussian target of at most {limit:.3f} ({share:g} times that of {than})"
        raise subject.failed(wanted, f"{distance:.3f}", "fit")


def check_latents(subject: Subject) -> None:
    """A prior that shows latents z draws by them: f(z) is one image a z, of the law of samples.

    The sliced distance of 1,000 f(z) to as many samples is at most twice that of samples to others.
    """
    from .metrics.wasserstein import sliced_w2

    prior, n = subject.fitted, 1000
    if not isinstance(prior, HasLatents):
        return
    z = prior.latents(n, torch.Generator().manual_seed(3))
    x = prior.from_latents(z)
    if tuple(x.shape) != (n, *SHAPE):
        got = str(tuple(x.shape))
        raise subject.failed(f"an image of shape {SHAPE} for each of {n} z", got, "from_latents")
    if not _same(x, prior.from_latents(z)):
        raise subject.failed("the same images of the same z", "other images", "from_latents")
    one, other = draw(prior, n), draw(prior, n, seed=2)
    generator = torch.Generator().manual_seed(4)
    usual, found = sliced_w2(one, other, generator), sliced_w2(x, other, generator)
    if not found <= STRAY * usual:
        wanted = f"f(z) as near to samples as others are, a sliced distance of {usual:.3g}"
        raise subject.failed(wanted, f"{found:.3g}", "from_latents")


#: The checks for which one fit that is cut short is enough.
QUICK: dict[str, Callable[[Subject], None]] = {
    "parameters": check_parameters,
    "emits": check_emits,
    "unfitted": check_unfitted,
    "shape": check_shape,
    "dtype": check_dtype,
    "device": check_device,
    "finite": check_finite,
    "generator": check_generator,
    "distinct": check_distinct,
    "times": check_times,
    "global state": check_states_kept,
    "save and load": check_save_and_load,
}
#: All checks, by name.
CHECKS: dict[str, Callable[[Subject], None]] = QUICK | {
    "global state": check_global_state,  # it fits twice more
    "refit": check_refit,
    "process": check_process,
    "deadline": check_deadline,
    "frozen": check_frozen,
    "gaussian target": check_gaussian_target,
    "latents": check_latents,
}
