"""The model card of an exported folder."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..prior import TruncPrior
from ..sampler import TruncatedSampler
from ..version import __version__


def card(sampler: TruncatedSampler, prior: str) -> ModelCard:
    """README.md, with the metadata that the hub reads.

    Where the sampler was picked from a run, the card has its row of the table.
    """
    row: dict[str, Any] = getattr(sampler, "row", {})
    data = ModelCardData(
        library_name="diffusers",
        pipeline_tag="unconditional-image-generation",
        tags=["priorbench"],
        license=licence(sampler.diffusion.source),
        **_results(prior, row),
    )
    sections = [
        f"# {prior}, then {len(sampler.times)} steps of {sampler.solver}",
        _what(sampler, prior),
        "![Samples](samples.png)",
        _LOAD,
        _measured(sampler, row),
        _origin(sampler, sampler.prior, row),
    ]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(filter(None, sections)) + "\n")


def licence(source: str | Path) -> str | None:
    """The licence that the card of the frozen model names, if it can be read here."""
    path = Path(source) / "README.md"
    found = ModelCard.load(path).data.license if source and path.is_file() else None
    return str(found) if found else None


def _results(prior: str, row: dict[str, Any]) -> dict[str, Any]:
    """FID as the hub's tables take it."""
    if not row:
        return {}
    result = EvalResult(
        task_type="unconditional-image-generation",
        dataset_type=row["dataset"],
        dataset_name=row["dataset"],
        dataset_split="test",
        metric_type="fid",
        metric_name=f"FID ({row['extractor']})",
        metric_value=round(float(row["fid"]), 4),
    )
    return {"model_name": prior, "eval_results": [result]}


def _what(sampler: TruncatedSampler, prior: str) -> str:
    T, steps = sampler.diffusion.T, len(sampler.times)
    shape = "x".join(map(str, sampler.diffusion.shape))
    emits = "" if sampler.prior.emits == "x_t" else " (as a clean guess, which is diffused)"
    return (
        f"Images of {shape} by a truncated diffusion: the chain of T = {T} noising steps is "
        f"entered at t_trunc = {sampler.t_trunc}.\n"
        f"The prior `{prior}` supplies x_{sampler.t_trunc}{emits}, and {steps} "
        f"{'step' if steps == 1 else 'steps'} of `{sampler.solver}` take it to an image."
    )


_LOAD = """## How to use it

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("FOLDER", trust_remote_code=True)
images = pipeline(batch_size=16, seed=0).images
```

It takes torch and diffusers, and no more.
`trust_remote_code=True` lets diffusers run the two Python files of this folder; read them first.
With priorbench installed, `priorbench.TruncatedSampler.from_pretrained("FOLDER")` loads it without.

Another `seed` draws other images; the same one draws the same images again where as many are made
at once (`batch_size`, up to `chunk` of `model_index.json`), on the same device.
`output_type="pt"` gives a tensor in [-1, 1], `"np"` an array in [0, 1].
The weights are to stay float32; `precision` in `model_index.json` is that of the network."""


def _measured(sampler: TruncatedSampler, row: dict[str, Any]) -> str:
    if not row:
        return ""
    half = (row["fid_high"] - row["fid_low"]) / 2
    known = half == half
    seconds = row["prior_seconds"] + row["denoise_seconds"]
    seeds = int(row["seeds"])
    facts = {
        "FID": f"{row['fid']:.3f}" + (f" ± {half:.3f} (95 %)" if known else " (no interval)"),
        "extractor": row["extractor"],
        "samples": f"{int(row['n_samples']):,} against {int(row['n_reference']):,} test images of "
        f"{row['dataset']}, {seeds} {'seed' if seeds == 1 else 'seeds'}",
        "floor: FID of training images": f"{row['fid_floor']:.3f}",
        "evaluations of the network": f"{int(row['nfe'])} for an image",
        "seconds": f"{seconds:.2g} for an image, on {row['device']} ({row['threads']} CPU "
        f"{'thread' if row['threads'] == 1 else 'threads'})",
    }
    if row.get("flag"):
        facts["flags"] = row["flag"]
    lines = [f"| {name} | {value} |" for name, value in facts.items()]
    said = getattr(sampler, "picked", "")
    return "\n".join(["## What was measured", "", "| | |", "|---|---|", *lines, "", said])


def _origin(sampler: TruncatedSampler, prior: TruncPrior, row: dict[str, Any]) -> str:
    about, params = prior.about, ", ".join(f"{k}={v}" for k, v in prior.params().items())
    versions = {
        Path(name).name: version  # a plugin in a file goes by its path, which is nobody's business
        for name, version in (about.get("versions", {}) | {"priorbench": __version__}).items()
        if name != "measurement"
    }
    known = "fit_seconds" in about
    fit = f"{about['fit_seconds']:.3g} s, seed {about['seed']}" if known else ""
    said = {
        "data": f"{row['dataset']}, sha256 {row['dataset_sha256']}" if row else "",
        "backbone": f"{about.get('backbone', sampler.diffusion.source)}, sha256 "
        f"{sampler.diffusion.digest()[:16]}, licence "
        f"{licence(sampler.diffusion.source) or 'not known: ask its authors'}",
        "prior": f"{params or 'no hyperparameters'}",
        "fit": fit,
        "versions": ", ".join(f"{name} {version}" for name, version in sorted(versions.items())),
    }
    lines = [f"| {name} | {value} |" for name, value in said.items() if value]
    return "\n".join(["## How it was made", "", "| | |", "|---|---|", *lines])
