"""The lines that a cause rests on, picked from records and logs as they are written."""

from __future__ import annotations

from segctl.runs import evidence

SITE = "/venv/lib/python3.11/site-packages"
RAISED = f"""Traceback (most recent call last):
  File "{SITE}/segctl_jobs/main.py", line 49, in run
    finished = _run_job(this, stop)
  File "{SITE}/segctl_jobs/engine.py", line 187, in train_step
    loss = _loss(engine)
  File "{SITE}/torch/nn/modules/module.py", line 1787, in _call_impl
    return forward_call(*args)
  File "/home/ada/net.py", line 12, in forward
    raise RuntimeError("boom")
RuntimeError: boom
and a second line
"""
CHAINED = f"""{RAISED}
The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "{SITE}/segctl_jobs/main.py", line 80, in _run_job
    raise better from error
segctl.errors.DeviceMemoryError: The memory of the GPU does not suffice.
"""


def test_a_record_gives_the_innermost_own_frames_and_what_was_raised() -> None:
    wanted = (
        f"{SITE}/segctl_jobs/main.py:49 in run",
        f"{SITE}/segctl_jobs/engine.py:187 in train_step",
        "/home/ada/net.py:12 in forward",
        "RuntimeError: boom",
        "and a second line",
    )
    assert evidence.of_record({"type": "RuntimeError", "message": "boom", "traceback": RAISED}) == wanted
    assert evidence.of_record({"type": "DeviceMemoryError", "message": "x", "traceback": CHAINED}) == wanted


def test_a_record_without_a_traceback() -> None:
    assert evidence.of_record({"type": "ValueError", "message": "no", "traceback": ""}) == ("ValueError: no",)


def test_a_hang_gives_its_place() -> None:
    stack = f'Stack of the main thread (most recent call last):\n  File "{SITE}/my_net/net.py", line 5, in forward\n'
    record = {"type": "HangError", "message": "no progress for 900 s", "traceback": stack}
    assert evidence.of_record(record) == (f"{SITE}/my_net/net.py:5 in forward", "no progress for 900 s")


STACKS = f"""Thread 0x01 (most recent call first):
  File "{SITE}/tensorboard/writer.py", line 269 in _run

{{who}} 0x02 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 9 in wait
  File "/home/ada/net.py", line 12 in forward
  File "{SITE}/torch/nn/modules/module.py", line 1787 in _call_impl
  File "{SITE}/segctl_jobs/engine.py", line 187 in train_step
"""
PLACES = (f"{SITE}/segctl_jobs/engine.py:187 in train_step", "/home/ada/net.py:12 in forward")


def test_a_crash_in_native_code_gives_the_stack_of_the_thread_that_crashed() -> None:
    log = f"2026 rank 0 INFO start\nFatal Python error: Segmentation fault\n\n{STACKS.format(who='Current thread')}"
    log += '\nThread 0x03 (most recent call first):\n  File "/home/ada/other.py", line 1 in f\n'
    log += "\nExtension modules: numpy, torch._C (total: 2)\n"
    assert evidence.of_log(log) == ("Fatal Python error: Segmentation fault", *PLACES)


def test_a_timer_that_ran_out_gives_the_main_thread() -> None:
    assert evidence.of_log(f"start\nTimeout (0:15:15)!\n{STACKS.format(who='Thread')}") == (
        "Timeout (0:15:15)!",
        *PLACES,
    )


def test_a_hang_gives_the_stack_of_its_data_worker() -> None:
    said = "2026 rank 0 ERROR no progress for 9 s while training, in select (selectors.py:415)"
    log = f"start\n{said}; the stacks are in x, those of data workers follow\n{STACKS.format(who='Current thread')}"
    assert evidence.of_log(log) == (said, *PLACES)
    assert evidence.of_log(f"{said}; the stacks are in x, those of data workers follow\n") == (said,)


def test_before_an_exception_is_what_the_rank_did() -> None:
    lines = [f"2026 rank 1 INFO train: step {step}" for step in range(1, 9)]
    log = "\n".join([*lines, "2026 rank 1 ERROR this process failed", RAISED])
    assert evidence.of_log(log, count=2) == tuple(lines[-2:])


def test_else_the_last_lines() -> None:
    assert evidence.of_log("a\n\nb\nc  \n", count=2) == ("b", "c")
    assert evidence.of_log("") == ()


def test_of_srun_the_first_words_count() -> None:
    text = """some library says hello
srun: error: n1: task 2: Out Of Memory
srun: error: n1: task 2: Out Of Memory
slurmstepd-n1: error: Detected 1 oom_kill event in StepId=12.0.
srun: Terminating StepId=12.0
"""
    assert evidence.of_srun(text, count=2) == (
        "srun: error: n1: task 2: Out Of Memory",
        "slurmstepd-n1: error: Detected 1 oom_kill event in StepId=12.0.",
    )
