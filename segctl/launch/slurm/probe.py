"""What a node looks like from inside a job: run there by a job of `segctl.launch.slurm.probe_job`, as its ranks would.

Light, and torch is tried in a process of its own: one that crashes while it is imported must not take the answer along.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import segctl
from segctl.launch.machine import usable_cores
from segctl.runs.files import write_json
from segctl.runs.process import hostname

TORCH_SECONDS = 240.0

_TORCH = """
import json, torch
names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
print(json.dumps({"torch": torch.__version__, "cuda": torch.version.cuda, "gpus": names}))
"""


def look() -> dict[str, Any]:
    """Python, segctl, torch and GPUs as this process has them.

    Returns:
        host, python, segctl (version), segctl_path, cores, visible_gpus (CUDA_VISIBLE_DEVICES), and of torch either
        torch (version), cuda (that it was built for; None without) and gpus (names), or error.
    """
    return {
        "host": hostname(),
        "python": sys.executable,
        "segctl": segctl.__version__,
        "segctl_path": str(Path(segctl.__file__).parent),
        "cores": usable_cores(),
        "visible_gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        **_torch(),
    }


def _torch() -> dict[str, Any]:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TORCH],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TORCH_SECONDS,
            cwd="/",  # a json.py where the user stands would be taken for Python's
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return {"error": str(error)}
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    how = f"ended by {signal.Signals(-done.returncode).name}" if done.returncode < 0 else ""
    return {"error": how or (lines[-1] if lines else f"ended with {done.returncode}")}


def main(folder: str) -> None:
    node = os.environ.get("SLURMD_NODENAME") or hostname()
    write_json(Path(folder, f"{node}.json"), look())


if __name__ == "__main__":
    main(sys.argv[1])
