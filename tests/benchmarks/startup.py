"""How long the light commands take: each against `python -c "import typer, rich.table"`, in turn.

python tests/benchmarks/startup.py [--rounds 11]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = (["--help"], ["status"], ["plugins", "list"])


def make_runs(folder: Path, count: int) -> None:
    for number in range(count):
        run = folder / f"20260101-{number:06d}-enet-shapes-aaaa"
        (run / "logs").mkdir(parents=True)
        facts = {"id": run.name, "kind": "train", "model": "enet", "dataset": "shapes", "created": 1.7e9 + number}
        (run / "run.json").write_text(json.dumps(facts))
        attempt = {"number": 1, "pid": 1, "pid_started": 1.0, "submitted": 1.7e9 + number}
        (run / "submission.json").write_text(json.dumps({"backend": "local", "host": "x", "attempts": [attempt]}))
        (run / "supervisor.json").write_text(json.dumps({"attempt": 1, "state": "COMPLETED", "reason": ""}))
        (run / "status.json").write_text(json.dumps({"attempt": 1, "phase": "completed", "step": 9, "miou": 0.5}))


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    bare = [sys.executable, "-c", "import typer, rich.table"]
    with tempfile.TemporaryDirectory() as folder:
        make_runs(Path(folder), 1000)
        os.environ["SEGCTL_RUNS"] = folder
        for argv in COMMANDS:
            command = [sys.executable, "-m", "segctl.cli", *argv]
            pairs = [(seconds(command), seconds(bare)) for _ in range(rounds)]
            mine, empty = (statistics.median(side) for side in zip(*pairs, strict=True))
            print(
                f"segctl {' '.join(argv):14} {mine:.2f} s; import alone {empty:.2f} s; allowed {2 * empty + 0.3:.2f} s"
            )


if __name__ == "__main__":
    main()
