"""Shards: the parts of a plan that several jobs compute into one folder, for any scheduler."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import UserError
from ..plugin_manager import load_plugins
from ..prior import make_prior
from .spec import CellSpec


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts, numbered from 1."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard that ``2/8`` names.

        Raises:
            UserError: if it names none.
        """
        found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
        number, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= count:
            raise UserError(f"--shard takes K/N with K from 1 to N, such as 2/8, got {text!r}")
        return cls(number, count)

    @property
    def name(self) -> str:
        """``2/8``, or nothing for the only one."""
        return f"{self.number}/{self.count}" if self.count > 1 else ""

    def of(self, cells: Sequence[CellSpec]) -> list[CellSpec]:
        """The cells of this shard, in their order.

        All shards of a plan have about equally many. Which one a cell belongs to depends neither on
        what is done already nor on versions, so that jobs of one command agree.
        """
        owners = [_unit(spec) for spec in cells]
        sizes = Counter(owners)
        # In the order of a hash, or one prior, perhaps the dearest, would often be all of a shard.
        units = sorted(sizes, key=lambda unit: hashlib.sha256(unit.encode()).digest())
        load = [0] * self.count
        mine = set()
        for unit in units:
            least = load.index(min(load))
            load[least] += sizes[unit]
            if least == self.number - 1:
                mine.add(unit)
        return [spec for spec, unit in zip(cells, owners, strict=True) if unit in mine]


WHOLE = Shard()  # all of a plan


def _unit(spec: CellSpec) -> str:
    """What must not be divided: a cell, or all those that may share a fit."""
    cls = load_plugins().find("prior", spec.prior).load()
    # A clean guess that t_trunc has no part in is fitted once.
    clean = make_prior(cls, spec.label, spec.params).emits == "x_0"
    t_trunc = "" if clean else spec.t_trunc
    return f"{spec.label} {spec.seed} {spec.fit_budget} {t_trunc}"
