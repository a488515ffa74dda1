"""The table of a sweep: made whole or not at all, found by whatever names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from segctl.errors import RunError
from segctl.runs import store, sweeps
from segctl.runs.run import Run
from segctl.runs.sweeps import Sweep


def runs(folder: Path, *names: str) -> list[Run]:
    return [store.create("", {"name": name}, folder) for name in names]


def make(folder: Path, name: str | None = None) -> Sweep:
    made = runs(folder, "one", "two")
    sweep_id = sweeps.new_id(name or "sweep-enet", folder)
    return sweeps.create(sweep_id, folder, made, [{"seed": 1}, {"seed": 2}], name=name)


def test_a_sweep_is_found_by_whatever_names_it(tmp_path: Path) -> None:
    sweep, other = make(tmp_path, "lrs"), make(tmp_path)
    for reference in (sweep.id, sweep.id[:-2], sweep.id[-4:], "lrs", sweep.path, sweep.path / "sweep.json"):
        assert sweeps.meant(reference, tmp_path) == sweep
    assert sweeps.find(other.id, tmp_path) == other
    assert [run.id for run in sweep.runs] == [run.path.name for run in sweep.runs]
    assert sweep.points == ({"seed": 1}, {"seed": 2})


def test_a_run_is_no_sweep_and_a_sweep_no_run(tmp_path: Path) -> None:
    sweep = make(tmp_path, "lrs")
    assert sweeps.meant(sweep.runs[0].id, tmp_path) is None
    assert sweeps.meant(sweep.runs[0].path, tmp_path) is None
    assert {run.id for run in store.all_runs(tmp_path)} == {run.id for run in sweep.runs}
    for reference in (sweep.id, "lrs"):
        with pytest.raises(RunError, match=f"{reference} is a sweep, not a run"):
            store.find(reference, tmp_path)
    with pytest.raises(RunError, match=f"There is no sweep 'nothing' .*{sweep.id}"):
        sweeps.find("nothing", tmp_path)


def test_what_may_mean_several_is_refused_with_their_names(tmp_path: Path) -> None:
    sweep = make(tmp_path, "lrs")
    (run,) = runs(tmp_path, "lrs")
    with pytest.raises(RunError, match=f"{sweep.id} and {run.id}"):
        sweeps.meant("lrs", tmp_path)
    with pytest.raises(RunError, match="may mean"):
        sweeps.meant("2", tmp_path)


def test_a_folder_of_a_run_may_be_removed(tmp_path: Path) -> None:
    sweep = make(tmp_path)
    store.remove(sweep.runs[0])
    assert sweeps.read(sweep.path).present == (sweep.runs[1],)


def test_nothing_is_left_of_a_sweep_that_could_not_be_made(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "shared").write_text("")
        raise OSError(28, "No space left on device")

    made = runs(tmp_path, "one")
    with pytest.raises(RunError, match="No space left on device"):
        sweeps.create("sweep", tmp_path, made, [{}], fail)
    assert [path.name for path in tmp_path.iterdir()] == [made[0].id]


def test_a_damaged_table_is_told(tmp_path: Path) -> None:
    sweep = make(tmp_path)
    sweep.file.write_text("{")
    with pytest.raises(RunError, match=r"no sweep\.json that can be read"):
        sweeps.meant(sweep.id, tmp_path)
