"""SLURM's words in ours: why a job waits, and why one went back to the queue."""

from __future__ import annotations

import re

_WAITS = {
    "": "waits for its turn",
    "Resources": "waits for free nodes",
    "Priority": "waits behind jobs of higher priority",
    "Dependency": "waits for another job",
    "DependencyNeverSatisfied": "waits for a job that did not succeed, and so will never start",
    "BeginTime": "waits for its begin time",
    "JobHeldUser": "is held; 'scontrol release {id}' lets it go on",
    "JobHeldAdmin": "is held by an administrator",
    "JobArrayTaskLimit": "waits for other jobs of its array, of which only some may run at once",
    "Licenses": "waits for a licence",
    "Reservation": "waits for its reservation to begin",
    "ReservationDeleted": "waits for a reservation that is gone",
    "PartitionDown": "waits for its partition, which is down",
    "PartitionInactive": "waits for its partition, which is inactive",
    "PartitionNodeLimit": "asks for more nodes than its partition has or allows",
    "PartitionTimeLimit": "asks for more time than its partition allows",
    "PartitionConfig": "asks for what its partition does not have",
    "BadConstraints": "asks for nodes that do not exist",
    "NodeDown": "waits for a node that is down",
    "Prolog": "waits for its nodes to be prepared",
    "Cleaning": "waits until its last start is cleared away",
    "Reboot": "waits for its nodes to start",
    "InvalidAccount": "has an account that is not valid",
    "InvalidQOS": "has a QOS that is not valid",
    "FrontEndDown": "waits for a front end that is down",
    "JobHoldMaxRequeue": "is held, because it was requeued too often",
}

# What a sight of its last start says of why there was another.
_INTERRUPTED = {
    "NODE_FAIL": "after a node failed",
    "PREEMPTED": "after a preemption",
    "TIMEOUT": "after its time limit",
    "BOOT_FAIL": "after a node could not be started",
}


def waits(reason: str, job_id: str) -> str:
    """Why a job waits, in words; `reason` is SLURM's, such as ``QOSMaxJobsPerUserLimit``."""
    known = _WAITS.get(reason.replace(" ", ""))
    if known is not None:
        return known.format(id=job_id)
    if reason.startswith("ReqNodeNotAvail"):
        which = re.search(r"UnavailableNodes:([^\s)]+)", reason)
        nodes = f"nodes that it needs ({which[1]})" if which else "nodes that it needs"
        return f"waits for {nodes}: down, drained or reserved"
    if reason.startswith("Nodes required for job are DOWN"):
        return "waits for nodes that it needs: down, drained or reserved"
    if reason.startswith("QOS"):
        return f"waits: a limit of its QOS is reached ({reason})"
    if reason.startswith(("Assoc", "MaxJobs")):
        return f"waits: a limit of its account is reached ({reason})"
    if "held" in reason.lower():
        return f"is held ({reason}); 'scontrol release {job_id}' lets it go on"
    return f"waits ({reason})"


def interrupted(state: str) -> str:
    """Why a job went back to the queue, by SLURM's word for how that start ended; empty: not known."""
    return _INTERRUPTED.get(state, "after it was requeued")
