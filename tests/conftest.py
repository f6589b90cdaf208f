"""Shared by all tests: a small frozen diffusion, saved as anybody's would be, and quick settings of
every prior.

torch is imported where it is used: xdist's controller and the tests of tables do without.
"""

import os
import shutil
import sys

import pytest
from helpers import FOLDER
from helpers.clocks import OwnTime
from hypothesis import settings

from priorbench.plugin_files import FILES
from priorbench.plugin_manager import load_plugins

# Files whose tests share a run or a browser: each goes to one worker as a whole, and first.
SHARED = {
    "tests/bench/test_cheats.py", "tests/bench/test_on_ray.py", "tests/bench/test_poison.py",
    "tests/bench/test_preview.py",
    "tests/report/test_report_browser.py", "tests/test_runner.py",
}  # fmt: skip

AS_SHIPPED = {}  # what `one_timing` changes

settings.register_profile("tests", deadline=None)  # whatever else the machine is doing
settings.load_profile("tests")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """``--dist loadscope``, where a scope is a file of ``SHARED`` or else a single test."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class BySharedFile(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            return file if file in SHARED else nodeid

    return BySharedFile(config, log)


def pytest_collection_modifyitems(items):
    """The slow ones first, so that at the end no worker waits for another's long test."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", autouse=True)
def threads():
    """One or two threads of torch, as OMP_NUM_THREADS says."""
    if "torch" in sys.modules:
        wanted = int(os.environ.get("OMP_NUM_THREADS") or 2)
        sys.modules["torch"].set_num_threads(min(2, wanted, os.cpu_count() or 1))


@pytest.fixture(scope="session", autouse=True)
def one_timing():
    """Each chain is timed once, not three times: no test asks how many seconds it took.

    Fits are looked at less often and by fewer draws, but in the tests of these looks.
    """
    if "torch" in sys.modules:
        from priorbench.bench import learning, sampling

        AS_SHIPPED.update(DRAWS=learning.DRAWS, SHARES=learning.SHARES)
        sampling.TIMINGS = 1
        learning.DRAWS, learning.SHARES = 100, (0.0, learning.LATE)


@pytest.fixture
def looks_as_users_do(monkeypatch):
    """Fits are looked at here as often as in other processes, which know nothing of the above."""
    from priorbench.bench import learning

    monkeypatch.setattr(learning, "DRAWS", AS_SHIPPED["DRAWS"])
    monkeypatch.setattr(learning, "SHARES", AS_SHIPPED["SHARES"])


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory):
    """Save a pipeline made on the spot, for (shape, scheduler settings); returns its folder."""
    from diffusers import DDPMPipeline, DDPMScheduler
    from helpers.models import tiny_unet

    def save(shape=(1, 8, 8), **settings):
        folder = tmp_path_factory.mktemp("pipeline")
        DDPMPipeline(tiny_unet(shape), DDPMScheduler(**settings)).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def tiny():
    """A frozen diffusion of 8x8 grey images, T = 100, random weights."""
    from diffusers import DDPMScheduler
    from helpers.models import tiny_unet

    from priorbench import FrozenDiffusion

    scheduler = DDPMScheduler(num_train_timesteps=100, beta_start=1e-3, beta_end=0.2)
    return FrozenDiffusion(tiny_unet((1, 8, 8)), scheduler, device="cpu")


@pytest.fixture
def own_time(monkeypatch):
    """The contract's checks, and the deadlines of fits, by a clock that no other process delays."""
    from priorbench import conformance, glance, prior

    clock = OwnTime()
    for module in (conformance, glance, prior):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def marginal(tiny):
    """A marginal at t_trunc = 20 over 200 Gaussian images of 8x8, with 50 validation images."""
    import torch

    from priorbench import TruncatedMarginal

    generator = torch.Generator().manual_seed(0)
    images = 0.3 * torch.randn(250, 1, 8, 8, generator=generator) + torch.linspace(
        -0.5, 0.5, 64
    ).view(1, 8, 8)
    return TruncatedMarginal(images[:200], tiny, 20, images[200:])


@pytest.fixture(scope="session")
def kept_run(tmp_path_factory):
    """A small run of helpers/survival.py: its folder, which nobody writes to, and its table."""
    from helpers.survival import small_run

    folder = tmp_path_factory.mktemp("kept")
    return folder, small_run(folder)


@pytest.fixture
def copied_run(kept_run, tmp_path):
    """A copy of that run to go on with."""
    folder, table = kept_run
    return shutil.copytree(folder, tmp_path / "copied"), table


@pytest.fixture
def faulty(monkeypatch):
    """The plugin of helpers/faulty.py, here and in every process started from here."""
    monkeypatch.setenv(FILES, str(FOLDER / "faulty.py"))
    load_plugins.cache_clear()
    yield
    load_plugins.cache_clear()
