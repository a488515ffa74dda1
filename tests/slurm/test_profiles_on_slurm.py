"""Profiles on a real cluster: what reaches sbatch, what is refused before it is asked, and `segctl profiles check`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster import Cluster
from trained import SEGCTL, SMALL, Training

import segctl as api
from segctl.config.schema import Launch
from segctl.errors import LaunchError
from segctl.launch.slurm import probe_job as slurm_probe
from segctl.launch.slurm.limits import refuse
from segctl.launch.slurm.plan import plan_slurm
from segctl.profile_check import Check, check_profile

PROFILES = """
    pair: {on: slurm, nodes: 2, procs: 2, gpus: 0, time: 10, slurm: {partition: main, environment: {LAB: here}}}
    gpus: {on: slurm, gpus: 2, time: 10, slurm: {cpus_per_gpu: 2, memory: 2G, gpu_type: fake}}
    beyond: {on: slurm, time: 10, nodes: 2, slurm: {partition: short}}
    boxed: {on: slurm, time: 10, slurm: {container: no-such-program run}}
    leaves: {on: slurm, time: 10, slurm: {setup: [echo the module is gone, exit 3]}}
"""


@pytest.fixture(autouse=True)
def profiles(isolated_environment: None) -> None:
    path = Path(os.environ["XDG_CONFIG_HOME"], "segctl", "profiles.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(f"profiles:{PROFILES}")


def checks(name: str, **arguments: Any) -> dict[str, Check]:
    """By name; one that is there twice counts as its first."""
    found: dict[str, Check] = {}
    for check in check_profile(name, **arguments).checks:
        found.setdefault(check.name, check)
    return found


def test_what_a_profile_and_flags_say_reaches_the_job(cluster: Cluster) -> None:
    cluster.submit("sleep 60", "--nodes=3", "--exclusive")  # so that it waits
    flags = ("--nodes", 1, "--time", "8", "--slurm", "comment=007 of 9", "--slurm", "x=n3", "--slurm", "mem=3G")

    run = Training.submit("--on", "pair", *flags)

    job = cluster.show(run.job)
    assert (job["Partition"], job["TimeLimit"], job["ExcNodeList"]) == ("main", "00:08:00", "n3")
    assert (job["NumNodes"], job["NumTasks"], job["MinMemoryNode"]) == ("1-1", "2", "3G")
    assert "Comment=007 of 9" in cluster.run("scontrol", "show", "job", run.job)
    launch = run.path.joinpath("config.yaml").read_text()
    assert "profile: pair" in launch
    assert "LAB: here" in launch


def test_fewer_processes_than_a_profile_has_gpus_still_have_one_each(cluster: Cluster) -> None:
    flags = {"model": "enet", "dataset": "shapes", "augment.crop": 48, "launch.on": "gpus", "launch.procs": 1}

    plan = api.train(flags=flags, dry_run=True).plan

    assert (plan.procs_per_node, plan.gpus_per_node, plan.sbatch["gpus-per-node"]) == (1, 1, "fake:1")


# ---- limits


def asked(**launch: Any) -> str:
    """What is told of a request, or why it is refused."""
    try:
        return " ".join(refuse(plan_slurm(Launch(on="slurm", **{"time": 10, **launch}))))
    except LaunchError as error:
        return f"refused: {error}"


def test_what_the_cluster_would_let_wait_for_good_is_refused(cluster: Cluster) -> None:
    refused = {
        "launch.time: 00:10:00 is more than partition short allows, 00:03:00.": {"slurm": {"partition": "short"}},
        "launch.nodes: 2 is more than partition short allows, 1.": {
            "time": 3,
            "nodes": 2,
            "slurm": {"partition": "short"},
        },
        "launch.nodes: 4 nodes were asked for, but partition main has only 3.": {"nodes": 4},
        "launch.gpus: 3 GPUs per node were asked for, but a node of partition main has 2.": {"gpus": 3},
        "launch.gpus: 1 a100 GPU per node was asked for, but no node of partition main has any.": {
            "gpus": 1,
            "slurm": {"gpu_type": "a100"},
        },
        "has 8 at most.": {"procs": 3, "slurm": {"cpus_per_gpu": 3}},
        "the cluster has no partition 'mian'. Did you mean 'main'?": {"slurm": {"partition": "mian"}},
        "Invalid feature specification": {"slurm": {"constraint": "infiniband"}},
        "unrecognized option '--nonsense=1'": {"slurm": {"options": {"nonsense": 1}}},
        "SLURM would not take the job with exclude=n99: Invalid node name specified": {
            "slurm": {"options": {"comment": "x", "exclude": "n99"}}
        },
    }
    for sentence, launch in refused.items():
        said = asked(**launch)
        assert said.startswith("refused: ")
        assert sentence in said

    accepted = asked(nodes=2, gpus=2, slurm={"gpu_type": "fake", "memory": "4GB"})
    assert accepted.startswith("SLURM would take it, and now expects to start it at ")
    assert accepted.endswith(" on n[1-2], partition main.")
    assert "partition main ends the job after 00:03:00" in asked(time=None)


def test_a_cluster_that_is_busy_or_in_part_away_refuses_nothing(cluster: Cluster) -> None:
    cluster.submit("sleep 60", "--nodes=3", "--exclusive")
    assert asked(nodes=3).startswith("SLURM would take it")

    for name in ("n1", "n2", "n3"):
        cluster.run("scontrol", "update", f"nodename={name}", "state=drain", "reason=test")
    assert asked().startswith("SLURM could not start it now: nodes that it needs are down")
    assert asked(nodes=4).startswith("refused: launch.nodes")


def test_a_partition_that_takes_no_jobs_is_refused(cluster: Cluster) -> None:
    try:
        for state in ("DOWN", "DRAIN", "INACTIVE"):
            cluster.run("scontrol", "update", "partitionname=high", f"state={state}")
            said = asked(slurm={"partition": "high"})
            assert "refused: Partition high " in said
            assert f"its state is {state.lower()}. With --partition main or preempt it would run." in said
            assert asked(slurm={"partition": "high,main"}).startswith("SLURM would take it")
    finally:
        cluster.run("scontrol", "update", "partitionname=high", "state=UP")


def test_without_slurmctld_it_is_said_that_it_does_not_answer(cluster: Cluster) -> None:
    cluster.stop_service("slurmctld")

    assert asked().startswith("refused: SLURM does not answer: Unable to contact slurm controller")
    found = checks("pair")
    assert (found["slurmctld"].passed, "nodes" in found) == (False, False)


# ---- check


def test_a_profile_that_works_is_certified_node_by_node(cluster: Cluster, segctl: Callable) -> None:
    said = segctl("profiles", "check", "pair", "--json")

    assert said.returncode == 0, said.stdout + said.stderr
    report = json.loads(said.stdout)
    nodes = [f"{node} {what}" for node in ("n1", "n2") for what in ("runs folder", "Python", "GPUs")]
    before = ["request", "commands", "accounting", "partition", "submission", "runs folder"]
    assert [check["name"] for check in report["checks"]] == [*before, *nodes]
    assert all(check["passed"] for check in report["checks"])
    found = {check["name"]: check["found"] for check in report["checks"]}
    assert found["n2 Python"].startswith(f"{Path(sys.executable).parent}/")
    assert found["n2 GPUs"] == "torch sees none, as asked."
    cluster.wait_for(lambda: not cluster.queue(), 60, "SLURM to let go of the probe")
    assert not Path(os.environ["SEGCTL_RUNS"]).exists()


def test_until_a_job_has_reached_the_runs_folder_that_is_told(cluster: Cluster, segctl: Callable) -> None:
    dry = ("train", *SMALL, "--dry-run", "--on", "pair")
    words = f"No job has yet been seen to reach {Path(os.environ['SEGCTL_RUNS']).resolve()}; "

    assert f"{words}'segctl profiles check pair' finds out" in segctl(*dry, check=True).stderr
    own = segctl(*dry, "--runs-dir", "/dev/shm/none", check=True).stderr
    assert "/dev/shm/none is on tmpfs, which other machines do not see." in own

    segctl("profiles", "check", "pair", check=True)
    assert words not in segctl(*dry, check=True).stderr


def test_gpus_that_torch_does_not_see_are_a_failure(cluster: Cluster, segctl: Callable) -> None:
    said = segctl("profiles", "check", "gpus", "--json")  # the cluster's GPUs are not real

    assert said.returncode == 1
    report = json.loads(said.stdout)
    failed = [check for check in report["checks"] if not check["passed"]]
    assert [check["name"] for check in failed] == ["n1 GPUs"]
    assert failed[0]["found"] == "torch sees 0 of the 2 that were given (CUDA_VISIBLE_DEVICES is 0,1)."
    assert failed[0]["hint"]


def test_what_cannot_start_is_not_tried(cluster: Cluster) -> None:
    found = checks("beyond")

    assert found["partition"].found == "launch.time: 00:10:00 is more than partition short allows, 00:03:00."
    assert (found["partition"].passed, found["nodes"].passed) == (False, None)
    assert cluster.run("squeue", "--noheader", "--states=all", "--partition=short") == ""


def test_no_job_is_sent_where_none_is_wanted(cluster_without_accounting: Cluster) -> None:
    report = check_profile("pair", job=False)

    assert report.passed
    found = {check.name: check for check in report.checks}
    assert found["accounting"].found.startswith("It is off.")
    assert found["nodes"].passed is None
    jobs = ("squeue", "--noheader", "--states=all", "--format=%j")
    assert "segctl-probe" not in cluster_without_accounting.run(*jobs)


def test_a_python_that_does_not_start_is_told_from_a_folder_that_is_not_there(cluster: Cluster) -> None:
    found = checks("boxed")

    assert found["n1 runs folder"].passed
    assert not found["n1 Python"].passed
    assert "did not start: sh: 1: exec: no-such-program: not found" in found["n1 Python"].found


def test_lines_that_end_the_script_are_named(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_probe, "FILE_SECONDS", 1.0)

    nodes = checks("leaves")["nodes"]

    assert not nodes.passed
    assert "exit code 3:0" in nodes.found
    assert "the module is gone" in nodes.found
    assert "launch.slurm.setup" in nodes.hint


def test_a_runs_folder_that_nodes_do_not_see_is_found_out(cluster: Cluster, tmp_path: Path) -> None:
    """The command has a file system of its own where the runs are to be."""
    runs = tmp_path / "runs"
    runs.mkdir()

    said = with_a_disk_of_its_own(
        runs,
        f"""
        from segctl.cli.app import main
        from segctl.launch.slurm import probe_job as slurm_probe
        slurm_probe.FILE_SECONDS = 1.0
        sys.exit(main(["profiles", "check", "pair", "--json", "--runs-dir", {str(runs)!r}]))
        """,
    )

    assert said.returncode == 1, said.stdout + said.stderr
    nodes = json.loads(said.stdout)["checks"][-1]
    assert f"has left nothing in {runs}: the nodes do not see this folder" in nodes["found"]
    assert "0:53" in nodes["found"]


def test_a_job_of_which_nothing_came_points_to_the_runs_folder(cluster: Cluster, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    said = with_a_disk_of_its_own(
        runs,
        """
        import json, time
        from dataclasses import asdict
        import segctl
        flags = {"model": "enet", "dataset": "shapes", "augment.crop": 48, "train.steps": 2, "launch.on": "pair"}
        run = segctl.train(flags=flags).run
        while segctl.status(run)[0].state != "FAILED":
            time.sleep(0.5)
        print(json.dumps(asdict(segctl.why(run))))
        """,
    )

    assert said.returncode == 0, said.stderr
    why = json.loads(said.stdout)
    assert why["hint"].startswith(f"Nothing of the job has come into {why['path']}: most likely its nodes do not see")
    assert why["next"] == ["segctl profiles check pair", f"segctl resume {why['id']}"]


def with_a_disk_of_its_own(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs Python where `folder` is a file system that no other process sees."""
    mount = f"import subprocess, sys; subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', {str(folder)!r}], check=True)"
    user = [] if os.geteuid() == 0 else ["--map-current-user", "--keep-caps"]
    command = ["unshare", *user, "--mount", sys.executable, "-c", f"{mount}\n{textwrap.dedent(code)}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_ctrl_c_cancels_the_job_that_was_sent(cluster: Cluster) -> None:
    cluster.submit("sleep 100", "--nodes=3", "--exclusive")
    checking = subprocess.Popen([SEGCTL, "profiles", "check", "pair"], start_new_session=True)

    def probes() -> list[str]:
        rows = cluster.run("squeue", "--noheader", "--format=%i %j").splitlines()
        return [row.split()[0] for row in rows if "segctl-probe" in row]

    (job,) = cluster.wait_for(probes, 60, "the probe to wait in the queue")
    os.killpg(checking.pid, signal.SIGINT)

    assert checking.wait(timeout=120) == 130
    assert cluster.wait_for_state(job, "CANCELLED") == "CANCELLED"
    assert not Path(os.environ["SEGCTL_RUNS"]).exists()
