"""Ray's actors on a real cluster: deaths, lost nodes, nodes that join, shares of GPUs, shipped code."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import autoprune
from autoprune.errors import WorkerError
from autoprune.evaluate.evaluator import Job
from autoprune.evaluate.pools import actors
from autoprune.evaluate.pools.local import LocalPool
from autoprune.evaluate.pools.ray import RayPool, connect, room
from autoprune.latency.exclusive import kernel_boot_id
from autoprune.policy import PruningPolicy, Stage
from autoprune.pruning.tables import TableSet

pytestmark = pytest.mark.ray
N = 40
HALF = PruningPolicy((Stage(1, "cls_attention", keep=0.5),))


def drain(pool):
    outcomes = []
    while pool.pending:
        outcomes.append(pool.next())
    return outcomes


def submit(pool, jobs, first=0):
    for number in range(first, first + jobs):
        pool.submit(Job(f"job{number}", HALF, 0, N))


class Recording:
    """Examples whose every pass is written down, and which can be slow or deadly."""

    def __init__(self, examples, log, *, seconds=0.0, deadly=()):
        self.model, self.tokenizer, self.inner = examples.model, examples.tokenizer, examples
        self.log, self.seconds, self.deadly = log, seconds, deadly

    def batches(self, start, stop, batch_size):
        with open(self.log, "a") as file:
            file.write(f"{start}-{stop}\n")
        time.sleep(self.seconds)
        if start in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.batches(start, stop, batch_size)


class Deadly(torch.nn.Module):
    """A step of a layer that ends the process when few tokens come."""

    def forward(self, hidden):
        if hidden.shape[1] < 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return hidden


@pytest.fixture(scope="module")
def here():
    import ray

    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_a_candidate_that_kills_its_workers_is_tried_three_times_and_fails_alone(here, examples, tmp_path):
    log = tmp_path / "log"
    pool = RayPool(Recording(examples, log, deadly=(16,)), TableSet(), 2)
    try:
        for start in (0, 16, 32):
            pool.submit(Job(str(start), HALF, start, min(N, start + 16)))
        found = {outcome.job.key: outcome for outcome in drain(pool)}
    finally:
        pool.close()
    assert found["16"].logits is None
    assert "died 3 times" in found["16"].error
    tried = log.read_text().split()
    assert tried.count("16-32") == 3
    for key in ("0", "32"):
        assert found[key].error is None
        assert 1 <= tried.count(f"{key}-{min(N, int(key) + 16)}") <= 3


def test_a_group_whose_worker_dies_falls_apart_and_the_killer_fails_alone(here, examples):
    examples.model.bert.encoder.layer[2].output.dropout = Deadly()
    pool = RayPool(examples, TableSet(), 2)
    policies = [PruningPolicy((Stage(1, "cls_attention", keep=keep),)) for keep in (0.6, 0.2, 0.5)]
    try:
        pool.submit(*(Job(f"{policy.stages[0].keep}", policy, 0, 16) for policy in policies))
        assert pool.pending == 3
        found = {outcome.job.key: outcome for outcome in drain(pool)}
    finally:
        pool.close()
    assert sorted(found) == ["0.2", "0.5", "0.6"]
    assert "died 3 times" in found["0.2"].error
    assert found["0.5"].error is found["0.6"].error is None


def test_idle_workers_that_die_together_cost_no_candidate_its_tries(here, examples):
    pool = RayPool(examples, TableSet(), 2)
    try:
        for pid in pool.pids():
            os.kill(pid, signal.SIGKILL)
        time.sleep(1.0)
        submit(pool, 3)
        outcomes = drain(pool)
    finally:
        pool.close()
    assert [outcome.error for outcome in outcomes] == [None] * 3


def test_a_settled_pool_loads_nothing(here, examples):
    pool = RayPool(examples, TableSet(), 2)
    try:
        killed = pool.pids()[0]
        os.kill(killed, signal.SIGKILL)
        time.sleep(1.0)
        assert len(pool.pids()) == 1, "who died idle does not answer, and does not hide the others"
        assert killed not in pool.pids()
        submit(pool, 4)
        drain(pool)
        pool.settle()
        assert not pool._crew.starting
        assert len(pool.pids()) == 2
        assert list(pool._crew.hosts.values()) == [kernel_boot_id()] * 2, "who died is on no machine"
        assert pool.apart("elsewhere")
        assert not pool.apart(kernel_boot_id())
        pool._crew.starting["an answer"], pool._crew._asked_at["an answer"] = object(), time.monotonic()
        assert not pool.apart("elsewhere"), "who is awaited may come up there"
        del pool._crew.starting["an answer"]
        pool._crew.hosts[pool._crew.idle[0]] = ""
        assert not pool.apart("elsewhere"), "nobody knows where this one is"
    finally:
        pool.close()


def test_a_pool_does_not_wait_for_workers_that_have_no_room(here, examples, monkeypatch):
    from autoprune.evaluate.pools import actors

    monkeypatch.setattr(actors, "_SETTLE_S", 3.0)
    pool = RayPool(examples, TableSet(), 3)  # the machine of these tests has room for two
    try:
        assert pool._crew.starting
        begun = time.monotonic()
        pool.settle()
        assert time.monotonic() - begun < 10
        assert pool._crew.starting
    finally:
        pool.close()


def test_a_worker_that_cannot_start_is_an_error_with_its_reason(here, examples, monkeypatch):
    class Broken:
        def __init__(self, *_):
            raise ValueError("no such weights")

        def ready(self):
            return 0

    from autoprune.evaluate.pools import ray as room_of_ray

    monkeypatch.setattr(room_of_ray, "Worker", Broken)
    begun = time.monotonic()
    with pytest.raises(WorkerError, match="no such weights") as caught:
        RayPool(examples, TableSet(), 2)
    assert "--workers 1" in caught.value.hint
    assert time.monotonic() - begun < 60


def test_without_room_for_a_worker_the_pool_gives_up_in_time(here, examples):
    begun = time.monotonic()
    with pytest.raises(WorkerError, match="none came up within 3 seconds; each needs 1 CPU and 2 GPU, free now: "):
        RayPool(examples, TableSet(), 1, gpus=2.0, patience=3.0)
    assert 3.0 <= time.monotonic() - begun < 30


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the CUDA device that must be missing here")
def test_a_promised_gpu_that_torch_does_not_find_is_said(here, examples):
    assert room(0.5, 0.1) == 2
    with pytest.raises(WorkerError, match="finds no CUDA device"):
        RayPool(examples, TableSet(), None, gpus=0.5)


@pytest.mark.gpu
def test_scoring_on_a_gpu_agrees_with_the_cpu(here, examples):
    local = LocalPool(examples, TableSet())
    submit(local, 1)
    pool = RayPool(examples, TableSet(), 2, gpus=0.5)
    try:
        assert {device.split(":")[0] for device in pool.devices()} == {"cuda"}
        submit(pool, 1)
        (got,), (expected,) = drain(pool), drain(local)
    finally:
        pool.close()
    np.testing.assert_allclose(got.logits, expected.logits, atol=1e-4)


def test_nodes_come_and_go_under_a_pool(examples, tmp_path, monkeypatch):
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setattr(actors, "_SETTLE_S", 1.0)
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        first = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes()
        assert connect(cluster.address, 2)
        log = tmp_path / "log"
        pool = RayPool(Recording(examples, log, seconds=0.2), TableSet(), 2, patience=120.0)
        assert len(set(pool.nodes())) == 1, "the second worker has no room yet"
        assert pool.wanted == 2
        second = cluster.add_node(num_cpus=1)
        submit(pool, 1)
        done = []
        deadline = time.monotonic() + 120
        while pool._crew.live < 2 and time.monotonic() < deadline:
            done.append(pool.next())
            submit(pool, 1, len(done))
        assert pool._crew.live == 2, "the node that joined is not used"
        done += drain(pool)
        assert len(set(pool.nodes())) == 2
        submit(pool, 8, len(done))
        cluster.remove_node(first, allow_graceful=False)
        done += drain(pool)
        assert [outcome.error for outcome in done] == [None] * len(done)
        assert sorted(outcome.job.key for outcome in done) == sorted(f"job{n}" for n in range(len(done)))
        pool._crew._patience, left = 8.0, pool.pids()
        cluster.remove_node(second, allow_graceful=False)
        while any(psutil.pid_exists(pid) for pid in left):  # an orphan may still answer for a moment
            time.sleep(0.1)
        submit(pool, 1)
        with pytest.raises(WorkerError, match="No scoring worker is left") as caught:
            drain(pool)
        assert "same command" in caught.value.hint
        pool.close()
    finally:
        ray.shutdown()
        cluster.shutdown()


DRIVER = """
import sys, ray
from autoprune.evaluate.pools.ray import connect
assert connect(sys.argv[1], 1)

