"""The winner of a run, ready to sample: chosen by the run's own table, as its verdict chooses."""

from math import ceil, floor, log10
from pathlib import Path

import pandas as pd

from .diffusion.frozen import FrozenDiffusion
from .errors import UserError, unknown
from .plan.choice import label_of
from .prior import TruncPrior, load_prior, registered
from .sampler import TruncatedSampler
from .store.provenance import read_provenance
from .tables.columns import PLACE, Row, reported, succeeded
from .tables.compare import read_run
from .tables.flags import cheats, unfair
from .tables.fold import summary
from .tables.selection import BUDGET, LABELLED, Chosen, Place
from .tables.words import plus_minus, where


class Winner(TruncatedSampler):
    """A sampler that knows the row of the table that it was picked by.

    Attributes:
        row: the setting's row of summary.csv, of the test split, and ``n_reference`` of
            comparison.csv. ``fit`` is the folder of the prior.
        picked: what was picked, and by what, in a sentence.
    """

    row: Row
    picked: str

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n{self.picked}"


def load_best(
    run: str | Path,
    prior: str | None = None,
    nfe: int | None = None,
    max_seconds: float | None = None,
    device: str = "auto",
    precision: str | None = None,
    compile: bool | None = None,
) -> Winner:
    """The sampler of a run's best setting: that of the least FID on the choosing split.

    A setting was fitted once for each seed; the fit of the first is taken. Batches are as large as
    in the run, so its seed draws the very samples that the run measured.

    Arguments:
        run: the folder of the run.
        prior: pick among the settings of this prior, such as ``ot`` or ``ot[width=64]``, or
            ``noise`` for solvers from pure noise; by default among those of all contenders without
            an unfair flag.
        nfe: pick among the settings with as many evaluations of the network for an image.
        max_seconds: pick among those that took no more seconds for an image in the run.
        device: where to run; ``auto`` takes the accelerator if there is one.
        precision, compile: of the frozen model; by default those of the run.

    Returns:
        A sampler; ``picked`` says what it is, and ``row`` has its figures.

    Raises:
        UserError: if the run cannot be read, has no such setting or chose none, or if its backbone
            or the fitted prior is gone or is another now.
    """
    folder = Path(run)
    if not (folder / "run.json").is_file():
        raise UserError(f"{folder} is not the folder of a run, such as results/digits")
    config = read_provenance(folder)["config"]
    table = read_run(folder)
    known = Chosen(table)
    place = _pick(_wanted(table, known, prior), known, nfe, max_seconds)
    rows = reported(succeeded(table))
    first = rows[(rows[PLACE] == list(place)).all(axis=1)].sort_values("seed").iloc[0]
    sampler = Winner(
        _fitted(folder / "priors" / str(first.fit), device),
        _backbone(
            first,
            device,
            config["precision"] if precision is None else precision,
            config["compile"] if compile is None else compile,
        ),
        int(first.t_trunc),
        first.solver,
        None if first.steps == first.t_trunc else int(first.steps),
        config["batch_size"],
    )
    means = reported(summary(table)).fillna({"params": "", "fit_budget": ""}).set_index(PLACE)
    sampler.row = dict(zip(PLACE, place, strict=True)) | means.loc[place].to_dict()
    sampler.row["n_reference"] = int(first.n_reference)
    sampler.picked = _said(sampler.row, known, place, means)
    return sampler


def _fitted(folder: Path, device: str) -> TruncPrior:
    """The prior that the run measured.

    Raises:
        UserError: if it is gone, or would draw other samples than those that were measured.
    """
    if not folder.exists():
        raise UserError(f"{folder} is gone, and with it the fitted prior; 'run --fresh' fits it")
    prior = load_prior(folder, device)
    name, versions = prior.about["prior"], prior.about["versions"]
    if not prior.about.get("reusable", True):
        raise UserError(
            f"prior {name!r} draws other samples than the run measured: it remembers something "
            "outside of its state_dict, which is lost"
        )
    plugin = registered(name)
    then = versions.get(plugin.distribution, plugin.version)
    if then != plugin.version:
        raise UserError(
            f"prior {name!r} was measured with {plugin.distribution} {then}, which is "
            f"{plugin.version} now; run it again"
        )
    return prior


