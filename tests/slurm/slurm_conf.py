"""The text of SLURM's configuration files for a cluster of :mod:`cluster`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# What tests wait for is short here; SLURM's own values are in brackets.
TIMES = {
    "KillWait": "3",  # (30) seconds between SIGTERM and SIGKILL
    "SlurmdTimeout": "6",  # (300) silence after which a node counts as lost
    "SlurmctldTimeout": "10",  # (120)
    "MessageTimeout": "5",  # (10)
    "MinJobAge": "30",  # (300) how long slurmctld knows a job that has ended
    "SchedulerParameters": "bf_interval=1,sched_interval=2,batch_sched_delay=0",
    "UnkillableStepTimeout": "120",
}
CREDENTIAL_SECONDS = 5  # (120) a requeued job waits for this long and a second more
PARTITIONS = {
    "main": "Default=YES PriorityTier=1 PreemptMode=OFF MaxTime=INFINITE",
    "preempt": "PriorityTier=1 PreemptMode=REQUEUE GraceTime=10 MaxTime=INFINITE",
    "high": "PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE",
    "short": "PriorityTier=1 PreemptMode=OFF MaxTime=3 MaxNodes=1",
    "brief": "PriorityTier=1 PreemptMode=OFF MaxTime=1",
}


@dataclass(frozen=True)
class Layout:
    """Where a cluster's parts are, and what it is made of. Memory in MB."""

    folder: Path
    user: str
    ports: tuple[int, ...]  # slurmctld's, slurmdbd's, one for each node
    nodes: tuple[str, ...]
    cpus: int = 8
    memory: int = 16000
    gpus: int = 2
    accounting: bool = True
    limits_memory: bool = False

    @property
    def conf(self) -> Path:
        return self.folder / "etc" / "slurm.conf"

    def log(self, name: str) -> Path:
        return self.folder / "log" / name

    @property
    def munge_socket(self) -> Path:
        return self.folder / "run" / "munge.sock"

    @property
    def database_socket(self) -> Path:
        return self.folder / "run" / "mariadb.sock"


def configuration_files(layout: Layout, changes: Mapping[str, str]) -> dict[str, str]:
    """Text by name. `changes` replace settings of slurm.conf; an empty value leaves one out."""
    return {
        "slurm.conf": slurm_conf(layout, changes),
        "slurmdbd.conf": slurmdbd_conf(layout),
        "gres.conf": gres_conf(layout),
        "cgroup.conf": cgroup_conf(layout),
        "hosts": hosts(layout),
    }


def slurm_conf(layout: Layout, changes: Mapping[str, str]) -> str:
    settings = {
        "ClusterName": "test",
        "SlurmctldHost": "controller(127.0.0.1)",
        "SlurmctldPort": layout.ports[0],
        "SlurmdUser": layout.user,
        **_authentication(layout),
        **_accounting(layout),
        **_files(layout.folder),
        **_processes(layout.limits_memory),
        **TIMES,
        "SlurmctldParameters": "preempt_send_user_signal",
        "SlurmdParameters": "config_overrides",  # nodes may have more processors and memory than this machine
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "JobRequeue": 1,
        "ReturnToService": 2,
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "DefMemPerCPU": 1000,
        "GresTypes": "gpu",
        "MpiDefault": "none",
        **changes,
    }
    text = "".join(f"{key}={value}\n" for key, value in settings.items() if value != "")
    each = f"CPUs={layout.cpus} RealMemory={layout.memory} Gres=gpu:fake:{layout.gpus}"
    for name, port in zip(layout.nodes, layout.ports[2:], strict=True):
        text += f"NodeName={name} NodeAddr=127.0.0.1 Port={port} {each}\n"
    for name, limits in PARTITIONS.items():
        time = 1 if name == "brief" else 3
        text += f"PartitionName={name} Nodes=ALL DefaultTime={time} State=UP {limits}\n"
    return text


def _authentication(layout: Layout) -> dict[str, str]:
    return {
        "SlurmUser": layout.user,
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={layout.munge_socket},cred_expire={CREDENTIAL_SECONDS}",
    }


def _accounting(layout: Layout) -> dict[str, object]:
    if not layout.accounting:
        return {"AccountingStorageType": "accounting_storage/none"}
    return {
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": "127.0.0.1",
        "AccountingStoragePort": layout.ports[1],
        "AccountingStoragePass": layout.munge_socket,  # for connections to slurmdbd, which do not use AuthInfo
        "AccountingStorageTRES": "gres/gpu",
    }


def _files(folder: Path) -> dict[str, object]:
    return {
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool" / "%n",
        "SlurmctldPidFile": folder / "run" / "slurmctld.pid",
        "SlurmdPidFile": folder / "run" / "%n.pid",
        "SlurmctldLogFile": folder / "log" / "slurmctld.log",
        "SlurmdLogFile": folder / "log" / "%n.log",
        "SlurmctldDebug": "verbose",
    }


def _processes(limits_memory: bool) -> dict[str, str]:
    kind = "cgroup" if limits_memory else ""
    return {
        "ProctrackType": f"proctrack/{kind or 'linuxproc'}",
        "TaskPlugin": f"task/{kind or 'none'}",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": "2",
    }


def slurmdbd_conf(layout: Layout) -> str:
    settings = {
        **_authentication(layout),
        "DbdHost": "localhost",
        "DbdPort": layout.ports[1],
        "StorageType": "accounting_storage/mysql",
        "StorageHost": "localhost",
        "StorageUser": layout.user,
        "StorageLoc": "accounts",
        "LogFile": layout.folder / "log" / "slurmdbd.log",
        "PidFile": layout.folder / "run" / "slurmdbd.pid",
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def gres_conf(layout: Layout) -> str:
    """SLURM wants a device file for each GPU; links to ``/dev/null`` will do."""
    return f"Name=gpu Type=fake File={layout.folder}/dev/gpu[0-{layout.gpus - 1}]\n"


def cgroup_conf(layout: Layout) -> str:
    return (
        f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={layout.folder}/cgroup\nCgroupAutomount=no\n"
        "ConstrainRAMSpace=yes\nConstrainSwapSpace=no\nAllowedSwapSpace=0\n"
    )


def hosts(layout: Layout) -> str:
    """``/etc/hosts`` of all machines. Nodes share one network, but not one address."""
    known = Path("/etc/hosts").read_text()
    own = "".join(f"127.0.1.{number} {name}\n" for number, name in enumerate(("controller", *layout.nodes), start=1))
    return own + known
