"""Fitted priors on disk, each named by the hash of what determines its fit."""

import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ..diffusion.process import generator_for
from ..errors import one_line
from ..files import remove, set_aside
from ..plan.spec import CellSpec
from ..plugin_manager import load_plugins
from ..prior import TruncPrior, make_prior, rebuild_prior
from ..prior_files import (
    ABOUT,
    read_about,
    share_weights,
    weights_sha256,
    write_about,
    write_weights,
)

COMPARED = 16  # how many draws show that a prior comes back from its weights


@dataclass
class Kept:
    """What was found of a fit.

    Attributes:
        prior: fitted, or None if it has to be fitted.
        seconds, steps, curve, log: of its fit.
        note: says what was set aside, if anything was.
    """

    prior: TruncPrior | None = None
    seconds: float = 0.0
    steps: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class Fits:
    """The folder ``priors`` of a run, with a folder ``<prior>-t<t_trunc>-s<seed>-<hash>`` each.

    :func:`priorbench.load_prior` reads them too. ``prior.json`` is written last: where it is,
    everything is.
    """

    folder: Path

    def path(self, spec: CellSpec) -> Path:
        """The folder of the fit of ``spec``."""
        return self.folder / self._named(spec, str(spec.t_trunc), spec.fit[:8])

    @staticmethod
    def _named(spec: CellSpec, t_trunc: str, fit: str) -> str:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", spec.prior).strip(".-") or "prior"
        return f"{name}-t{t_trunc}-s{spec.seed}-{fit}"

    def forget(self, spec: CellSpec) -> None:
        """Have the prior fitted again."""
        remove(self.path(spec) / ABOUT)
        while other := self._at_any_t_trunc(spec):
            remove(self.path(other) / ABOUT)

    def holds(self, spec: CellSpec) -> bool:
        """Whether there is a fit for ``spec``; that it is undamaged, only loading it tells."""
        return (self.path(spec) / ABOUT).exists() or self._at_any_t_trunc(spec) is not None

    def load(self, spec: CellSpec, shape: tuple[int, int, int], device: torch.device) -> Kept:
        """The prior of ``spec`` as it was fitted, if it is there; a damaged fit is set aside.

        The same prior may have been fitted at another t_trunc, and t_trunc have had no part in it.
        """
        folder = self.path(spec)
        if not (folder / ABOUT).exists():
            other = self._at_any_t_trunc(spec)
            if other is None:
                return Kept()
            kept = self.load(other, shape, device)
            if kept.prior is not None:
                self._share(other, spec)
            return kept
        try:
            about = read_about(folder)
            if about["fit"] != spec.fit:
                raise ValueError("it is the fit of something else")
            if not about["reusable"]:
                return Kept()
            if about["sha256"] != weights_sha256(folder):
                raise ValueError("its weights are not those that were written")
            return Kept(
                _rebuilt(spec, folder, shape, device),
                seconds=float(about["fit_seconds"]),
                steps=int(about["fit_steps"]),
                curve=[dict(point) for point in about["curve"]],
                log=[str(line) for line in about["log"]],
            )
        except Exception as error:  # whatever is wrong with it, another fit mends it
            reason = f"holds no fit that can be used ({one_line(error, named=True)})"
            return Kept(note=set_aside(folder, self.folder.parent, reason))

    def _at_any_t_trunc(self, spec: CellSpec) -> CellSpec | None:
        """``spec`` at the t_trunc of a fit that is the same at any, if there is one."""
        for folder in sorted(self.folder.glob(self._named(spec, "*", "*"))):
            with suppress(OSError, ValueError, KeyError):  # it may be half a fit, or a damaged one
                about = read_about(folder)
                other = replace(spec, t_trunc=about["t_trunc"])
                if about.get("at_any_t_trunc") and about["fit"] == other.fit:
                    return other
        return None

    def _share(self, fitted: CellSpec, spec: CellSpec) -> None:
        """Give the fit of ``fitted`` a folder of ``spec`` too; both have the same file of weights.

        Raises:
            CannotWrite: if that cannot be written.
        """
        share_weights(self.path(fitted), self.path(spec))
        about = read_about(self.path(fitted)) | {"t_trunc": spec.t_trunc, "fit": spec.fit}
        write_about(self.path(spec), about)

    def keep(
        self, spec: CellSpec, prior: TruncPrior, shape: tuple[int, int, int], **about: Any
    ) -> bool:
        """Write a fitted prior, and what else is known ``about`` its fit.

        Returns:
            Whether it comes back from its weights. One that remembers anything outside of them does
            not: it is kept for the user, but fitted again when it is needed.
        """
        folder = self.path(spec)
        write_weights(folder, prior.state_dict())
        reusable = _comes_back(spec, prior, folder, shape)
        known = {
            "prior": spec.prior, "params": prior.params(), "emits": prior.emits,
            "shape": list(shape), "t_trunc": spec.t_trunc, "seed": spec.seed,
            "backbone": spec.backbone, "versions": spec.versions, "fit": spec.fit,
            "sha256": weights_sha256(folder), "reusable": reusable,
        }  # fmt: skip
        write_about(folder, known | about)
        return reusable


def _rebuilt(
    spec: CellSpec, folder: Path, shape: tuple[int, int, int], device: torch.device
) -> TruncPrior:
    cls = load_plugins().find("prior", spec.prior).load()
    return rebuild_prior(make_prior(cls, spec.label, spec.params), folder, shape).to(device)


def _comes_back(
    spec: CellSpec, prior: TruncPrior, folder: Path, shape: tuple[int, int, int]
) -> bool:
    try:
        pair = (prior, _rebuilt(spec, folder, shape, prior.device))
        one, other = (p.sample(COMPARED, generator_for(spec.seed, "kept")) for p in pair)
        return torch.equal(one, other)
    except Exception:  # a prior's own code, that need not be ready for this
        return False
