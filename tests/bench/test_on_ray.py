"""The executor `ray`, on a real cluster of two nodes."""

import threading
from collections import Counter

import pytest
import ray
from helpers.commands import PATHS
from helpers.survival import Watcher, assert_same, small_run
from ray.cluster_utils import Cluster

from priorbench import UserError
from priorbench.bench import on_ray
from priorbench.bench.on_ray import Needs
from priorbench.testing import parametrize_with_executor_checks

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("looks_as_users_do")]


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one CPU each, as two machines that share a disk would be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PATHS)
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        made.add_node(num_cpus=1)
        made.wait_for_nodes()
        patch.setenv("RAY_ADDRESS", made.address)
        yield made
        made.shutdown()


@pytest.fixture(autouse=True)
def the_run_leaves_the_cluster():
    yield
    assert not ray.is_initialized()


@parametrize_with_executor_checks("ray", timeout=10)
def test_ray_keeps_the_contract(check, cluster):
    check()


class Killer(Watcher):
    """Kills a node a moment after a cell has begun."""

    def __init__(self, kill, after=2, delay=0.5):
        super().__init__()
        self.kill, self.after, self.delay = kill, after, delay
        self.done = Counter()

    def cell(self, spec):
        super().cell(spec)
        if len(self.cells) == self.after:
            threading.Timer(self.delay, self.kill).start()

    def finished(self, spec, result):
        self.done[spec.title] += 1


def test_a_node_that_is_killed_costs_no_cell_and_none_is_had_twice(cluster, tmp_path):
    options = {"priors": "vae[iterations=6,width=8],gaussian", "seeds": 2}
    alone = small_run(tmp_path / "serial", **options)
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    watcher = Killer(lambda: cluster.remove_node(node, allow_graceful=False))
    found = small_run(tmp_path / "ray", {"executor": "ray"}, watcher, **options)
    assert_same(found, alone)
    assert watcher.done == dict.fromkeys(watcher.done, 1)
    assert len(watcher.done) == 6
    assert set(found.concurrency) == {1}
    assert set(found.node) == set(alone.node)
    assert not list((tmp_path / "ray").glob(".seen*"))


def test_bad_options_and_clusters_are_named_before_anything_is_computed(cluster, tmp_path):
    def fault(**options):
        settings = {"executor": "ray"} | {f"ray.{k}": v for k, v in options.items()}
        with pytest.raises(UserError) as found:
            small_run(tmp_path, settings)
        return str(found.value)

    assert fault(num_gpu=1) == (
        "ray.num_gpu: executor 'ray' has no option 'num_gpu'; did you mean 'num_gpus'?"
    )
    assert fault(num_cpus="all") == "ray.num_cpus: must be a number, got 'all'"
    assert fault(num_cpus=0) == "ray.num_cpus: must be more than 0, got 0"
    assert fault(num_gpus=-1) == "ray.num_gpus: must be at least 0, got -1"
    assert fault(num_cpus=1.5) == "ray.num_cpus: must be a whole number above 1, got 1.5"
    said = fault(num_gpus=0.5)
    assert said.startswith("no node has room for a cell with ray.num_cpus 1 and ray.num_gpus 0.5: ")
    assert said.count("has 1 CPUs and 0 GPUs") >= 2
    assert not (tmp_path / "cells").exists()
    with pytest.raises(UserError, match="--workers is not for the executor 'ray'"):
        small_run(tmp_path, {"executor": "ray", "workers": 2})


def test_a_node_that_does_not_share_the_folder_or_the_versions_is_named(
    cluster, tmp_path, monkeypatch
):
    monkeypatch.setattr(on_ray, "SEEN", 0.5)
    ours = on_ray.os.listdir
    monkeypatch.setattr(on_ray.os, "listdir", lambda p: [] if "results" in str(p) else ours(p))
    with pytest.raises(UserError, match=r"node \S+ does not share \S+ with this one"):
        small_run(tmp_path / "results", {"executor": "ray"})
    monkeypatch.undo()
    real = on_ray._check_nodes
    wrong = lambda work, versions, around: real(work, versions | {"torch": "1.0"}, around)  # noqa: E731
    monkeypatch.setattr(on_ray, "_check_nodes", wrong)
    with pytest.raises(UserError, match=r"node \S+ has torch \S+, and the run has 1\.0"):
        small_run(tmp_path / "other", {"executor": "ray"})
    assert not list((tmp_path / "other" / "cells").glob("*"))


@pytest.mark.parametrize(
    ("resources", "needs", "count"),
    [
        ({"CPU": 8.0}, Needs(1, 0), 8),
        ({"CPU": 8.0}, Needs(3, 0), 2),
        ({"CPU": 8.0, "GPU": 1.0}, Needs(1, 0.1), 8),
        ({"CPU": 16.0, "GPU": 1.0}, Needs(1, 0.1), 10),
        ({"CPU": 8.0, "GPU": 2.0}, Needs(1, 0.5), 4),
        ({"CPU": 8.0}, Needs(1, 1), 0),
        ({}, Needs(1, 0), 0),
    ],
)
def test_how_many_cells_a_node_has_room_for(resources, needs, count):
    assert needs.at_once({"Resources": resources}) == count
