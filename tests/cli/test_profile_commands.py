"""``segctl profiles`` and the flags that say where a job runs, as a person uses them on a machine without a cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from programs import TINY

import segctl as api
from segctl.errors import ConfigError

LAB = """
profiles:
  lab: {on: slurm, gpus: 4, time: 12:00:00, slurm: {partition: gpu, memory: 64G, environment: {A: 1}}}
  desk: {on: local, procs: 2, gpus: 0}
  typo: {on: slurm, slurm: {partion: gpu}}
default: desk
"""


@pytest.fixture(autouse=True)
def user_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = Path(os.environ["XDG_CONFIG_HOME"], "segctl", "profiles.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(LAB)
    return path


def test_the_list_shows_what_each_asks_for_and_where_it_stands(segctl: Callable, tmp_path: Path) -> None:
    project = "profiles: {lab: {on: slurm, nodes: 2, time: 1-0, slurm: {partition: cpu}}}"
    (tmp_path / "segctl.yaml").write_text(project)

    said = segctl("profiles", "list")

    assert said.code == 0
    assert [" ".join(line.split()) for line in said.out.splitlines()] == [
        "NAME ON PARTITION NODES GPUS TIME FROM",
        "desk local 1 0 ~/config/segctl/profiles.yaml the default",
        "lab slurm cpu 2 1-0 ~/segctl.yaml goes before the one in ~/config/segctl/profiles.yaml",
        "typo ~/config/segctl/profiles.yaml broken: profiles.typo.slurm.partion: there is no such setting. "
        "Did you mean 'profiles.typo.slurm.partition'?",
    ]


def test_without_profiles_the_list_says_where_they_would_stand(segctl: Callable, user_file: Path) -> None:
    user_file.unlink()

    said = segctl("profiles", "list")

    assert (said.code, said.out) == (0, "")
    assert f"There are no profiles. Profiles are read from {user_file} (not there)" in said.err
    example = said.err.partition("\n\n")[2]
    user_file.write_text(example)
    assert segctl("profiles", "show", "lab").code == 0


def test_show_gives_the_values_and_what_they_amount_to(segctl: Callable, user_file: Path) -> None:
    said = segctl("profiles", "show", "lab")
    head, _, resolved = said.out.partition("# amounts to\n")

    assert (said.code, head.splitlines()[0]) == (0, f"# profile lab in {user_file}")
    assert yaml.safe_load(head)["slurm"] == {"partition": "gpu", "memory": "64G", "environment": {"A": 1}}
    launch = yaml.safe_load(resolved)["launch"]
    assert (launch["on"], launch["profile"], launch["nodes"], launch["gpus"]) == ("slurm", "lab", 1, 4)
    assert launch["slurm"]["environment"] == {"A": "1"}

    assert "\nlaunch:\n" in segctl("profiles", "show", "desk").out
    assert "slurm:" not in segctl("profiles", "show", "desk").out


def test_programs_read_json(segctl: Callable, user_file: Path) -> None:
    listed = {each["name"]: each for each in json.loads(segctl("profiles", "list", "--json").out)}
    shown = json.loads(segctl("profiles", "show", "lab", "--json").out)

    assert listed["lab"] == shown
    assert (shown["file"], shown["values"]["time"], shown["launch"]["time"]) == (str(user_file), "12:00:00", "12:00:00")
    assert (listed["desk"]["default"], listed["lab"]["default"]) == (True, False)
    assert (listed["typo"]["launch"], "partion" in listed["typo"]["problem"]) == (None, True)


WRONG = [
    (["show", "lba"], ["'lba' is neither a place to run nor a profile", "Did you mean 'lab'?", "desk, lab and typo"]),
    (["show", "typo"], ["profiles.typo.slurm.partion", "'profiles.typo.slurm.partition'", "profiles.yaml"]),
    (["show", "slurm"], ["'slurm' is a backend", "segctl profiles list"]),
    (["check", "lba"], ["'lba'", "'lab'"]),
    (["check", "typo"], ["profiles.typo.slurm.partion"]),
    (["lsit"], ["lsit", "list"]),
]


@pytest.mark.parametrize(("argv", "words"), WRONG, ids=[" ".join(argv) for argv, _ in WRONG])
def test_wrong_names_are_refused_in_a_sentence(argv: list[str], words: list[str], segctl: Callable) -> None:
    said = segctl("profiles", *argv)

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: ")
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err


@pytest.mark.parametrize("command", [["profiles", "list"], ["train", "quickstart", "--dry-run"]], ids=" ".join)
def test_a_broken_file_is_refused_with_its_line(command: list[str], segctl: Callable, user_file: Path) -> None:
    user_file.write_text("profiles:\n  lab: {on: slurm\n  desk: {on: local}\n")

    said = segctl(*command)

    assert said.code == 1
    assert f"error: {user_file}:3:" in said.err
    assert "this is not YAML" in said.err


def test_a_local_profile_is_checked_where_it_stands(segctl: Callable, tmp_path: Path) -> None:
    said = segctl("profiles", "check", "desk")

    assert said.code == 0, said.out
    assert [line.split()[:2] for line in said.out.splitlines()[1:-1]] == [
        ["request", "ok"],
        ["runs", "folder"],
        ["Python", "ok"],
    ]
    assert said.out.splitlines()[1].endswith("2 processes on the CPU.")
    assert said.out.splitlines()[-1] == "desk can be used."
    assert not (tmp_path / "runs").exists()


def test_a_check_that_fails_leaves_with_1(segctl: Callable, user_file: Path, tmp_path: Path) -> None:
    user_file.write_text("profiles: {big: {on: local, gpus: 99}}")

    said = segctl("profiles", "check", "big", "--json")

    assert said.code == 1
    report = json.loads(said.out)
    assert (report["name"], report["on"], report["passed"]) == ("big", "local", False)
    assert [(check["name"], check["passed"]) for check in report["checks"]] == [("request", False)]
    assert report["checks"][0]["found"].startswith("99 GPUs were asked for")


def test_without_slurm_its_commands_are_missed(
    segctl: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    said = segctl("profiles", "check", "lab")

    assert said.code == 1
    assert "commands  FAILED  Not found on this machine: sbatch, srun, squeue, scontrol, scancel and sinfo." in said.out
    assert said.out.splitlines()[-1] == "Jobs would fail on lab."


def test_the_same_from_python() -> None:
    assert [each.name for each in api.profiles()] == ["desk", "lab", "typo"]
    assert api.profile("lab").launch.gpus == 4
    with pytest.raises(ConfigError, match="'nobody' is neither"):
        api.check_profile("nobody")


# ---- flags of train, eval and resume

NO_CLUSTER = [
    (["--on", "lba"], ["launch.on: 'lba'", "Did you mean 'lab'?"]),
    (["--on", "typo"], ["profiles.typo.slurm.partion"]),
    (["--partition", "gpu"], ["launch.slurm.partition: only SLURM takes this", "--on slurm"]),
    (["--slurm", "exclude=n1"], ["launch.slurm.options.exclude: only SLURM takes this"]),
    (["--on", "lab", "--slurm", "output=x"], ["--slurm output: a run's logs are in its folder."]),
    (["--on", "lab", "--slurm", "partion=x"], ["Did you mean 'partition'?"]),
    (["--on", "lab", "--time", "90", "--slurm", "time=60"], ["launch.time is given twice"]),
    (["--on", "lab", "--partition", "a", "--slurm", "p=b"], ["launch.slurm.partition is given twice"]),
    (["--on", "lab", "--time", "soon"], ["launch.time: 'soon' is not minutes"]),
    (["--on", "lab", "--slurm", "mem=lots"], ["launch.slurm.memory: 'lots' is not a number"]),
    (["--on", "lab", "--set", "launch.profile=desk"], ["launch.profile", "--on NAME"]),
]


@pytest.mark.parametrize(("argv", "words"), NO_CLUSTER, ids=[" ".join(argv) for argv, _ in NO_CLUSTER])
def test_wrong_places_and_options_are_refused(argv: list[str], words: list[str], segctl: Callable) -> None:
    said = segctl(*TINY, *argv)

    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("error: ")
    for word in words:
        assert word in said.err


def test_the_default_profile_decides_and_shows_in_the_plan(segctl: Callable) -> None:
    told = "It runs on local, by profile desk; --on chooses another place."
    plan = json.loads(segctl(*TINY, "--dry-run", "--json").out)
    assert (plan["plan"]["procs_per_node"], plan["config"]["launch"]["profile"]) == (2, "desk")
    assert told in plan["notices"]

    for place, procs, profile in (("local", 1, None), ("desk", 2, "desk")):
        plan = json.loads(segctl(*TINY, "--dry-run", "--json", "--on", place).out)
        assert (plan["plan"]["procs_per_node"], plan["config"]["launch"]["profile"]) == (procs, profile)
        assert told not in plan["notices"]


def test_the_example_of_the_readme_is_a_profile(segctl: Callable, user_file: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    user_file.write_text(readme.partition("## Profiles")[2].partition("```yaml\n")[2].partition("```")[0])

    shown = json.loads(segctl("profiles", "show", "lab", "--json").out)

    assert (shown["default"], shown["launch"]["time"]) == (True, "12:00:00")
    assert shown["launch"]["slurm"]["options"] == {"exclude": "n7"}
