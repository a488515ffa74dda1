"""`segctl why`: the cause in a line, the lines it rests on, the next command."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import TINY, Said

import segctl
from segctl.errors import RunError

HERE = os.uname().nodename
NOW = time.time()


def make(name: str, **files: dict[str, Any]) -> Path:
    """A run by the files that it left."""
    run = Path(os.environ["SEGCTL_RUNS"]) / f"20260101-000000-{name}-abcd"
    (run / "errors").mkdir(parents=True)
    (run / "logs").mkdir()
    plan = {"backend": "local", "time_limit": 600, "hang_timeout": 900}
    attempt = {"number": 1, "submitted": NOW, "host": HERE, "pid": 1, "pid_started": "x/1", "plan": plan}
    contents = {
        "run": {"kind": "train", "model": "enet", "dataset": "shapes", "created": NOW, "id": run.name},
        "submission": {"backend": "local", "attempts": [attempt]},
        "supervisor": {"attempt": 1, "state": "FAILED", "started": NOW - 60, "ended": NOW},
        **files,
    }
    for file, content in contents.items():
        (run / f"{file}.json").write_text(json.dumps(content))
    return run


def failed(rank: int, kind: str, message: str, **more: Any) -> dict[str, Any]:
    return {"attempt": 1, "rank": rank, "type": kind, "message": message, "time": NOW, "host": "n1", **more}


def put(run: Path, *errors: dict[str, Any]) -> None:
    for error in errors:
        (run / "errors" / f"rank{error['rank']}.json").write_text(json.dumps(error))


def test_of_the_failing_ranks_the_cause_and_what_to_do(segctl: Callable[..., Said]) -> None:
    run = make("raise")
    traceback = 'Traceback:\n  File "/home/ada/train.py", line 83, in step\n    fail()\nRuntimeError: boom\n'
    put(run, failed(0, "RuntimeError", "Connection closed by peer"))
    put(run, failed(2, "RuntimeError", "boom", traceback=traceback))
    (run / "logs" / "attempt1-rank2.log").write_text("step 7\nx ERROR this process failed\nTraceback\n")
    said = segctl("why", run.name)
    assert said.code == 0
    lines = [line.strip() for line in said.out.splitlines()]
    assert lines[0] == f"{run.name} is FAILED: RuntimeError: boom (rank 2 on n1, train.py:83 in step)"
    assert [line for line in lines if line.endswith(("rank2.json", "rank2.log"))]
    assert "/home/ada/train.py:83 in step" in lines
    assert "step 7" in lines
    commands = lines[lines.index("Next:") + 1 :]
    assert commands == [f"segctl logs {run.name} --rank 2", f"segctl resume {run.name}"]

    (whole,) = [json.loads(segctl("why", run.name, "--json").out)]
    assert (whole["kind"], whole["rank"], whole["host"]) == ("person", 2, "n1")
    assert whole["evidence"][0]["source"] == str(run.resolve() / "errors" / "rank2.json")
    assert whole["next"] == commands


def test_a_death_names_how_it_ended() -> None:
    death = {"rank": 1, "code": -9, "host": "n2", "out_of_memory": True, "last_line": ""}
    run = make("kill", supervisor={"attempt": 1, "state": "FAILED", "deaths": [death]})
    found = segctl.why(run)
    assert (found.kind, found.rank, found.host) == ("out_of_memory_host", 1, "n2")
    assert found.cause == "rank 1 on n2 was killed by SIGKILL: the memory of the machine had run out"
    assert found.evidence[0].lines == ("rank 1 on n2: killed by SIGKILL, memory had run out",)


def test_a_hang_shows_who_waited_and_where_the_stacks_are() -> None:
    run = make("hang")
    hang = {"waiting": False, "since": NOW - 900, "world_size": 2, "stacks": "stacks/attempt1-rank1.txt"}
    put(run, failed(1, "HangError", "no progress for 900 s while training, in read (d.py:9)", **hang))
    put(
        run,
        failed(
            0, "HangError", "no progress for 900 s while training, in all_reduce (x.py:1)", **{**hang, "waiting": True}
        ),
    )
    (run / "stacks").mkdir()
    (run / "stacks" / "attempt1-rank1.txt").write_text("stacks")
    found = segctl.why(run)
    assert (found.kind, found.rank) == ("hang", 1)
    assert found.cause == "no progress for 900 s while training, in read (d.py:9) (rank 1 on n1)"
    sources = [each.source for each in found.evidence]
    assert str(run.resolve() / "stacks" / "attempt1-rank1.txt") in sources
    assert any(
        "rank 0 on n1: no progress" in line and "all_reduce" in line for each in found.evidence for line in each.lines
    )
    assert found.next[0] == f"segctl resume {run.name}"


def test_a_full_gpu_gives_the_command_that_keeps_the_batch() -> None:
    run = make("memory")
    hint = "The same batch in parts of 2: 'segctl train r/config.yaml --set train.accumulate=4'. Or use more GPUs "
    hint += "('segctl resume r --gpus N'), or smaller crops (augment.crop)."
    put(run, failed(0, "DeviceMemoryError", "The memory of the GPU does not suffice.", user_error=True, hint=hint))
    found = segctl.why(run)
    assert (found.kind, found.hint) == ("out_of_memory_device", hint)
    assert found.next == ("segctl train r/config.yaml --set train.accumulate=4", f"segctl logs {run.name}")


@pytest.mark.parametrize(
    ("state", "reason", "kind", "first"),
    [
        (
            "TIMEOUT",
            "stopped after its time limit; it does not go on by itself: x",
            "time_limit",
            "resume RUN --time 20",
        ),
        ("CANCELLED", "stopped by SIGTERM with a checkpoint", "cancelled", "resume RUN"),
        ("FAILED", "a node failed (n1), and it was not requeued", "node", "resume RUN"),
        ("COMPLETED", "", None, "eval RUN"),
    ],
)
def test_other_ends(state: str, reason: str, kind: str | None, first: str) -> None:
    run = make(state.lower(), supervisor={"attempt": 1, "state": state, "reason": reason, "started": NOW, "ended": NOW})
    found = segctl.why(run)
    assert (found.state, found.kind) == (state, kind)
    assert reason in found.cause
    assert found.next[0] == f"segctl {first.replace('RUN', run.name)}"


def test_who_cancelled_it_and_how_often_it_was_interrupted() -> None:
    start = {"started": NOW - 100, "ended": NOW - 50, "nodes": "n[0-1]"}
    history = [{"restart": 0, "reason": "after its time limit", **start}, {"restart": 1, "reason": "", **start}]
    said = {"attempt": 1, "restart": 1, "state": "CANCELLED", "reason": "stopped", "history": history}
    run = make("cancelled", supervisor=said, cancel={"attempt": 1, "user": "ada"})
    found = segctl.why(run)
    assert (found.kind, found.cause) == ("cancelled", "cancelled by ada; stopped")
    (interruption,) = found.evidence[-1].lines
    assert interruption.startswith("start 0: ")
    assert interruption.endswith("on n[0-1], ended after its time limit")


def test_one_that_left_no_word(segctl: Callable[..., Said]) -> None:
    run = make("lost", supervisor={"attempt": 1, "state": "RUNNING", "started": NOW})
    (run / "logs" / "attempt1-rank0.log").write_text("step 1\nstep 2\n")
    said = segctl("why", run.name)
    assert said.out.startswith(f"{run.name} is LOST: ")
    assert "  step 2\n" in said.out
    assert "segctl resume" in said.out


def test_a_waiting_one_says_for_what() -> None:
    attempt = {"number": 1, "submitted": time.time(), "host": HERE}
    run = make("pending", submission={"backend": "local", "attempts": [attempt]}, supervisor={})
    found = segctl.why(run)
    assert (found.state, found.kind, found.cause) == ("PENDING", None, "is being submitted")
    assert found.next[0] == f"segctl status {run.name} --watch"


def test_there_must_be_such_a_run() -> None:
    with pytest.raises(RunError, match="no run 'nothing'"):
        segctl.why("nothing")


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left_running")
@pytest.mark.parametrize(
    ("trouble", "kind", "cause", "evidence", "first"),
    [
        ("segfault", "killed", "rank 1 was killed by SIGSEGV", "Fatal Python error: Segmentation fault", "resume RUN"),
        ("device_memory", "out_of_memory_device", "The memory of the GPU (39.50 GiB)", "in out_of_memory", "train "),
        ("sleep", "hang", "no progress for 5 s while training, in doze (fragile_plugin.py:", "in doze", "resume RUN"),
    ],
)
def test_real_trouble_on_one_rank(
    trouble: str,
    kind: str,
    cause: str,
    evidence: str,
    first: str,
    program: Callable[..., Said],
    fragile_path: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONPATH", fragile_path)
    options = ["--model", "fragile", "--model.trouble", trouble, "--model.rank", "1", "--model.step", "3"]
    began = time.monotonic()
    done = program("train", *options, *TINY[3:], "--procs", "2", "--steps", "40", "--set", "launch.hang_timeout=5")
    assert done.code == 1, done.err
    assert time.monotonic() - began < 200, "the other rank must not keep the job for half an hour"
    (run,) = [run["id"] for run in json.loads(program("status", "--json").out)]
    found = json.loads(program("why", run, "--json").out)
    assert (found["state"], found["kind"], found["rank"], found["host"]) == ("FAILED", kind, 1, HERE), found
    assert found["cause"].startswith(cause)
    assert any(evidence in line for each in found["evidence"] for line in each["lines"]), found["evidence"]
    assert found["next"][0].startswith(f"segctl {first.replace('RUN', run)}")
