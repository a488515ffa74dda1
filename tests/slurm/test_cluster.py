"""The fixture is a real cluster: several nodes that can be lost, and that come back."""

from __future__ import annotations

from cluster import Cluster


def test_a_step_runs_on_several_nodes_with_their_own_names(cluster: Cluster) -> None:
    names = cluster.run("srun", "--nodes=2", "--ntasks-per-node=2", "--label", "hostname").splitlines()
    assert sorted(names) == ["0: n1", "1: n1", "2: n2", "3: n2"]


def test_gpus_are_handed_out(cluster: Cluster) -> None:
    seen = cluster.run("srun", "--nodes=1", "--gpus-per-node=2", "printenv", "CUDA_VISIBLE_DEVICES")
    assert seen == "0,1"


def test_a_node_that_loses_power_fails_its_job_which_starts_again_elsewhere(cluster: Cluster) -> None:
    job = cluster.submit("srun sleep 1000", "--nodes=1", "--nodelist=n1")
    cluster.wait_for_state(job, "RUNNING")
    cluster.node("n1").kill()
    cluster.wait_for(lambda: cluster.show(job)["Restarts"] == "1", 60, "a requeue")
    assert cluster.node_states()["n1"].startswith("down")
    rows = cluster.wait_for(lambda: [row for row in cluster.accounts(job) if row["State"] == "NODE_FAIL"], 20)
    assert rows[0]["JobID"] == job

    cluster.restore()
    assert cluster.node_states() == {"n1": "idle", "n2": "idle", "n3": "idle"}
    assert cluster.queue() == {}