@ray.remote
class Reader:
    def where(self):
        import autoprune, autoprune.marker, autoprune.evaluate.evaluator
        return autoprune.__file__, autoprune.marker.TEXT

print(*ray.get(Reader.remote().where.remote()), sep="\\n")
"""


def test_a_cluster_runs_the_code_of_the_command(tmp_path):
    """The workers import this program's copy of the package, marker included, though they have one installed."""
    import shutil

    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()
    source = Path(autoprune.__file__).parent
    shutil.copytree(source, tmp_path / "code" / "autoprune", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "code" / "autoprune" / "marker.py").write_text("TEXT = 'shipped'\n")
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "driver.py").write_text(DRIVER)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        ran = subprocess.run(
            [sys.executable, "driver.py", cluster.address],
            cwd=tmp_path / "driver",
            env={**os.environ, "PYTHONPATH": str(tmp_path / "code")},
            capture_output=True,
            text=True,
            timeout=180,
        )
    finally:
        cluster.shutdown()
    assert ran.returncode == 0, ran.stderr[-2000:]
    where, text = ran.stdout.strip().splitlines()
    assert text == "shipped"
    assert "py_modules_files" in where


ASK = """
import sys, ray
from autoprune.errors import WorkerError
from autoprune.evaluate.pools.ray import connect
try:
    connect(sys.argv[1], 1)
    print("joined", len(ray.nodes()))
except WorkerError as error:
    print("refused", error.message, error.hint)
"""


