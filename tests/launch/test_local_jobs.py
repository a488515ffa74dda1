"""Jobs on this machine, with real processes: how they end, fail, are stopped, wait and lose their supervisor."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from segctl.cancel import cancel
from segctl.errors import RunError
from segctl.launch.machine import Gpu
from segctl.logs import logs
from segctl.runs.files import read_json, write_json
from segctl.runs.process import alive
from segctl.runs.run import Run
from segctl.status import of, status

if TYPE_CHECKING:
    from launched import Jobs

UNTIL_STOPPED = """
import sys, time
(run_dir / f"up{rank}").write_text("up")
while not stop(): time.sleep(0.02)
sys.exit(75)
"""


def stopped(run: Run) -> str:
    return cancel(run.id, runs_dir=run.path.parent).state


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_each_rank_knows_who_it_is_and_nothing_of_other_launchers(
    jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "queue.py").write_text("raise RuntimeError('a file of the user shadows a module of Python')")
    monkeypatch.chdir(tmp_path)
    for name, value in {"SLURM_PROCID": "7", "MASTER_PORT": "1", "RANK": "9", "SUBMITIT_EXECUTOR": "slurm"}.items():
        monkeypatch.setenv(name, value)
    run = jobs.start(
        """
        import json, os, queue, signal
        print("hello from", rank)
        ctrl_c = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        facts = {**os.environ, "stop": stop(), "ctrl_c_ignored": ctrl_c, "cwd": os.getcwd()}
        (run_dir / f"rank{rank}").write_text(json.dumps(facts))
        """,
        procs=2,
    )
    done = jobs.ended(run)

    assert (done.state, done.why, done.attempt) == ("COMPLETED", "", 1)
    facts = [json.loads((run.path / f"rank{rank}").read_text()) for rank in (0, 1)]
    for rank, fact in enumerate(facts):
        wanted = {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": "2"}
        assert {name: fact[name] for name in wanted} == wanted
        assert not {"SLURM_PROCID", "MASTER_PORT"} & set(fact)
        assert (fact["SEGCTL_ATTEMPT"], fact["OMP_NUM_THREADS"], fact["CUDA_VISIBLE_DEVICES"]) == ("1", "1", "")
        assert (fact["stop"], fact["ctrl_c_ignored"], fact["cwd"]) == (None, True, os.getcwd())
    assert read_json(run.supervisor_file)["exit_codes"] == {"0": 0, "1": 0}  # type: ignore[index]
    assert list(logs(run.id, rank=1, runs_dir=run.path.parent)) == ["hello from 1"]
    jobs.until(lambda: alive(jobs.supervisor(run)), lambda living: living is False)


def test_cancel_ends_every_process_of_the_job(jobs: Jobs) -> None:
    """A data worker that ignores SIGTERM, and a grandchild with its own session, an empty environment and no parent."""
    run = jobs.start(
        """
        import os, signal, subprocess, sys, time
        worker = os.fork()
        if worker == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(300)
        orphan = subprocess.check_output(["sh", "-c", "env -i setsid sleep 300 >/dev/null 2>&1 & echo $!"])
        (run_dir / "pids").write_text(f"{os.getpid()} {worker} {int(orphan)}")
        while not stop(): time.sleep(0.02)
        (run_dir / "checkpoint").write_text(stop())
        sys.exit(75)
        """
    )
    pids = [int(pid) for pid in jobs.file(run, "pids").split()]
    assert all(is_running(pid) for pid in pids)

    found = cancel(run.id, runs_dir=run.path.parent)

    assert (found.state, (run.path / "checkpoint").read_text()) == ("CANCELLED", "SIGTERM")
    assert found.why.endswith("stopped by SIGTERM with a checkpoint")
    assert "segctl resume" in found.hint
    assert not any(is_running(pid) for pid in pids)
    with pytest.raises(RunError, match="was cancelled"):
        cancel(run.id, runs_dir=run.path.parent)


def test_a_rank_that_does_not_stop_is_killed(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGCTL_STOP_GRACE", "0.5")
    run = jobs.start("import os, time\n(run_dir / 'pid').write_text(str(os.getpid()))\nwhile True: time.sleep(1)")
    pid = int(jobs.file(run, "pid"))

    found = cancel(run.id, runs_dir=run.path.parent)

    assert found.state == "CANCELLED"
    assert found.why.endswith("killed: it did not stop within 0.5 s")
    assert not is_running(pid)


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("raise ValueError('13 classes')", "ValueError: 13 classes (rank 1, job.py:"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "rank 1 was killed by SIGKILL"),
        ("os._exit(0)", "rank 1 ended without finishing its work, though with exit code 0"),
    ],
)
def test_one_failing_rank_stops_the_others(jobs: Jobs, end: str, why: str) -> None:
    run = jobs.start(
        f"""
        import os, signal, sys, time
        (run_dir / f"up{{rank}}").write_text("up")
        while not (run_dir / "up0").exists(): time.sleep(0.02)
        if rank == 1:
            {end}
        deaf = "{end}".startswith("raise")  # as in a collective that never returns
        while deaf or not stop(): time.sleep(0.05)
        sys.exit(75)
        """,
        procs=2,
    )
    jobs.file(run, "up1")
    began = time.monotonic()
    found = jobs.ended(run)

    assert found.state == "FAILED"
    assert found.why.startswith(why)
    assert time.monotonic() - began < 30, "the other has three seconds; the rest is for a busy machine"
    assert f"segctl logs {run.id} --rank 1" in found.hint


def test_code_that_cannot_even_be_imported_says_why(jobs: Jobs, stand_in: Path) -> None:
    (stand_in / "segctl_jobs" / "main.py").write_text("import a_library_that_is_not_there")
    found = jobs.ended(jobs.start(""))
    assert found.state == "FAILED"
    assert found.why.startswith("ModuleNotFoundError: No module named 'a_library_that_is_not_there' (rank 0 on ")


def test_a_second_request_to_stop_is_a_hurried_one(jobs: Jobs) -> None:
    """The first is passed on by its name; then nobody waits for a checkpoint any more."""
    run = jobs.start("import time\nwhile True:\n time.sleep(0.02); (run_dir / 'asked').write_text(stop() or 'not yet')")
    supervisor = jobs.supervisor(run)
    jobs.file(run, "asked")
    os.kill(supervisor.pid, signal.SIGTERM)
    jobs.until(lambda: (run.path / "asked").read_text(), lambda asked: asked == "SIGTERM")
    began = time.monotonic()
    os.kill(supervisor.pid, signal.SIGTERM)

    assert jobs.ended(run).state == "CANCELLED"
    assert time.monotonic() - began < 30, "of the 60 s that a single request gives"


@pytest.mark.slow
def test_a_rank_that_hangs_after_its_error_does_not_hold_the_job(jobs: Jobs) -> None:
    """Its error is written, but the interpreter never ends, as with a broken process group."""
    run = jobs.start(
        """
        import json, time
        error = {"attempt": 1, "rank": 0, "type": "ValueError", "message": "no", "time": 1.0, "traceback": ""}
        (run_dir / "errors" / "rank0.json").write_text(json.dumps(error))
        time.sleep(300)
        """
    )
    found = jobs.ended(run)
    assert (found.state, found.why) == ("FAILED", "ValueError: no (rank 0)")


def test_a_killed_supervisor_takes_its_ranks_along_and_the_run_can_go_on(jobs: Jobs) -> None:
    run = jobs.start(
        """
        import os, subprocess, sys, time
        if attempt == 1:
            child = subprocess.Popen(["sleep", "300"])
            (run_dir / "pids").write_text(f"{os.getpid()} {child.pid}")
            while True: time.sleep(1)
        """
    )
    rank, child = (int(pid) for pid in jobs.file(run, "pids").split())
    with pytest.raises(RunError, match="still has a running job"):
        jobs.submit(run)

    os.kill(jobs.supervisor(run).pid, signal.SIGKILL)
    lost = jobs.wait(run, "LOST")
    jobs.until(lambda: is_running(rank), lambda running: not running, seconds=20)

    assert "gone without a word" in lost.why
    assert f"segctl resume {run.id}" in lost.hint
    jobs.submit(run)
    done = jobs.ended(run)
    assert (done.state, done.attempt) == ("COMPLETED", 2)
    assert not is_running(child), "what the first attempt left behind is cleared away before the second begins"


def test_cpu_jobs_wait_for_their_turn_in_order(jobs: Jobs) -> None:
    first = jobs.start(UNTIL_STOPPED, cpu_slots=1)
    jobs.file(first, "up0")
    second = jobs.start("", cpu_slots=1)
    third = jobs.start("", cpu_slots=1)
    fourth = jobs.start("", cpu_slots=1)

    for run in (second, third, fourth):
        waiting = jobs.until(lambda run=run: of([run])[0], lambda seen: "slot" in seen.why)
        assert (waiting.state, first.id in waiting.why) == ("PENDING", True)
    assert stopped(fourth) == "CANCELLED"
    assert "while it waited" in of([fourth])[0].why
    assert {of([run])[0].state for run in (second, third)} == {"PENDING"}
    assert stopped(first) == "CANCELLED"
    assert [jobs.ended(run).state for run in (second, third)] == ["COMPLETED"] * 2
    ended, began = (read_json(run.supervisor_file)[key] for run, key in ((second, "ended"), (third, "started")))  # type: ignore[index]
    assert ended <= began


def test_gpu_jobs_share_the_visible_gpus(jobs: Jobs) -> None:
    """No GPU is needed for this: what is given out is what stands in CUDA_VISIBLE_DEVICES."""
    gpus = {"device": "cuda", "gpus_per_node": 1, "gpus": (Gpu("3", "GPU-c"), Gpu("1", "GPU-a"))}
    shows = "import os\n(run_dir / 'gpu').write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    one, two = (jobs.start(shows + UNTIL_STOPPED, **gpus) for _ in range(2))  # type: ignore[arg-type]
    assert [jobs.file(run, "gpu") for run in (one, two)] == ["3", "1"]
    # The same GPU by its other name.
    third = jobs.start(shows, device="cuda", gpus_per_node=1, gpus=(Gpu("GPU-c", "GPU-c"),))
    waiting = jobs.until(lambda: of([third])[0], lambda seen: "waits" in seen.why)
    assert waiting.why == f"waits for 1 GPU: 0 of 1 free, used by {one.id}"

    assert stopped(one) == "CANCELLED"
    assert jobs.ended(third).state == "COMPLETED"
    assert jobs.file(third, "gpu") == "GPU-c"
    assert stopped(two) == "CANCELLED"


def test_ctrl_c_and_the_end_of_the_terminal_do_not_reach_a_job(jobs: Jobs) -> None:
    import pty

    run = jobs.make(
        "import time\n(run_dir / 'up').write_text('up')\nwhile not (run_dir / 'go').exists(): time.sleep(0.02)"
    )
    submitter = run.path / "submit.py"
    submitter.write_text(
        "import sys, time; from pathlib import Path; from segctl.launch.backends import backend\n"
        "from segctl.launch.plan import LaunchPlan; from segctl.runs.run import Run\n"
        "backend('local').submit(Run(Path(sys.argv[1])), LaunchPlan('local', 1, 1, 'cpu', 0, 1, cpu_slots=8))\n"
        "print('submitted', flush=True); time.sleep(300)"
    )
    child, terminal = pty.fork()
    if child == 0:  # the leader of a session whose terminal this is
        os.execv(sys.executable, [sys.executable, str(submitter), str(run.path)])
    said = b""
    while b"submitted" not in said:
        said += os.read(terminal, 1024)
    jobs.file(run, "up")
    os.write(terminal, b"\x03")
    _, ended = os.waitpid(child, 0)
    os.close(terminal)  # the kernel sends SIGHUP to what is left in the session
    assert os.waitstatus_to_exitcode(ended) != 0, "the command itself was interrupted"

    (run.path / "go").write_text("")
    assert jobs.ended(run).state == "COMPLETED"


def test_a_process_that_got_the_number_later_is_not_the_job(jobs: Jobs) -> None:
    run = jobs.start(UNTIL_STOPPED)
    jobs.file(run, "up0")
    first = jobs.supervisor(run).pid
    os.kill(first, signal.SIGKILL)
    with subprocess.Popen(["sleep", "600"]) as stranger:
        for path in (run.submission_file, run.supervisor_file):
            write_json(path, json.loads(path.read_text().replace(f'"pid": {first}', f'"pid": {stranger.pid}')))
        assert jobs.supervisor(run).pid == stranger.pid

        assert jobs.wait(run, "LOST").why.startswith(f"its supervisor (process {stranger.pid}) is gone")
        cancel(run.id, runs_dir=run.path.parent)
        time.sleep(0.2)
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.slow
def test_a_disk_that_is_full_when_the_job_ends_leaves_nothing_running(jobs: Jobs) -> None:
    """The supervisor can write no more; the job still ends in order, and what the rank wrote tells how."""
    run = jobs.start(
        """
        import json, os, time
        (run_dir / "pid").write_text(str(os.getpid()))
        while not (run_dir / "go").exists(): time.sleep(0.02)
        (run_dir / "status.json").write_text(json.dumps({"attempt": 1, "phase": "completed", "heartbeat": time.time()}))
        """
    )
    pid = int(jobs.file(run, "pid"))
    resource.prlimit(jobs.supervisor(run).pid, resource.RLIMIT_FSIZE, (0, 0))
    (run.path / "go").write_text("")

    jobs.until(lambda: alive(jobs.supervisor(run)), lambda living: living is False)
    assert not is_running(pid)
    assert (of([run])[0].state, of([run])[0].rests_on) == ("COMPLETED", "status.json")


def test_runs_of_other_machines_are_unknown_and_left_alone(jobs: Jobs) -> None:
    run = jobs.make("")
    attempt = {"number": 1, "submitted": 1.0, "host": "castle", "pid": 1, "pid_started": "x/1", "pid_namespace": "y"}
    write_json(run.submission_file, {"backend": "local", "attempts": [attempt]})
    (found,) = status(run.id, runs_dir=run.path.parent)

    assert (found.state, found.hint) == ("UNKNOWN", "Run 'segctl status' on castle.")
    with pytest.raises(RunError, match="cannot be cancelled from here"):
        cancel(run.id, runs_dir=run.path.parent)
    assert not run.cancel_file.exists()


def test_a_run_whose_submission_broke_off(jobs: Jobs) -> None:
    run = jobs.make("")
    assert of([run])[0].state == "PENDING"
    write_json(run.run_file, {**json.loads(run.run_file.read_text()), "created": time.time() - 100})
    assert (of([run])[0].state, "submitting command" in of([run])[0].why) == ("LOST", True)
