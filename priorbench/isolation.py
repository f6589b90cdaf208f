"""Global state that plugin code can change, and how it is restored.

Cells share one process. So a prior that sets torch's default dtype, for example, would change the
figures of every prior after it. :func:`isolated` surrounds each call of a plugin's code. It covers
the settings that Python, numpy and torch keep for the whole process. The frozen model and the data
are checked by :meth:`~priorbench.diffusion.frozen.FrozenDiffusion.refreeze` and
:meth:`~priorbench.task.Task.changed`.
"""

import contextlib
import gc
import hashlib
import locale
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn.modules import module as modules


@dataclass(frozen=True)
class Setting:
    """One piece of global state.

    Attributes:
        name: what messages call it.
        read: returns its value. Values are compared by ``==``, so this is a copy of anything that
            can be changed in place.
        restore: puts back a value that ``read`` returned.
    """

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], Any]


@contextlib.contextmanager
def no_forks() -> Iterator[None]:
    """End a child process that was forked inside, since it must not continue as the harness."""
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(1)


@contextlib.contextmanager
def isolated(changed: Callable[[str], None] = lambda name: None) -> Iterator[None]:
    """Restore each of :data:`SETTINGS` that has changed, and call ``changed`` with its name.

    A child process that was forked inside ends here.
    """
    before = [(setting, setting.read()) for setting in SETTINGS]
    try:
        with no_forks():
            yield
    finally:
        for setting, value in before:
            if setting.read() != value:
                setting.restore(value)
                changed(setting.name)


@contextlib.contextmanager
def standard() -> Iterator[None]:
    """The arithmetic that figures are computed in, whatever a script or a plugin has chosen.

    numpy and scikit-learn get as many threads as torch has: sums in another order have other last
    digits, and a cell would have others in another process.
    """
    with isolated(), threadpool_limits(torch.get_num_threads(), user_api="blas"):
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
        np.seterr(divide="warn", over="warn", under="ignore", invalid="warn")
        with torch.enable_grad(), torch.autocast("cpu", enabled=False):
            yield


_BACKENDS: Any = torch.backends
_CUDNN, _MKLDNN = _BACKENDS.cudnn, _BACKENDS.mkldnn
_PRECISE = [_BACKENDS, _CUDNN, _CUDNN.conv, _CUDNN.rnn, _BACKENDS.cuda.matmul]
_PRECISE += [_MKLDNN, _MKLDNN.matmul, _MKLDNN.conv, _MKLDNN.rnn]


def _precisions() -> list[str | None]:
    """The older setting of torch, then the newer ones.

    The older one is None if the newer ones have values that it cannot express: reading it raises.
    """
    matmul = None
    with contextlib.suppress(RuntimeError):
        matmul = torch.get_float32_matmul_precision()
    return [matmul, *(part.fp32_precision for part in _PRECISE)]


def _set_precisions(values: list[str | None]) -> None:
    if values[0] is not None:
        torch.set_float32_matmul_precision(values[0])
    for part, value in zip(_PRECISE, values[1:], strict=True):
        part.fp32_precision = value


def _flags() -> dict[str, Any]:
    return {
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "mkldnn": _MKLDNN.enabled,
        "cudnn": (_CUDNN.enabled, _CUDNN.benchmark, _CUDNN.deterministic),
    }


def _set_flags(flags: dict[str, Any]) -> None:
    torch.use_deterministic_algorithms(flags["deterministic"], warn_only=flags["warn only"])
    _MKLDNN.enabled = flags["mkldnn"]
    _CUDNN.enabled, _CUDNN.benchmark, _CUDNN.deterministic = flags["cudnn"]


def _default_device() -> torch.device | None:
    """None if none is set, since setting any device, even the CPU, slows every call."""
    device = torch.get_default_device()
    return None if device.type == "cpu" else device


def _autocast() -> dict[str, Any]:
    return {
        kind: (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        for kind in ("cpu", "cuda")
    }


def _set_autocast(states: dict[str, Any]) -> None:
    for kind, (enabled, dtype) in states.items():
        torch.set_autocast_enabled(kind, enabled)
        torch.set_autocast_dtype(kind, dtype)


def _flushes_denormals() -> bool:
    return not bool(torch.tensor(1e-310, dtype=torch.float64) * 1)


_HOOKS = [
    name
    for name, value in vars(modules).items()
    if name.startswith("_global_") and isinstance(value, dict)
]


def _module_hooks() -> dict[str, dict[Any, Any]]:
    return {name: dict(getattr(modules, name)) for name in _HOOKS}


def _set_module_hooks(hooks: dict[str, dict[Any, Any]]) -> None:
    for name, known in hooks.items():
        current = getattr(modules, name)
        current.clear()
        current.update(known)


def _random_states() -> Any:
    of_numpy: Any = np.random.get_state()  # noqa: NPY002 - this guards the global state
    kind, keys, *rest = of_numpy
    return (
        random.getstate(),
        torch.random.get_rng_state().numpy().tobytes(),
        kind,
        keys.tobytes(),
        *rest,
    )


def _set_random_states(state: Any) -> None:
    python, of_torch, kind, keys, *rest = state
    random.setstate(python)
    torch.random.set_rng_state(torch.frombuffer(bytearray(of_torch), dtype=torch.uint8))
    np.random.set_state((kind, np.frombuffer(keys, dtype=np.uint32), *rest))  # noqa: NPY002


def _set_warnings(state: Any) -> None:
    filters, warnings.showwarning, warnings.formatwarning = state
    warnings.filters[:] = filters  # type: ignore[index]  # typed as a sequence, but it is a list
    with warnings.catch_warnings():
        pass  # leaving this makes Python forget what it has decided by the other filters


_HANDLED = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP")
    if hasattr(signal, name)
]


