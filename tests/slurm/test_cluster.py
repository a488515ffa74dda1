"""The fixture itself: a real cluster, whose parts fail as real ones do and come back, and of which nothing is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from cluster import Cluster
from waiting import SlurmError, until

HERE = Path(__file__).parent
OWNER = """
import sys, time
from cluster import started
with started(accounting=False) as cluster:
    cluster.submit("sleep 1000")
    print(cluster.layout.folder, flush=True)
    time.sleep(1000)
"""


def command_lines_with(word: str) -> list[str]:
    """Of all processes; what is not ours to see has none."""
    lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if word in line]


def test_a_step_runs_on_several_nodes_with_names_of_their_own(cluster: Cluster) -> None:
    said = cluster.run("srun", "--nodes=2", "--ntasks-per-node=2", "--label", "hostname").splitlines()
    assert sorted(said) == ["0: n1", "1: n1", "2: n2", "3: n2"]


def test_nodes_find_each_other_by_name(cluster: Cluster) -> None:
    script = "import socket; print(len({socket.gethostbyname(name) for name in ('n1', 'n2', 'n3')}))"
    assert cluster.run("srun", "--nodes=3", sys.executable, "-c", script).split() == ["3", "3", "3"]


def test_gpus_are_handed_out(cluster: Cluster) -> None:
    ask = ("--nodes=1", "--gpus-per-node=2", "printenv", "CUDA_VISIBLE_DEVICES")
    assert cluster.run("srun", *ask) == "0,1"
    with pytest.raises(SlurmError, match="node configuration is not available"):
        cluster.run("srun", "--nodes=1", "--gpus-per-node=3", "true")


def test_partitions_have_limits(cluster: Cluster) -> None:
    large, long = (cluster.submit("true", "--partition=short", beyond) for beyond in ("--nodes=2", "--time=10"))
    cluster.wait_for(lambda: cluster.show(large)["Reason"] == "PartitionNodeLimit")
    cluster.wait_for(lambda: cluster.show(long)["Reason"] == "PartitionTimeLimit")


def test_a_job_that_uses_too_much_memory_is_killed(cluster: Cluster) -> None:
    if not cluster.limits_memory:
        pytest.skip("SLURM cannot limit memory here: that takes root and control groups of version 1")
    job = cluster.submit(f"srun {sys.executable} -c 'print(len(bytes(4) * 50_000_000))'", "--mem=100")
    cluster.wait_for_state(job, "FAILED")
    assert "Out Of Memory" in cluster.output(job)
    steps = cluster.wait_for(lambda: [row for row in cluster.accounts(job) if row["JobID"] == f"{job}.0"])
    assert steps[0]["State"] == "OUT_OF_MEMORY"


def test_a_job_starts_again_when_its_node_loses_power(cluster: Cluster) -> None:
    job = cluster.submit("srun sleep 1000", "--nodes=1", "--nodelist=n1")
    cluster.wait_for_state(job, "RUNNING")
    node = cluster.node("n1")
    (step,) = cluster.wait_for(lambda: node.processes("sleep 1000", SLURM_STEP_ID=0, SLURM_JOB_ID=job))

    node.kill()
    assert not step.is_running()
    assert not node.runs
    cluster.wait_for(lambda: cluster.show(job)["Restarts"] == "1", 60, "a requeue")
    assert cluster.node_states()["n1"].startswith("down")
    rows = cluster.wait_for(lambda: [row for row in cluster.accounts(job) if row["State"] == "NODE_FAIL"])
    assert rows[0]["JobID"] == job

    cluster.restore()
    assert cluster.node_states() == {"n1": "idle", "n2": "idle", "n3": "idle"}
    assert cluster.queue() == {}


def test_steps_live_on_without_slurmd(cluster: Cluster, tmp_path: Path) -> None:
    end = tmp_path / "end"
    os.mkfifo(end)
    job = cluster.submit(f"srun cat {end}; echo read", "--nodelist=n2")
    node = cluster.node("n2")
    (step,) = cluster.wait_for(lambda: node.processes(str(end), SLURM_STEP_ID=0, SLURM_JOB_ID=job))
    node.stop_slurmd(signal.SIGKILL)
    assert not node.runs
    assert step.is_running()
    node.start_slurmd()
    end.write_text("")  # the step ends with who writes into it
    cluster.wait_for_state(job, "COMPLETED")
    assert cluster.output(job) == "read\n"


@pytest.mark.parametrize(
    ("changes", "heard"), [({}, {"USR2"}), ({"SlurmctldParameters": ""}, {"TERM"})], ids=["asked", "default"]
)
def test_preemption_sends_the_users_signal_where_it_was_asked_to(
    cluster: Cluster, changes: dict[str, str], heard: set[str]
) -> None:
    cluster.configure(**changes)
    listen = 'for name in USR2 TERM; do trap "echo $name; exit" $name; done; echo ready; while :; do sleep 0.1; done'
    job = cluster.submit(
        f"srun bash -c '{listen}'", "--partition=preempt", "--nodes=3", "--exclusive", "--signal=USR2@20"
    )
    cluster.wait_for(lambda: cluster.output(job).count("ready") == 3)
    cluster.submit("true", "--partition=high", "--nodes=3", "--exclusive")
    said = cluster.wait_for(lambda: re.findall("USR2|TERM", cluster.output(job)), 30, "a signal")
    assert set(said) == heard


def test_services_can_be_away(cluster: Cluster) -> None:
    job = cluster.submit("sleep 1000")
    cluster.wait_for_state(job, "RUNNING")
    cluster.stop_service("slurmdbd", signal.SIGKILL)
    cluster.wait_for_state(job, "RUNNING")
    cluster.start_service("slurmdbd")
    cluster.wait_for(lambda: cluster.accounts(job))

    cluster.stop_service("slurmctld")
    assert cluster.state(job) == ""
    cluster.start_service("slurmctld")
    cluster.wait_for_state(job, "RUNNING")


def test_accounts_can_be_off(cluster_without_accounting: Cluster) -> None:
    cluster = cluster_without_accounting
    assert sorted(cluster.run("srun", "--nodes=3", "hostname").split()) == ["n1", "n2", "n3"]
    with pytest.raises(SlurmError, match="accounting storage is disabled"):
        cluster.accounts("1")


def test_restoring_mends_whatever_was_done(cluster: Cluster) -> None:
    cluster.submit("trap '' TERM; while :; do sleep 1; done", "--array=0-30", "--nodes=1", "--ntasks=4")
    cluster.submit("true", "--begin=now+1hour")
    cluster.wait_for(lambda: "RUNNING" in cluster.queue().values())
    cluster.configure(KillWait=60)
    cluster.node("n1").kill()
    cluster.node("n2").stop_slurmd()
    cluster.run("scontrol", "update", "nodename=n3", "state=drain", "reason=test")
    for name in cluster.services:
        cluster.stop_service(name, signal.SIGKILL)

    cluster.restore()
    assert cluster.queue() == {}
    assert set(cluster.node_states().values()) == {"idle"}
    assert "KillWait                = 3 sec" in cluster.run("scontrol", "show", "config")
    assert cluster.run("srun", "--nodes=3", "true") == ""


def test_programs_of_a_test_find_its_cluster(
    cluster: Cluster, segctl: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    seen = subprocess.run(["sinfo", "--noheader", "--format=%P"], capture_output=True, text=True, check=True).stdout
    assert seen.split() == ["main*", "preempt", "high", "short", "brief"]
    assert segctl("--version", check=True).stdout.startswith("segctl ")


def test_nothing_is_left_when_the_owner_is_killed() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=HERE, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().strip())
    assert folder.is_dir()
    assert command_lines_with(str(folder))
    owner.kill()
    owner.wait()
    until(lambda: not folder.exists(), 60, "the folder to be gone")
    until(lambda: not command_lines_with(str(folder)), 60, "the processes to be gone")
    assert str(folder) not in Path("/proc/self/mounts").read_text()


def test_a_cluster_can_be_had_by_hand(tmp_path: Path) -> None:
    by_hand = [sys.executable, str(HERE / "cluster.py")]
    folder = tmp_path / "mine"
    said = subprocess.run(
        [*by_hand, "up", folder, "--no-accounting"], capture_output=True, text=True, check=True
    ).stdout
    assert said == f"export SLURM_CONF={folder}/etc/slurm.conf\n"
    again = subprocess.run([*by_hand, "up", folder], capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "not empty" in again.stderr
    environment = {**os.environ, "SLURM_CONF": f"{folder}/etc/slurm.conf"}
    subprocess.run(["srun", "--nodes=3", "true"], env=environment, check=True)

    subprocess.run([*by_hand, "down", folder], check=True)
    assert not folder.exists()
    until(lambda: not command_lines_with(f"{folder}/"), 10, "the last process to be gone")
    again = subprocess.run([*by_hand, "down", folder], capture_output=True, text=True, check=False)
    assert again.stderr == f"no cluster runs in {folder}\n"
