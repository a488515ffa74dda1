"""``--slurm KEY=VALUE``: what sets a setting of segctl's own, what is passed on as it is, and what is refused."""

from __future__ import annotations

import pytest

from segctl.config import resolve
from segctl.config.slurm_options import settings
from segctl.errors import ConfigError

ON_SLURM = {"model": "toy_plain", "dataset": "toy_roads", "launch.on": "slurm"}


def slurm(*assignments: str):
    return resolve(None, {**ON_SLURM, **settings(assignments, {})}).launch


@pytest.mark.parametrize(
    ("text", "read", "value"),
    [
        ("partition=gpu", lambda launch: launch.slurm.partition, "gpu"),
        ("p=gpu", lambda launch: launch.slurm.partition, "gpu"),
        ("--partition=gpu", lambda launch: launch.slurm.partition, "gpu"),
        ("-p=gpu", lambda launch: launch.slurm.partition, "gpu"),
        ("account=007", lambda launch: launch.slurm.account, "007"),
        ("qos=high", lambda launch: launch.slurm.qos, "high"),
        ("constraint=a100|h100", lambda launch: launch.slurm.constraint, "a100|h100"),
        ("mem=64G", lambda launch: launch.slurm.memory, "64G"),
        ("memory=64G", lambda launch: launch.slurm.memory, "64G"),
        ("cpus-per-task=8", lambda launch: launch.slurm.cpus_per_gpu, 8),
        ("cpus_per_gpu=8", lambda launch: launch.slurm.cpus_per_gpu, 8),
        ("time=1-0", lambda launch: launch.time, "1-0"),
        ("t=90", lambda launch: launch.time, "90"),
        ("nodes=2", lambda launch: launch.nodes, 2),
        ("gpus-per-node=4", lambda launch: launch.gpus, 4),
        ("gpus-per-node=a100:4", lambda launch: (launch.gpus, launch.slurm.gpu_type), (4, "a100")),
        ("container=run x.sif", lambda launch: launch.slurm.container, "run x.sif"),
    ],
)
def test_what_has_a_setting_of_its_own_is_that_setting(text, read, value):
    assert read(slurm(text)) == value
    assert slurm(text).slurm.options == {}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("exclude=n[1-3],n7", {"exclude": "n[1-3],n7"}),
        ("x=n1", {"exclude": "n1"}),
        ("exclusive", {"exclusive": True}),
        ("exclusive=user", {"exclusive": "user"}),
        ("mail_user=a@b.c", {"mail-user": "a@b.c"}),
        ("comment=007", {"comment": "007"}),
        ("comment=true", {"comment": "true"}),
        ('comment=a "b" c=d', {"comment": 'a "b" c=d'}),
        ("comment=[a, b", {"comment": "[a, b"}),
        ("gres=tmpdisk:100", {"gres": "tmpdisk:100"}),
        ("container-image=nvcr.io/x", {"container-image": "nvcr.io/x"}),
        ("some-site-option=1", {"some-site-option": "1"}),
    ],
)
def test_others_are_passed_on_as_they_are(text, options):
    assert slurm(text).slurm.options == options


def test_of_one_given_twice_the_later_holds():
    assert slurm("exclude=n1", "nice=5", "exclude=n2").slurm.options == {"exclude": "n2", "nice": "5"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("output=log.txt", "--slurm output: a run's logs are in its folder."),
        ("o=log.txt", "--slurm output: a run's logs are in its folder."),
        ("job-name=x", "--slurm job-name: segctl finds its jobs by their names; --name is part of the run's."),
        ("signal=USR1@60", "--slurm signal: launch.save_before says how long before the time limit a job saves."),
        ("requeue", "--slurm requeue: launch.requeue says whether a job goes on by itself."),
        ("no_requeue", "--slurm no-requeue: launch.requeue says whether a job goes on by itself."),
        ("array=1-3", "--slurm array: segctl makes its arrays itself."),
        ("dependency=afterok:1", "--slurm dependency: segctl says itself what a job waits for."),
        ("wrap=ls", "--slurm wrap: segctl says itself what a job runs."),
        ("ntasks=4", "--slurm ntasks: --nodes and --procs (per node) say how many processes there are."),
        ("gpus=8", "--slurm gpus: --nodes and --gpus (per node) say how many GPUs there are."),
        (
            "gres=gpu:a100:4",
            "--slurm gres: --gpus says how many GPUs each node gives, and launch.slurm.gpu_type of which type.",
        ),
        (
            "mem-per-cpu=1G",
            "--slurm mem-per-cpu: launch.slurm.memory (mem) says how much memory there is on each node.",
        ),
        ("export=NONE", "--slurm export: a job has the environment that it was submitted from"),
        ("clusters=other", "--slurm clusters: the job could not be followed"),
        ("setup=module load", "--slurm setup: it takes more than a word."),
        ("partion=gpu", "--slurm partion: sbatch has no such option that segctl knows. Did you mean 'partition'?"),
        ("exclud=n1", "--slurm exclud: sbatch has no such option that segctl knows. Did you mean 'exclude'?"),
        ("partition", "--slurm partition has no value."),
        ("exclude=", "--slurm exclude= has no value."),
        ("--dry-run", "--slurm has no value: --dry-run follows."),
        ("--name=first", "--slurm has no value: --name follows."),
        ("=x", "--slurm '' is not the name of an option of sbatch."),
        ("two words=x", "--slurm 'two words' is not the name of an option of sbatch."),
        ("comment=a\nb", "--slurm comment: its value is not one line of text."),
    ],
)
def test_what_breaks_or_contradicts_is_refused(text, sentence):
    with pytest.raises(ConfigError) as caught:
        slurm(text)
    assert caught.value.message.startswith(sentence)


def test_one_thing_is_not_said_in_two_ways():
    with pytest.raises(ConfigError, match=r"launch\.time is given twice: as '90', and by --slurm time=60\."):
        settings(["time=60"], {"launch.time": "90"})
    assert settings(["time=90"], {"launch.time": "90"}) == {"launch.time": "90"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("launch.slurm.options.output=x", "output: a run's logs are in its folder."),
        ("launch.slurm.options={mem: 1G}", "mem has a setting of its own, launch.slurm.memory."),
        ("launch.slurm.options={--p: gpu}", "partition has a setting of its own, launch.slurm.partition."),
        ("launch.slurm.options={gres: 'gpu:2'}", "gres: --gpus says how many GPUs each node gives"),
    ],
)
def test_the_configuration_refuses_the_same(text, reason):
    with pytest.raises(ConfigError) as caught:
        resolve(None, ON_SLURM, [text])
    assert reason in caught.value.message


@pytest.mark.parametrize("text", ["nodes=2-4", "gpus-per-node=many", "time=soon", "mem=lots"])
def test_values_are_checked_where_they_end_up(text):
    with pytest.raises(ConfigError, match=r"^launch\.(nodes|gpus|time|slurm\.memory): "):
        slurm(text)