@pytest.fixture(scope="module")
def guarded():
    """The address of a cluster that asks for a token, started as the documentation says."""
    import shutil
    import socket
    import tempfile

    # Of its own, or Ray would leave the address where others look for one; short, as a socket's path must be.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}", "--num-cpus=1"]
    head = subprocess.Popen(
        [*command, f"--temp-dir={folder}", "--include-dashboard=false", "--block"],
        env={**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a" * 32},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    time.sleep(3)
    yield f"127.0.0.1:{port}"
    head.terminate()
    head.wait(60)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("token", "answer"),
    [("a" * 32, "joined 1"), ("b" * 32, "refused"), (None, "refused")],
    ids=["right", "wrong", "none"],
)
def test_a_guarded_cluster_takes_the_right_token_alone(guarded, tmp_path, token, answer):
    (tmp_path / "ask.py").write_text(ASK)
    own = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    own |= {"HOME": str(tmp_path), "PYTHONPATH": str(Path(autoprune.__file__).parents[1])}
    if token is not None:
        own |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    ran = subprocess.run(
        [sys.executable, "ask.py", guarded], cwd=tmp_path, env=own, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout.startswith(answer), (ran.stdout, ran.stderr[-1500:])
    if answer == "refused":
        assert "token" in ran.stdout, "the hint names what Ray's own exception does not"
        assert "InvalidAuthToken" in ran.stderr, "Ray says why"
