"""Profiles: where they are found, what goes before what, what is refused, and that a resolved run needs none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from segctl.config import dump, load_config, resolve
from segctl.config.profiles import BACKENDS, read_profiles
from segctl.errors import ConfigError
from segctl.launch.backends import BACKENDS as PLACES

FLAGS = {"model": "toy_plain", "dataset": "toy_roads"}
LAB = """
profiles:
  lab:
    on: slurm
    gpus: 4
    time: 12:00:00
    slurm:
      partition: gpu
      memory: 64G
      setup: [module load cuda]
      environment: {NCCL_SOCKET_IFNAME: ib0, OMP_NUM_THREADS: 4}
      options: {exclusive: true, comment: "007"}
  desk: {on: local, procs: 2, gpus: 0}
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository, which is the working directory."""
    folder = tmp_path / "home" / "project"
    (folder / ".git").mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder


@pytest.fixture
def user_file() -> Path:
    path = Path(os.environ["XDG_CONFIG_HOME"], "segctl", "profiles.yaml")
    path.parent.mkdir(parents=True)
    path.write_text(LAB)
    return path


def launch(flags=None, sets=(), recipe=None):
    return resolve(recipe, {**({} if recipe else FLAGS), **(flags or {})}, sets).launch


def test_a_profile_gives_the_values_of_the_section_launch(user_file):
    found = launch({"launch.on": "lab"})

    assert (found.on, found.profile, found.gpus, found.time, found.nodes) == ("slurm", "lab", 4, "12:00:00", 1)
    assert (found.slurm.partition, found.slurm.memory, found.slurm.setup) == ("gpu", "64G", ("module load cuda",))
    assert found.slurm.environment == {"NCCL_SOCKET_IFNAME": "ib0", "OMP_NUM_THREADS": "4"}
    assert found.slurm.options == {"exclusive": True, "comment": "007"}


def test_recipe_then_profile_then_flags_then_sets(user_file, recipe):
    recipe.write_text(
        recipe.read_text() + "launch: {gpus: 1, nodes: 2, time: 10, slurm: {account: a, environment: {A: 1}}}\n"
    )

    found = launch({"launch.on": "lab", "launch.gpus": "3", "launch.time": "20"}, ["launch.time=30"], recipe)

    assert (found.nodes, found.gpus, found.time) == (2, 3, "30")
    assert (found.slurm.account, found.slurm.partition) == ("a", "gpu")
    assert found.slurm.environment == {"A": "1", "NCCL_SOCKET_IFNAME": "ib0", "OMP_NUM_THREADS": "4"}


def test_a_recipe_that_names_a_profile_says_what_is_to_differ(user_file, recipe):
    recipe.write_text(recipe.read_text() + "launch: {on: lab, gpus: 1}\n")

    found = launch(recipe=recipe)
    assert (found.on, found.profile, found.gpus, found.time) == ("slurm", "lab", 1, "12:00:00")

    found = launch({"launch.on": "desk"}, recipe=recipe)
    assert (found.on, found.profile, found.gpus, found.procs) == ("local", "desk", 0, 2)


def test_processes_and_gpus_do_not_contradict_each_other_over_layers(user_file, recipe):
    recipe.write_text(recipe.read_text() + "launch: {procs: 3}\n")

    assert launch({"launch.on": "lab"}, recipe=recipe).procs is None


def test_a_backend_named_on_the_command_line_needs_no_profile(user_file, recipe):
    recipe.write_text(recipe.read_text() + "launch: {on: lab}\n")
    user_file.write_text("profiles: [")

    found = launch({"launch.on": "slurm"}, recipe=recipe)

    assert (found.on, found.profile, found.slurm.partition) == ("slurm", None, None)


def test_a_set_of_the_whole_section_may_name_a_profile(user_file):
    found = launch(sets=["launch={on: lab, gpus: 2, slurm: {qos: high}}"])

    assert (found.on, found.profile, found.gpus, found.time) == ("slurm", "lab", 2, "12:00:00")


def test_the_places_are_the_backends_that_there_are():
    assert set(BACKENDS) == set(PLACES)


# ---- the default


def test_the_default_holds_where_nobody_says_where(user_file, recipe):
    user_file.write_text(LAB + "default: lab\n")

    assert launch().profile == "lab"
    assert launch(recipe=recipe).profile == "lab"
    assert launch({"launch.on": "local"}).profile is None
    recipe.write_text(recipe.read_text() + "launch: {on: desk}\n")
    assert launch(recipe=recipe).profile == "desk"


def test_the_default_may_be_a_backend(user_file):
    user_file.write_text("default: slurm")

    assert (launch().on, launch().profile) == ("slurm", None)


def test_a_default_that_is_no_profile_is_refused(user_file):
    user_file.write_text(LAB + "default: lob\n")

    with pytest.raises(ConfigError) as caught:
        launch()
    assert caught.value.message == (
        f"{user_file}: default: 'lob' is neither a place to run nor a profile. Did you mean 'lab'?"
    )


def test_a_project_has_no_default(user_file, project):
    (project / "segctl.yaml").write_text("default: lab")

    with pytest.raises(ConfigError, match="cannot choose where its readers' jobs run"):
        launch()


# ---- replay


def test_a_resolved_configuration_looks_at_no_profile(user_file, project, tmp_path):
    config = resolve(None, {**FLAGS, "launch.on": "lab", "launch.nodes": 2})
    saved = tmp_path / "config.yaml"
    saved.write_text(dump(config))
    user_file.write_text("default: desk\nprofiles: {lab: {on: local}, desk: {on: local}}")

    assert load_config(saved) == config
    assert resolve(saved) == config
    user_file.write_text("profiles: [")
    assert resolve(saved) == config
    assert resolve(saved, {"launch.on": "slurm"}) == config
    assert launch({"launch.time": "5"}, recipe=saved).time == "5"


def test_another_place_drops_what_belonged_to_the_saved_profile(user_file, tmp_path):
    saved = tmp_path / "config.yaml"
    saved.write_text(dump(resolve(None, {**FLAGS, "launch.on": "lab", "launch.nodes": 2})))

    for place in ("local", "desk"):
        found = launch({"launch.on": place}, recipe=saved)
        assert (found.on, found.nodes, found.time, found.slurm.partition) == ("local", 1, None, None)

    user_file.write_text("profiles: {lab: {on: slurm, gpus: 8}}")
    found = launch({"launch.on": "lab"}, recipe=saved)
    assert (found.gpus, found.nodes, found.slurm.partition) == (8, 2, "gpu")


# ---- where they are found


def test_a_projects_profile_goes_before_the_users_as_a_whole(user_file, project):
    (project / "segctl.yaml").write_text("profiles: {lab: {on: slurm, slurm: {partition: cpu}}, own: {on: local}}")

    found = read_profiles()
    assert list(found.found) == ["desk", "lab", "own"]
    assert found.found["lab"].file == project / "segctl.yaml"
    assert found.found["lab"].hides == user_file
    assert (launch({"launch.on": "lab"}).slurm.partition, launch({"launch.on": "lab"}).gpus) == ("cpu", None)


def test_a_projects_file_is_found_from_below_but_not_above_its_root(project, monkeypatch):
    (project.parent / "segctl.yaml").write_text("profiles: {above: {on: local}}")
    below = project / "a" / "b"
    below.mkdir(parents=True)
    assert read_profiles(below).found == {}

    (project / "segctl.yaml").write_text("profiles: {root: {on: local}}")
    assert list(read_profiles(below).found) == ["root"]
    (project / "a" / "segctl.yaml").write_text("profiles: {nearest: {on: local}}")
    assert list(read_profiles(below).found) == ["nearest"]


def test_outside_of_a_repository_the_home_folder_ends_the_search(project):
    (project / ".git").rmdir()
    (project.parent / "segctl.yaml").write_text("profiles: {home: {on: local}}")
    (project.parent.parent / "segctl.yaml").write_text("profiles: {above: {on: local}}")

    assert list(read_profiles(project).found) == ["home"]


def test_outside_of_home_and_repositories_only_the_folder_itself_counts(tmp_path):
    folder = tmp_path / "elsewhere" / "below"
    folder.mkdir(parents=True)
    (folder.parent / "segctl.yaml").write_text("profiles: {above: {on: local}}")
    assert read_profiles(folder).found == {}

    (folder / "segctl.yaml").write_text("profiles: {here: {on: local}}")
    assert list(read_profiles(folder).found) == ["here"]


@pytest.mark.parametrize("content", ["", "# nothing\n", "profiles:\n", "profiles: {}\n", "---\n"])
def test_files_may_be_empty(content, user_file):
    user_file.write_text(content)

    assert read_profiles().found == {}
    assert launch().on == "local"


# ---- what is refused

FILES = [
    ("profiles: [", "this is not YAML"),
    ("- lab", "it holds list, not `profiles:`"),
    ("just words", "it holds str, not `profiles:`"),
    ("profile: {lab: {on: slurm}}", "profile: there is no such key. Did you mean 'profiles'?"),
    ("lab: {on: slurm}", "lab: there is no such key."),
    ("profiles: [lab]", "profiles is not a mapping of names to values."),
    ("profiles: {slurm: {on: slurm}}", "profiles.slurm: a profile cannot have this name"),
    ("profiles: {a b: {on: slurm}}", "'a b' is not the name of a profile."),
    ("profiles: {1: {on: slurm}}", "1 is not the name of a profile."),
    ("default: [lab]", "default: ['lab'] is not the name of a profile."),
    ("profiles: {lab: {on: slurm}, lab: {on: local}}", "the key 'lab' occurs twice"),
]


@pytest.mark.parametrize(("content", "words"), FILES, ids=[content for content, _ in FILES])
def test_files_that_hold_no_profiles_are_refused(content, words, user_file):
    user_file.write_text(content)

    with pytest.raises(ConfigError) as caught:
        launch()
    assert str(user_file) in caught.value.message
    assert words in caught.value.message


def test_a_file_that_cannot_be_read_is_refused(user_file):
    user_file.unlink()
    user_file.mkdir()

    with pytest.raises(ConfigError, match=r"profiles\.yaml cannot be read: Is a directory"):
        launch()


VALUES = [
    ("null", "profiles.bad.on is missing; it must be local or slurm."),
    ("slurm", "profiles.bad is not a mapping of settings."),
    ("{gpus: 2}", "profiles.bad.on is missing; it must be local or slurm."),
    ("{on: bad}", "profiles.bad.on is 'bad'; it must be local or slurm. A profile cannot be built on another."),
    ("{on: lab}", "profiles.bad.on is 'lab'; it must be local or slurm. A profile cannot be built on another."),
    ("{on: slurm, profile: lab}", "profiles.bad.profile: a profile cannot be built on another, or name itself."),
    ("{on: slurm, gpu: 2}", "profiles.bad.gpu: there is no such setting. Did you mean 'profiles.bad.gpus'?"),
    ("{on: slurm, epochs: 2}", "profiles.bad.epochs: there is no such setting."),
    (
        "{on: slurm, partition: gpu}",
        "profiles.bad.partition: there is no such setting. Did you mean 'profiles.bad.slurm.partition'?",
    ),
    ("{on: slurm, gpus: many}", "profiles.bad.gpus: 'many' is not a whole number of at least 0 or null."),
    ("{on: slurm, gpus: true}", "profiles.bad.gpus: true is not a whole number of at least 0 or null."),
    (
        "{on: slurm, time: tomorrow}",
        "profiles.bad.time: 'tomorrow' is not minutes, hours:minutes:seconds or days-hours, such as 90, 12:00:00, 2-0.",
    ),
    (
        "{on: slurm, slurm: {memory: 64 gigs}}",
        "profiles.bad.slurm.memory: '64 gigs' is not a number with K, M, G or T, such as 64G.",
    ),
    ("{on: slurm, slurm: {cpus_per_gpu: true}}", "profiles.bad.slurm.cpus_per_gpu: true is not a whole number above 0"),
    ("{on: slurm, slurm: {environment: {A: [1]}}}", "profiles.bad.slurm.environment.A: [1] is not a string."),
    ("{on: slurm, slurm: {environment: {A: true}}}", "profiles.bad.slurm.environment.A: true is not a string."),
    ("{on: slurm, slurm: {setup: module load}}", "profiles.bad.slurm.setup: 'module load' is not a list of strings."),
    ("{on: slurm, slurm: {container: 'run \"x'}}", "profiles.bad.slurm.container: 'run \"x' is refused: No closing"),
    ("{on: slurm, slurm: {options: {output: x}}}", "output: a run's logs are in its folder."),
    ("{on: slurm, slurm: {options: {mem: 1G}}}", "mem has a setting of its own, launch.slurm.memory."),
    ("{on: slurm, slurm: gpu}", "profiles.bad.slurm: 'gpu' is not a section."),
]


@pytest.mark.parametrize(("values", "sentence"), VALUES, ids=[values for values, _ in VALUES])
def test_a_wrong_profile_is_refused_where_it_is_used(values, sentence, user_file):
    user_file.write_text(f"{LAB}  bad: {values}\n")

    assert launch({"launch.on": "lab"}).profile == "lab"
    with pytest.raises(ConfigError) as caught:
        launch({"launch.on": "bad"})
    assert sentence in caught.value.message
    assert f"See {user_file}." in caught.value.hint


def test_an_unknown_place_is_told_what_there_is_and_where_it_was_looked_for(user_file, project):
    with pytest.raises(ConfigError) as caught:
        launch({"launch.on": "lba"})
    assert caught.value.message == "launch.on: 'lba' is neither a place to run nor a profile. Did you mean 'lab'?"
    assert caught.value.hint == (
        "The places are local and slurm, and the profiles are desk and lab. "
        f"Profiles are read from {user_file} and a project's segctl.yaml (none here)."
    )

    user_file.unlink()
    (project / "segctl.yaml").write_text("")
    with pytest.raises(ConfigError) as caught:
        launch({"launch.on": "slrum"})
    assert caught.value.message.endswith("Did you mean 'slurm'?")
    assert f"read from {user_file} (not there) and {project / 'segctl.yaml'}." in caught.value.hint


@pytest.mark.parametrize("flags", [{"launch.profile": "lab"}, {"launch.on": "lab", "launch.profile": "desk"}])
def test_which_profile_was_used_is_noted_not_given(flags, user_file, recipe):
    with pytest.raises(ConfigError, match=r"^launch\.profile: segctl notes here"):
        launch(flags)


def test_a_recipe_cannot_note_a_profile_either(user_file, recipe):
    recipe.write_text(recipe.read_text() + "launch: {profile: lab}\n")

    with pytest.raises(ConfigError, match=r"^launch\.profile: segctl notes here"):
        launch(recipe=recipe)


def test_slurms_settings_are_refused_where_the_job_does_not_go_there(user_file):
    for on in ({}, {"launch.on": "desk"}):
        with pytest.raises(ConfigError, match=r"^launch\.slurm\.partition: only SLURM takes this.* on local\."):
            launch({**on, "launch.slurm.partition": "gpu"})
    assert launch({"launch.on": "lab", "launch.slurm.partition": "cpu"}).slurm.partition == "cpu"


def test_variables_and_options_are_set_one_by_one(user_file):
    sets = ["launch.slurm.environment.A=007", "launch.slurm.options.nice=5", "launch.slurm.options.exclusive=false"]

    found = launch({"launch.on": "lab"}, sets).slurm

    assert found.environment["A"] == "007"
    assert found.environment["NCCL_SOCKET_IFNAME"] == "ib0"
    assert found.options == {"comment": "007", "nice": 5}
