"""sbatch's options: which are settings of segctl's own, which segctl sets itself, and which anybody may add.

Each thing is said in one place. What has a setting of its own is that setting, also where it is called by sbatch's
name; what would break the job or how segctl follows it is refused with the reason. Source: sbatch(1) of SLURM 20 to 25.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from segctl.errors import ConfigError

__all__ = ["name_of", "settings", "takes", "why_refused"]

# The setting that each of these is.
_OWN = {
    "partition": "launch.slurm.partition",
    "account": "launch.slurm.account",
    "qos": "launch.slurm.qos",
    "constraint": "launch.slurm.constraint",
    "mem": "launch.slurm.memory",
    "memory": "launch.slurm.memory",
    "cpus-per-task": "launch.slurm.cpus_per_gpu",
    "cpus-per-gpu": "launch.slurm.cpus_per_gpu",
    "container": "launch.slurm.container",
    "time": "launch.time",
    "nodes": "launch.nodes",
    "gpus-per-node": "launch.gpus",
    "gpu-type": "launch.slurm.gpu_type",
}
_LISTS = {"setup": "launch.slurm.setup", "environment": "launch.slurm.environment"}  # no values of one word

_REASONS = {
    "a run's logs are in its folder": ("output", "error", "input", "open-mode"),
    "segctl finds its jobs by their names; --name is part of the run's": ("job-name",),
    "launch.save_before says how long before the time limit a job saves": ("signal",),
    "launch.requeue says whether a job goes on by itself": ("requeue", "no-requeue"),
    "segctl makes its arrays itself": ("array",),
    "segctl says itself what a job waits for": ("dependency", "kill-on-invalid-dep"),
    "segctl says itself what a job runs": ("wrap",),
    "--nodes and --procs (per node) say how many processes there are": (
        *("ntasks", "ntasks-per-node", "ntasks-per-gpu", "ntasks-per-core", "ntasks-per-socket", "tasks-per-node"),
    ),
    "--nodes and --gpus (per node) say how many GPUs there are": ("gpus", "gpus-per-task", "gpus-per-socket"),
    "launch.slurm.memory (mem) says how much memory there is on each node": ("mem-per-cpu", "mem-per-gpu"),
    "a job must know its time limit, which --time sets": ("time-min",),
    "a job runs in the folder that it was submitted from": ("chdir",),
    "a job has the environment that it was submitted from, and launch.slurm.environment": (
        *("export", "export-file", "get-user-env"),
    ),
    "segctl reads what sbatch prints": (
        *("wait", "test-only", "parsable", "quiet", "verbose", "version", "help", "usage"),
    ),
    "the job could not be followed: segctl asks the cluster that squeue asks by itself": ("clusters", "cluster"),
    "a job that has lost a node cannot go on without it": ("no-kill",),
}
_REFUSED = {name: reason for reason, names in _REASONS.items() for name in names}

_LETTERS = (
    "A=account B=extra-node-info C=constraint D=chdir F=nodefile G=gpus H=hold J=job-name L=licenses M=clusters "
    "N=nodes O=overcommit Q=quiet S=core-spec V=version W=wait a=array b=begin c=cpus-per-task d=dependency "
    "e=error h=help i=input k=no-kill m=distribution n=ntasks o=output p=partition q=qos s=oversubscribe t=time "
    "u=usage v=verbose w=nodelist x=exclude"
)
_SHORT = dict(pair.split("=") for pair in _LETTERS.split())

# The others, for the nearest name of one that is misspelt; clusters have options of their own beside them.
_OTHERS = (
    *("acctg-freq", "batch", "bb", "bbf", "begin", "cluster-constraint", "comment", "container-id", "contiguous"),
    *("core-spec", "cores-per-socket", "cpu-freq", "deadline", "delay-boot", "distribution", "exclude", "exclusive"),
    *("extra", "extra-node-info", "gpu-bind", "gpu-freq", "gres", "gres-flags", "hint", "hold", "licenses"),
    *("mail-type", "mail-user", "mcs-label", "mem-bind", "mincpus", "network", "nice", "nodefile", "nodelist"),
    *("overcommit", "oversubscribe", "power", "prefer", "priority", "profile", "propagate", "reboot", "reservation"),
    *("resv-ports", "segment", "sockets-per-node", "spread-job", "stepmgr", "switches", "thread-spec"),
    *("threads-per-core", "tmp", "tres-bind", "tres-per-task", "use-min-nodes", "wait-all-nodes", "wckey", "x11"),
)
_ALONE = frozenset(
    ("contiguous", "exclusive", "hold", "overcommit", "oversubscribe", "reboot", "spread-job", "use-min-nodes", "x11")
)


def name_of(key: str) -> str:
    """sbatch's long name of an option that may be written ``-p``, ``--partition`` or ``mem_per_cpu``."""
    bare = key.strip().lstrip("-")
    return _SHORT.get(bare, bare.replace("_", "-"))


