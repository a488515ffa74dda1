"""What befalls a training on a cluster: it ends COMPLETED, equal to an undisturbed one to the last bit.

Each disturbance is the real thing: the cluster's own time limit and preemption, killed nodes and stopped services.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cluster import Cluster
from trained import SEGCTL, SMALL, Training, same_training

TWO_NODES = ("--on", "slurm", "--nodes", 2, "--procs", 1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """The same training as two processes of this machine."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGCTL_STATE_DIR", str(folder / "state"))
        patch.setenv("OMP_NUM_THREADS", "1")
        training = Training.submit("--procs", 2, "--runs-dir", folder / "runs")
        assert training.wait_for_end()["state"] == "COMPLETED"
    return training


def time_limit(cluster: Cluster, training: Training) -> None:
    """Nothing to do: it was submitted with a limit that is too short for it, at the pace that its data set keeps."""


def preemption(cluster: Cluster, training: Training) -> None:
    training.wait_for_step(7)
    more_important = cluster.submit("sleep 5", "--partition=high", "--nodes=3", "--exclusive")
    cluster.wait_for_state(more_important, "RUNNING", "COMPLETED", seconds=60)


def requeue_by_the_administrator(cluster: Cluster, training: Training) -> None:
    training.wait_for_step(7)
    cluster.run("scontrol", "requeue", training.job)


def a_node_loses_power(cluster: Cluster, training: Training) -> None:
    training.wait_for_step(7)
    second = cluster.show(training.job)["NodeList"].replace("[", "").replace("]", "")
    name = "n" + second[-1]
    cluster.node(name).kill()
    training.wait_until(lambda: training.restart() > 0, 120, "the job to be requeued")
    cluster.node(name).start()


def the_first_node_loses_power(cluster: Cluster, training: Training) -> None:
    training.wait_for_step(7)
    name = cluster.show(training.job)["BatchHost"]
    cluster.node(name).kill()
    training.wait_until(lambda: training.restart() > 0, 120, "the job to be requeued")
    cluster.node(name).start()


def slurmctld_is_away(cluster: Cluster, training: Training) -> None:
    training.wait_for_step(7)
    cluster.stop_service("slurmctld", signal.SIGKILL)
    time.sleep(8)
    cluster.start_service("slurmctld")


def slurmdbd_is_away(cluster: Cluster, training: Training) -> None:
    training.wait_for_step(7)
    cluster.stop_service("slurmdbd", signal.SIGKILL)
    time.sleep(5)
    cluster.start_service("slurmdbd")


def slurmd_is_restarted(cluster: Cluster, training: Training) -> None:
    """As an update of the package does it: the steps live on."""
    training.wait_for_step(7)
    node = cluster.node(cluster.show(training.job)["BatchHost"])
    node.stop_slurmd(signal.SIGKILL)
    time.sleep(2)
    node.start_slurmd()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("disturb", "flags", "restarts"),
    [
        pytest.param(
            time_limit,
            ["--time", "1", "--set", "launch.save_before=45", "--dataset", "paced_shapes"],
            1,
            id="time limit",
        ),
        pytest.param(preemption, ["--partition", "preempt", "--set", "train.workers=1"], 1, id="preemption"),
        # No time is asked for, so that SLURM sends no signal; the limit is the partition's.
        pytest.param(time_limit, ["--partition", "brief", "--dataset", "paced_shapes"], 1, id="no signal"),
        # With data workers, whom SLURM tells to end as it does the ranks.
        pytest.param(requeue_by_the_administrator, ["--set", "train.workers=1"], 1, id="scontrol requeue"),
        pytest.param(a_node_loses_power, [], 1, id="a node loses power"),
        pytest.param(the_first_node_loses_power, [], 1, id="the first node loses power"),
        pytest.param(slurmctld_is_away, [], 0, id="slurmctld is away"),
        pytest.param(slurmdbd_is_away, [], 0, id="slurmdbd is away"),
        pytest.param(slurmd_is_restarted, [], 0, id="slurmd is restarted"),
    ],
)
def test_it_comes_back_and_nothing_is_lost(
    cluster: Cluster,
    undisturbed: Training,
    disturb: Callable[[Cluster, Training], None],
    flags: list[str],
    restarts: int,
    fragile_path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", fragile_path, prepend=os.pathsep)
    monkeypatch.setenv("TEST_PACE", "0.15")
    training = Training.submit(*TWO_NODES, *flags)
    disturb(cluster, training)
    status = training.wait_for_end(500)  # the fewer steps fit before a time limit, the more starts it takes
    assert status["state"] == "COMPLETED", f"{status['why']}\n{training.story()}"
    assert training.restart() >= restarts
    same_training(training, undisturbed)


def test_the_submitting_terminal_may_go(cluster: Cluster, undisturbed: Training, tmp_path: Path) -> None:
    words = [SEGCTL, "train", *SMALL, *map(str, TWO_NODES), "--runs-dir", str(tmp_path / "r")]
    terminal = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    runs = tmp_path / "r"
    deadline = time.monotonic() + 120
    while not [path for path in runs.glob("2*/submission.json") if "job_id" in path.read_text()]:
        assert time.monotonic() < deadline
        time.sleep(0.2)

    os.killpg(terminal.pid, signal.SIGHUP)
    terminal.wait(30)
    (path,) = runs.glob("2*")
    training = Training(path)
    assert training.wait_for_end()["state"] == "COMPLETED", training.story()
    same_training(training, undisturbed)