def _signals() -> Any:
    if threading.current_thread() is not threading.main_thread():
        return None  # only the main thread may set handlers
    alarm = signal.getitimer(signal.ITIMER_REAL)[0] > 0 if hasattr(signal, "getitimer") else False
    return {number: signal.getsignal(number) for number in _HANDLED}, alarm


def _set_signals(state: Any) -> None:
    handlers, alarm = state
    for number, handler in handlers.items():
        if handler is not None:  # None stands for a handler that Python did not set
            signal.signal(number, handler)
    if not alarm and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def _directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _set_environment(known: dict[str, str]) -> None:
    for name in os.environ.keys() - known.keys():
        del os.environ[name]
    os.environ.update(known)


_STREAMS = ("stdin", "stdout", "stderr", "excepthook", "displayhook", "argv")


def _set_streams(state: tuple[Any, ...]) -> None:
    for name, value in zip(_STREAMS, state, strict=True):
        setattr(sys, name, value)


def _logging() -> Any:
    root = logging.root
    return root.manager.disable, root.level, list(root.handlers), list(root.filters)


def _set_logging(state: Any) -> None:
    root = logging.root
    root.manager.disable, level, root.handlers[:], root.filters[:] = state
    root.setLevel(level)


#: All that :func:`isolated` restores.
SETTINGS = [
    Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting("torch's default device", _default_device, torch.set_default_device),
    Setting("the number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting("gradient mode", torch.is_grad_enabled, torch.set_grad_enabled),
    Setting("anomaly detection", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    Setting("autocast", _autocast, _set_autocast),
    Setting("torch's backend flags", _flags, _set_flags),
    Setting("the precision of float32 arithmetic", _precisions, _set_precisions),
    Setting("flushing of denormal numbers", _flushes_denormals, torch.set_flush_denormal),
    Setting("hooks of all modules", _module_hooks, _set_module_hooks),
    Setting("the global random state", _random_states, _set_random_states),
    Setting("numpy's treatment of errors", np.geterr, lambda state: np.seterr(**state)),
    Setting("numpy's error callback", np.geterrcall, np.seterrcall),
    Setting(
        "warning filters",
        lambda: (list(warnings.filters), warnings.showwarning, warnings.formatwarning),
        _set_warnings,
    ),
    Setting("logging", _logging, _set_logging),
    Setting("the working directory", _directory, lambda path: os.chdir(path or "/")),
    Setting("the environment", lambda: dict(os.environ), _set_environment),
    Setting(
        "the standard streams", lambda: tuple(getattr(sys, name) for name in _STREAMS), _set_streams
    ),
    Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("the switch interval", sys.getswitchinterval, sys.setswitchinterval),
    Setting(
        "garbage collection", gc.isenabled, lambda enabled: gc.enable() if enabled else gc.disable()
    ),
    Setting(
        "the locale",
        lambda: locale.setlocale(locale.LC_ALL),
        lambda name: locale.setlocale(locale.LC_ALL, name),
    ),
    Setting("the umask", _umask, os.umask),
    Setting("signal handlers", _signals, _set_signals),
]
if hasattr(os, "sched_getaffinity"):
    SETTINGS.append(
        Setting(
            "processor affinity",
            lambda: os.sched_getaffinity(0),
            lambda cores: os.sched_setaffinity(0, cores),
        )
    )


def weights_digest(module: nn.Module, before: bytes = b"") -> str:
    """sha256 over the names and bytes of the weights, whatever file they came from.

    Arguments:
        before: bytes that are hashed first.
    """
    sha = hashlib.sha256(before)
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


class AsMade:
    """A module and its parts as they are now, except for their weights.

    That is the mode, the gradients of parameters, hooks, and a ``forward`` that replaces that of
    the class.
    """

    def __init__(self, module: nn.Module) -> None:
        self.parts = [(part, part.training, _surroundings(part)) for part in module.modules()]
        self.gradients = [(parameter, parameter.requires_grad) for parameter in module.parameters()]

    def restore(self) -> list[str]:
        """Put everything back.

        Returns:
            What had changed, in words.
        """
        found = []
        for part, training, surroundings in self.parts:
            if part.training != training:
                found.append("training mode")
                part.training = training
            if _surroundings(part) != surroundings:
                found.append("hooks")
                _surround(part, surroundings)
        for parameter, wanted in self.gradients:
            if parameter.requires_grad != wanted:
                found.append("gradients")
                parameter.requires_grad_(wanted)
        return list(dict.fromkeys(found))


def _surroundings(module: nn.Module) -> dict[str, Any]:
    """The hooks and the ``forward`` that are called besides the code of the class of a module."""
    return {name: dict(vars(module)[name]) for name in _hooks(module)} | {
        "forward": vars(module).get("forward")
    }


def _hooks(module: nn.Module) -> list[str]:
    """The attributes in which torch keeps the hooks of a module."""
    return [
        name for name, value in vars(module).items() if "_hooks" in name and isinstance(value, dict)
    ]


def _surround(module: nn.Module, known: dict[str, Any]) -> None:
    """Put back what ``_surroundings`` gave."""
    for name in _hooks(module):
        vars(module)[name].clear()
        vars(module)[name].update(known.get(name, {}))
    vars(module).pop("forward", None)
    if known["forward"] is not None:
        vars(module)["forward"] = known["forward"]