def takes(option: str) -> str:
    """How ``--slurm`` takes a flag of sbatch, such as ``--slurm account=VALUE`` for ``--account``; empty where it is
    none, or not for the user to set."""
    name = name_of(option)
    if name in _ALONE:
        return f"--slurm {name}"
    return f"--slurm {name}=VALUE" if name in _OWN or name in _OTHERS else ""


def why_refused(name: str, value: Any) -> str:
    """Why an option of sbatch cannot stand among ``launch.slurm.options``; empty where it can.

    Args:
        name: From `name_of`.
    """
    own = {**_OWN, **_LISTS}
    if name in own:
        return f"{name} has a setting of its own, {own[name]}"
    if name in _REFUSED:
        return f"{name}: {_REFUSED[name]}"
    if name == "gres" and any(item.split(":")[0].strip() == "gpu" for item in str(value).split(",")):
        return "gres: --gpus says how many GPUs each node gives, and launch.slurm.gpu_type of which type"
    if not name or any(sign.isspace() or sign in "=#'\"" for sign in name):
        return f"{name!r} is not the name of an option of sbatch"
    if isinstance(value, str) and not value.isprintable():
        return f"{name}: its value is not one line of text"
    return ""


def settings(assignments: Iterable[str], given: Mapping[str, Any]) -> dict[str, str | bool]:
    """What arguments of ``--slurm``, ``KEY=VALUE`` or ``KEY``, set in the configuration, by dotted path.

    Args:
        given: What other flags set, so that nothing is said in two ways.

    Raises:
        ConfigError: One is none of sbatch's options, is segctl's to set, or contradicts another flag.
    """
    found: dict[str, str | bool] = {}
    for text in assignments:
        key, equals, value = (part.strip() for part in text.partition("="))
        name = name_of(key)
        if text.startswith("--") and not (takes(name) or name in _REFUSED):  # the next flag of the command line
            raise ConfigError(f"--slurm has no value: {key} follows.", "Write --slurm KEY=VALUE.")
        if equals and not value:
            raise ConfigError(f"--slurm {key}= has no value.", "Write KEY=VALUE, or KEY for one without a value.")
        if name == "gpus-per-node" and ":" in value:  # a100:4
            found["launch.slurm.gpu_type"], _, value = value.partition(":")
        path = _OWN.get(name)
        if path is None:
            _refuse(name, value)
            # In quotes, for an option of sbatch is never anything but text: comment=007 keeps its zeros.
            found[f"launch.slurm.options.{name}"] = json.dumps(value, ensure_ascii=False) if equals else True
            continue
        if not equals:
            raise ConfigError(f"--slurm {key} has no value.", f"An example: --slurm {key}=VALUE")
        if given.get(path, value) != value:
            raise ConfigError(f"{path} is given twice: as {given[path]!r}, and by --slurm {text}.", "Give one.")
        found[path] = value
    return found


def _refuse(name: str, value: str) -> None:
    if name in _LISTS:
        raise ConfigError(f"--slurm {name}: it takes more than a word.", f"Use --set {_LISTS[name]}=..., or a profile.")
    if why := why_refused(name, value):
        raise ConfigError(f"--slurm {why}.")
    near = difflib.get_close_matches(name, [*_OWN, *_LISTS, *_REFUSED, *_OTHERS], n=1, cutoff=0.85)
    if near and near[0] != name:
        raise ConfigError(
            f"--slurm {name}: sbatch has no such option that segctl knows. Did you mean {near[0]!r}?",
            f"If your cluster has it: --set launch.slurm.options.{name}=VALUE",
        )
