"""Priors that change what every cell shares, each one piece of it, at the end of ``fit`` and of
each ``sample``.

Apart from that each is the prior ``gaussian``, so its own row has to equal that of ``gaussian`` as
well, wherever what it changed can be put back (:data:`HARMLESS`); where it cannot, its rows fail
(:data:`FATAL`).
"""

import decimal
import functools
import gc
import locale
import logging
import os
import random
import signal
import sys
import warnings

import numpy as np
import torch
from priorbench_gaussian.prior import GaussianPrior
from torch.nn.modules.module import register_module_forward_hook

from priorbench import Dataset, hookimpl
from priorbench.task import Task


class Poison(GaussianPrior):
    def __init__(self):
        super().__init__()

    def fit(self, marginal, run):
        super().fit.__wrapped__(
            self, marginal, run
        )  # each layer that draws a seed of its own would change the samples
        self.keep = [marginal]  # in a list, so that it is no attribute of the module
        self.spread(marginal)

    def sample(self, n, generator):
        x = super().sample.__wrapped__(self, n, generator)
        if hasattr(self, "keep"):
            self.spread(self.keep[0])
        return x

    def spread(self, marginal):
        raise NotImplementedError


HARMLESS, FATAL = {}, {}


def poison(into):
    """Make a prior of a function of the marginal, named like the function."""

    def make(spread):
        name = spread.__name__.replace("_", "-")
        into[name] = type(
            name,
            (Poison,),
            {"spread": lambda self, marginal: spread(marginal), "__module__": __name__},
        )
        return spread

    return make


# --- the process ----------------------------------------------------------------------------------


@poison(HARMLESS)
def default_dtype(marginal):
    torch.set_default_dtype(torch.float64)


@poison(HARMLESS)
def default_device(marginal):
    torch.set_default_device("meta")


@poison(HARMLESS)
def threads(marginal):
    torch.set_num_threads(torch.get_num_threads() + 1)


@poison(HARMLESS)
def no_gradients(marginal):
    torch.set_grad_enabled(False)


@poison(HARMLESS)
def anomalies(marginal):
    torch.autograd.set_detect_anomaly(True)


@poison(HARMLESS)
def autocast(marginal):
    torch.set_autocast_enabled("cpu", True)
    torch.set_autocast_dtype("cpu", torch.bfloat16)


@poison(HARMLESS)
def backend_flags(marginal):
    torch.backends.mkldnn.enabled = not torch.backends.mkldnn.enabled
    torch.use_deterministic_algorithms(True, warn_only=True)


@poison(HARMLESS)
def precision(marginal):
    torch.set_float32_matmul_precision("medium")


@poison(HARMLESS)
def precision_by_backend(marginal):
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    torch.backends.mkldnn.conv.fp32_precision = "bf16"


@poison(HARMLESS)
def denormals(marginal):
    torch.set_flush_denormal(True)


@poison(HARMLESS)
def hook_of_all_modules(marginal):
    register_module_forward_hook(
        lambda module, args, output: output + 1 if torch.is_tensor(output) else None
    )


@poison(HARMLESS)
def random_states(marginal):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)


@poison(HARMLESS)
def numpy_raises(marginal):
    np.seterr(all="raise")


@poison(HARMLESS)
def warnings_are_errors(marginal):
    warnings.simplefilter("error")


@poison(HARMLESS)
def warnings_call_back(marginal):
    def refuse(*arguments, **options):
        raise RuntimeError("a warning")

    warnings.simplefilter("always")
    warnings.showwarning = refuse


@poison(HARMLESS)
def log_raises(marginal):
    class Refuse(logging.Handler):
        def emit(self, record):
            raise RuntimeError(record)

    logging.root.addHandler(Refuse())
    logging.root.setLevel(0)


@poison(HARMLESS)
def working_directory(marginal):
    os.chdir("/")


@poison(HARMLESS)
def environment(marginal):
    os.environ["HOME"] = "/nowhere"
    os.environ.pop("PATH", None)


@poison(HARMLESS)
def standard_streams(marginal):
    sys.stdout = sys.stderr = None


@poison(HARMLESS)
def recursion_limit(marginal):
    sys.setrecursionlimit(10 * sys.getrecursionlimit())


@poison(HARMLESS)
def no_garbage_collection(marginal):
    gc.disable()


@poison(HARMLESS)
def umask(marginal):
    os.umask(0o777)


@poison(HARMLESS)
def other_locale(marginal):
    locale.setlocale(locale.LC_ALL, "C")


@poison(HARMLESS)
def signals(marginal):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.3)


@poison(HARMLESS)
def affinity(marginal):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


# --- the frozen model -----------------------------------------------------------------------------


@poison(HARMLESS)
def training_mode(marginal):
    marginal.diffusion.network.train()


@poison(HARMLESS)
def hook_on_the_model(marginal):
    marginal.diffusion.network.conv_out.register_forward_hook(
        lambda module, args, output: 0.9 * output
    )


@poison(HARMLESS)
def gradients_of_the_model(marginal):
    marginal.diffusion.network.requires_grad_(True)


@poison(HARMLESS)
def another_forward(marginal):
    marginal.diffusion.network.conv_in.forward = lambda x: torch.zeros(len(x), 32, *x.shape[2:])


@poison(HARMLESS)
def another_denoise(marginal):
    marginal.diffusion.denoise = lambda x, *arguments: torch.zeros_like(x)


@poison(FATAL)
def weights(marginal):
    next(marginal.diffusion.network.parameters()).mul_(0.9)


@poison(FATAL)
def schedule(marginal):
    marginal.diffusion.process.alpha_bar.mul_(0.99)


@poison(FATAL)
def clipping(marginal):
    marginal.diffusion.config["clip_sample_range"] = 0.5


@poison(FATAL)
def dropout(marginal):
    for module in marginal.diffusion.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.9


@poison(FATAL)
def activations(marginal):
    marginal.diffusion.network.conv_act = torch.nn.Identity()


# --- data, features, extractor --------------------------------------------------------------------


@functools.lru_cache(maxsize=4)
def tasks(marginal):
    """What cells share, found among all objects of the process: nothing keeps a plugin from
    looking. It looks once for each marginal.
    """
    return [x for x in gc.get_objects() if type(x) is Task]


@poison(HARMLESS)
def images_of_its_marginal(marginal):
    marginal.images.mul_(0.5)


@poison(FATAL)
def images(marginal):
    for data in gc.get_objects():
        if type(data) is Dataset:
            data.test.bitwise_not_()


@poison(FATAL)
def features(marginal):
    for task in tasks(marginal):
        task.features("test").mul_(1.5)


@poison(FATAL)
def extractor(marginal):
    for task in tasks(marginal):
        next(task.extractor.parameters()).data.mul_(0.9)


@poison(HARMLESS)
def mode_of_the_extractor(marginal):
    for task in tasks(marginal):
        task.extractor.train()


# --- nothing that a figure depends on; that it may stay is no harm --------------------------------


@poison(HARMLESS)
def decimals(marginal):
    decimal.getcontext().prec = 3


PROCESS = os.getpid()


@poison(HARMLESS)
def forks(marginal):
    if os.getpid() != PROCESS or os.fork() == 0:  # the children themselves fork no further
        raise RuntimeError("a child that goes on as if it were the run")
    os.wait()


@hookimpl
def register_priors(register):
    for name, cls in (HARMLESS | FATAL).items():
        globals()[cls.__name__] = cls
        register(name, f"{__name__}:{cls.__name__}")
