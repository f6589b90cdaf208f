"""Sorting many rows: the whole cost of a sliced Wasserstein distance once the projections are
there.

On a CPU numpy sorts float32 along the last axis by vector instructions, several times faster than
torch, but only values, not with their order. So a value and its position go into one 64-bit
integer: the float's bits above, made to sort as integers do, the position below. Rows are shared
among threads (numpy releases the lock) in blocks that fit a cache.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

BLOCK = 1 << 16  # numbers that are sorted before the next are touched
WORTH = 1 << 15  # numbers from which on threads are worth starting


def sort_rows(x: Tensor, order: bool) -> tuple[Tensor, Tensor | None]:
    """Each row of (K, N) sorted, without gradient, and with ``order`` where each value was: (K, N)
    int64.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or x.shape[1] >= 2**31:
        values, found = x.detach().sort(dim=1)
        return values, found if order else None
    rows = np.ascontiguousarray(x.detach().numpy())
    sorted_rows = np.empty_like(rows)
    places = np.empty(rows.shape, np.int64) if order else None
    per_block = max(1, BLOCK // max(1, rows.shape[1]))
    starts = range(0, len(rows), per_block)

    def block(start: int) -> None:
        here = slice(start, start + per_block)
        if places is None:
            sorted_rows[here] = rows[here]
            sorted_rows[here].sort(axis=1)
        else:
            _with_order(rows[here], sorted_rows[here], places[here])

    if rows.size < WORTH or torch.get_num_threads() == 1:
        for start in starts:
            block(start)
    else:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(block, starts))
    return torch.from_numpy(sorted_rows), None if places is None else torch.from_numpy(places)


def _with_order(rows: np.ndarray, values: np.ndarray, order: np.ndarray) -> None:
    """Sort ``rows`` (K, N) float32 into ``values``, and where each was into ``order``; all are
    blocks of rows.
    """
    bits = rows.view(np.int32)
    key = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(
        np.int64
    )  # negative floats sort backwards as integers
    key <<= 32
    key |= np.arange(rows.shape[1])
    key.sort(axis=1)
    np.bitwise_and(key, 0xFFFFFFFF, out=order)
    key >>= 32
    bits = key.astype(np.int32)
    np.bitwise_xor(bits, (bits >> 31) & 0x7FFFFFFF, out=values.view(np.int32))