def _wanted(table: pd.DataFrame, known: Chosen, prior: str | None) -> list[Place]:
    """The settings of ``prior``, or of all fair contenders."""
    places = [p for p in known.places if p not in known.failed]
    if prior is None:
        caught = {*cheats(table)}
        flags = reported(table).groupby(PLACE).flag.agg("; ".join).to_dict()
        mine = [p for p in places if p in known.ranked and (*p[LABELLED], p[BUDGET]) not in caught]
        if found := [p for p in mine if not unfair(flags[p])]:
            return found
        raise UserError("every contender of the run failed or is flagged; name a prior")
    runnable = [p for p in places if p[0] != "noise" or p in known.rivals]
    labels = {p: label_of(*p[LABELLED]) for p in runnable}
    if found := [p for p in runnable if prior in (p[0], labels[p])]:
        return found
    raise unknown("prior", prior, {*labels.values()}, of="the run")


def _pick(places: list[Place], known: Chosen, nfe: int | None, max_seconds: float | None) -> Place:
    """The setting of the least FID on the choosing split, within ``nfe`` and ``max_seconds``."""
    here = [p for p in places if nfe in (None, known.nfe(p))]
    if not here:
        counts = ", ".join(map(str, sorted({known.nfe(p) for p in places})))
        raise UserError(f"nfe must be one that these settings have, {counts}, got {nfe}")
    quick = [p for p in here if max_seconds is None or known.seconds[p] <= max_seconds]
    if not quick:
        least = min(known.seconds[p] for p in here)
        digits = 10 ** (2 - floor(log10(least)))  # three, and never rounded down
        raise UserError(
            f"max_seconds must be at least {ceil(least * digits) / digits:g}, what the quickest of "
            f"these settings took for an image, got {max_seconds:g}"
        )
    place = known.best(quick)
    if place is None:
        raise UserError(
            "the run had no choosing split (n_validation is 0), so nothing was chosen; narrow down "
            f"to one, by prior and nfe, of {', '.join(_named(p) for p in quick[:5])}"
        )
    return place


def _named(place: Place) -> str:
    _, _, t_trunc, _, solver, steps = place
    return f"{label_of(*place[LABELLED])} at t_trunc {t_trunc}, {steps} steps of {solver}"


def _backbone(row: pd.Series, device: str, precision: str, compile: bool) -> FrozenDiffusion:
    """The frozen model of a row of comparison.csv.

    Raises:
        UserError: if it is not there, or is another now.
    """
    diffusion = FrozenDiffusion.from_pretrained(row.backbone, device, precision, compile)
    if not diffusion.digest().startswith(row.backbone_sha256):
        raise UserError(
            f"backbone {row.backbone!r} is another model now than in the run (sha256 "
            f"{diffusion.digest()[:8]}, not {row.backbone_sha256})"
        )
    return diffusion


def _said(row: Row, known: Chosen, place: Place, means: pd.DataFrame) -> str:
    """What was picked, by what, and what pure noise scores at as many evaluations."""
    said = f"Picked {where(row)}: FID {plus_minus(row)}"
    rival = known.rival(place)
    if rival and rival != place:
        theirs = dict(zip(PLACE, rival, strict=True)) | means.loc[rival].to_dict()
        said += f", against {plus_minus(theirs)} of the best solver from pure noise at equal NFE"
    flag = f" It is flagged: {row['flag']}." if row["flag"] else ""
    why = "It has the least FID of these settings on the choosing split."
    if place not in known.score:
        why = "There was no choosing split; it is the only one of these settings."
    return f"{said}. {why}{flag}"
