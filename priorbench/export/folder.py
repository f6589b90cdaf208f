"""An exported folder: a pipeline of ``diffusers`` with a prior in it, and all of its code.

    model_index.json    what diffusers loads; pipeline_<hash>.py has the class of the pipeline
    prior/              <class>_<hash>.py, config.json and weights in safetensors
    unet/, scheduler/   the frozen model
    priorbench.json     what :meth:`priorbench.TruncatedSampler.from_pretrained` reads
    README.md           the model card, with samples.png

It loads where there is nothing but torch and diffusers, which take code from a folder only with
``trust_remote_code=True``, and where priorbench is, without that.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import diffusers

from ..diffusion.process import seeded
from ..errors import UserError
from ..files import check_new, whole_folder, write_atomically
from ..isolation import weights_digest
from ..pictures import overview
from ..sampler import TruncatedSampler, model_digest
from ..version import __version__
from .bundle import CannotBundle, bundle
from .card import card
from .pipeline import TruncatedPipeline
from .prior import Exported, exported

SHOWN = 40  # samples in the grid of the card


def save_pipeline(sampler: TruncatedSampler, folder: str | Path, prior: str = "") -> Path:
    """Write a folder that ``diffusers`` alone can load and sample from.

        DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)(batch_size=16).images

    With the same seed on the same device it draws what ``sampler`` draws.

    Arguments:
        folder: a new one, or an empty one.
        prior: the registered name of the prior; by default that of a prior of
            :func:`~priorbench.load_prior` or :func:`~priorbench.load_best`.

    Raises:
        UserError: if the folder is not empty or cannot be written, or the prior needs more than its
            own code, torch and numpy to sample.
    """
    folder = Path(folder)
    name = prior or str(sampler.prior.about.get("prior", ""))
    if not name:
        raise UserError("the registered name of the prior must be given, as prior=")
    check_new(folder)
    try:
        prior_made = exported(sampler.prior, name, sampler.diffusion.shape)
    except CannotBundle as error:
        raise UserError(f"prior {name!r} cannot be exported: {error}") from error
    with whole_folder(folder) as made:
        _write(made, sampler, name, prior_made)
        _readable(made)
    return folder


def _write(folder: Path, sampler: TruncatedSampler, name: str, prior: Exported) -> None:
    diffusion = sampler.diffusion
    prior.made.save_pretrained(folder / "prior")
    write_atomically(folder / "prior" / f"{prior.model}.py", prior.code.encode())
    _network(diffusion.network).save_pretrained(folder / "unet")
    diffusion.scheduler.save_pretrained(folder / "scheduler")
    _write_index(folder, sampler, prior.model)
    about = {
        "prior": name, "params": sampler.prior.params(), "emits": sampler.prior.emits,
        "shape": list(diffusion.shape), "t_trunc": sampler.t_trunc, "solver": sampler.solver,
        "steps": sampler.steps, "times": sampler.times, "batch_size": sampler.batch_size,
        "precision": diffusion.precision, "priorbench": __version__,
        "weights": weights_digest(sampler.prior), "model": model_digest(diffusion),
    }  # fmt: skip
    _write_json(folder / "priorbench.json", about)
    overview(sampler(SHOWN, output="uint8")).save(folder / "samples.png")
    write_atomically(folder / "README.md", str(card(sampler, name)).encode())


def _write_index(folder: Path, sampler: TruncatedSampler, model: str) -> None:
    """Write the pipeline's code, and ``model_index.json``, which says what its parts are.

    ``save_pretrained`` of the pipeline would leave out the code, and so would not load again.
    """
    code = bundle([TruncatedPipeline], ["__call__"], {"priorbench"})
    module = f"pipeline_{hashlib.sha256(code.encode()).hexdigest()[:8]}"
    write_atomically(folder / f"{module}.py", code.encode())
    diffusion = sampler.diffusion
    index = {
        "_class_name": [module, TruncatedPipeline.__name__],
        "_diffusers_version": diffusers.__version__,
        "prior": [model, model],
        "unet": ["diffusers", type(diffusion.network).__name__],
        "scheduler": ["diffusers", type(diffusion.scheduler).__name__],
        # diffusers takes every list for a part of the pipeline
        "times": ",".join(map(str, sampler.times)),
        "t_trunc": sampler.t_trunc,
        "solver": sampler.solver,
        "chunk": sampler.batch_size,
        "precision": diffusion.precision,
    }
    _write_json(folder / "model_index.json", index)


def _readable(folder: Path) -> None:
    """Give the files of weights, which others write for their owner alone, the mode of the rest."""
    mode = (folder / "README.md").stat().st_mode
    for path in folder.rglob("*.safetensors"):
        path.chmod(mode)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=2).encode() + b"\n")


def _network(network: Any) -> Any:
    """A copy of a network on the CPU, in the layout that safetensors takes."""
    with seeded(0):  # layers initialise by the global generator
        copy = type(network).from_config(network.config)
    weights = network.state_dict().items()
    copy.load_state_dict({name: x.detach().cpu().contiguous() for name, x in weights})
    return copy
