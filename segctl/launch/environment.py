"""The environment of a rank: the user's own, without what another launcher left in it, with what this job needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from segctl.launch.local.processes import RUN_MARK, SUPERVISOR_MARK
from segctl.launch.plan import LaunchPlan
from segctl.runs import attempt
from segctl.runs.attempt import Attempt

EXECUTOR = "segctllocal"  # submitit's name of our executor: its class's name in lower case, without "Executor"

# What submitit.JobEnvironment reads in a rank that our supervisor started.
JOB_VARIABLES = {
    "job_id": "SUBMITIT_SEGCTL_JOB_ID",
    "num_tasks": "SUBMITIT_SEGCTL_NTASKS",
    "num_nodes": "SUBMITIT_SEGCTL_NNODES",
    "node": "SUBMITIT_SEGCTL_NODEID",
    "global_rank": "SUBMITIT_SEGCTL_GLOBALID",
    "local_rank": "SUBMITIT_SEGCTL_LOCALID",
}

# A terminal may itself be inside a SLURM allocation, a torchrun or another segctl job. A process that believed what
# stands there would take itself for a part of that.
_FOREIGN = frozenset(
    (
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
        *("ROLE_RANK", "ROLE_NAME", "ROLE_WORLD_SIZE", "_TEST_CLUSTER_", *attempt.VARIABLES, RUN_MARK, SUPERVISOR_MARK),
    )
)
_FOREIGN_PREFIXES = ("MASTER_", "TORCHELASTIC_", "SLURM_", "SBATCH_", "SUBMITIT_", "PMI_", "PMIX_", "OMPI_")
_KEPT = frozenset({"SLURM_CONF"})


def job_id(number: int) -> str:
    """submitit's id of an attempt, which names its files in RUN/submitit."""
    return f"attempt{number}"


def cleaned(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what other launchers set for processes of theirs."""
    return {name: value for name, value in environ.items() if not _is_foreign(name)}


def _is_foreign(name: str) -> bool:
    return name in _FOREIGN or (name.startswith(_FOREIGN_PREFIXES) and name not in _KEPT)


def of_rank(
    environ: Mapping[str, str], plan: LaunchPlan, *, run_dir: Path, this: Attempt, rank: int, gpus: tuple[str, ...]
) -> dict[str, str]:
    """The environment of one rank.

    Args:
        environ: The user's.
        plan: The job's; its variables do not replace the user's.
        run_dir: The run's directory.
        this: The attempt.
        rank: Which process; all are on this machine.
        gpus: What the job was given of CUDA_VISIBLE_DEVICES; on the CPU none, so that no process takes a GPU it did not
            wait for.
    """
    values = {
        "job_id": job_id(this.number),
        "num_tasks": str(plan.world_size),
        "num_nodes": str(plan.nodes),
        "node": "0",
        "global_rank": str(rank),
        "local_rank": str(rank),
    }
    # The numbers given out are nvidia-smi's; CUDA's own put the fastest GPU first. Who chose numbers meant CUDA's.
    order = {} if "CUDA_VISIBLE_DEVICES" in environ else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {
        **order,
        **plan.environment,
        **cleaned(environ),
        **{JOB_VARIABLES[key]: value for key, value in values.items()},
        "SUBMITIT_EXECUTOR": EXECUTOR,
        "SUBMITIT_LOG_LEVEL": "CRITICAL",  # a failing rank's traceback is in its log once, not three times
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
        **this.as_environment(),
        RUN_MARK: os.path.realpath(run_dir),
    }
