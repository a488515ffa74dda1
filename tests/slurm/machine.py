"""A machine of its own: a host name, a process tree and mounts that end together when its first process ends.

Run as a program, this file is that first process (pid 1 of its namespace). It starts and stops the machine's programs
when asked to through a socket, and takes in orphans as an init does. Killing it is a power failure: the kernel takes
everything that ran there along. A machine may hold others; a cluster is one that holds its services and its nodes.

The other end, :class:`Machine`, keeps no state, so that any process may talk to a machine whose socket it knows.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PATIENCE = 10.0  # seconds that a program has to end by itself after a signal


def boot_command(
    name: str,
    door: Path,
    *,
    binds: Mapping[Path, Path] | None = None,
    memory: Sequence[Path] = (),
    owned: bool = False,
    nested: bool = False,
    remove: Sequence[Path] = (),
) -> list[str]:
    """The command that boots a machine and ends with it.

    `door` is the socket it listens at; it is there once the machine is up. `binds` are folders or files to show in
    other places (place: source), `memory` places for a file system in memory. An `owned` machine ends with its standard
    input. A `nested` one is booted by another machine. `remove` are folders to remove, in this order, after the
    machine's last process has ended.
    """
    plan = {
        "name": name,
        "door": str(door),
        "binds": {str(place): str(source) for place, source in (binds or {}).items()},
        "memory": [str(place) for place in memory],
        "owned": owned,
        "remove": [str(folder) for folder in remove],
    }
    user = [] if nested or os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    spaces = ["--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *user, *spaces, sys.executable, "-I", "-S", str(Path(__file__).resolve()), json.dumps(plan)]


def remove_cgroup(folder: Path) -> None:
    """Removes a control group and those in it, whose processes may be on their last breath."""
    for path, _, _ in os.walk(folder, topdown=False):
        for _ in range(50):
            try:
                os.rmdir(path)
                break
            except OSError:
                time.sleep(0.02)


class Machine:
    """Talks to the machine behind the socket `door`."""

    def __init__(self, door: Path) -> None:
        self.door = door

    def start(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._ask(do="start", name=name, command=[*command], log=str(log), environment=dict(environment or {}))

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends a program: SIGKILL takes its process group, others the program, and SIGKILL follows where needed."""
        self._ask(do="stop", name=name, signal=int(how))

    def running(self) -> set[str]:
        """Names of the programs that run; none when the machine is off."""
        try:
            return set(self._ask(do="look")["running"])
        except OSError:
            return set()

    def exit_code(self, name: str) -> int | None:
        code = self._ask(do="look")["ended"].get(name)
        return None if code is None else int(code)

    def process_space(self) -> str:
        """What ``/proc/PID/ns/pid`` of the machine's processes points to."""
        return str(self._ask(do="look")["space"])

    def end(self) -> None:
        """Ends everything on the machine, and returns when it is gone."""
        self._ask(do="end")

    def _ask(self, **request: Any) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(60)
            line.connect(str(self.door))
            line.sendall(json.dumps(request).encode())
            line.shutdown(socket.SHUT_WR)
            reply = b"".join(iter(lambda: line.recv(65536), b""))
        answer = json.loads(reply or b"{}")
        if "error" in answer:
            raise RuntimeError(f"{request['do']} {request.get('name', '')}: {answer['error']}")
        return dict(answer)


class Programs:
    """What pid 1 has started, by name."""

    def __init__(self) -> None:
        self.pids: dict[str, int] = {}
        self.ended: dict[str, int] = {}

    def reap(self) -> None:
        """Takes in the ends of programs, and of orphans, which are of no interest."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for name in [name for name, own in self.pids.items() if own == pid]:
                del self.pids[name]
                self.ended[name] = os.waitstatus_to_exitcode(status)

    def start(self, name: str, command: list[str], log: str, environment: dict[str, str]) -> None:
        if name in self.pids:
            return
        nothing = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        written = (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.ended.pop(name, None)
        self.pids[name] = os.posix_spawnp(
            command[0],
            command,
            {**os.environ, **environment},
            file_actions=[nothing, written, (os.POSIX_SPAWN_DUP2, 1, 2)],
            setsid=True,
        )

    def stop(self, name: str, number: int) -> None:
        pid = self.pids.get(name)
        if pid is None:
            return
        if number != signal.SIGKILL:
            os.kill(pid, number)
            deadline = time.monotonic() + PATIENCE
            while name in self.pids and time.monotonic() < deadline:
                time.sleep(0.02)
                self.reap()
            if name not in self.pids:
                return
        # The group of a machine is `unshare` and its pid 1, which is gone only after all that ran there.
        while True:
            try:
                os.killpg(pid, signal.SIGKILL)
            except ProcessLookupError:
                return
            time.sleep(0.02)
            self.reap()

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        do = request.pop("do")
        if do == "start":
            self.start(request["name"], request["command"], request["log"], request["environment"])
        elif do == "stop":
            self.stop(request["name"], request["signal"])
        return {"running": [*self.pids], "ended": self.ended, "space": os.readlink("/proc/self/ns/pid")}


def main() -> None:
    plan = json.loads(sys.argv[1])
    socket.sethostname(plan["name"])
    for place, source in plan["binds"].items():
        subprocess.run(["mount", "--bind", source, place], check=True)
    for place in plan["memory"]:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", place], check=True)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    last = serve(Path(plan["door"]), plan["owned"])
    os.chdir("/")
    for place in plan["memory"]:
        subprocess.run(["umount", "--lazy", place], check=False)
    power_off([Path(folder) for folder in plan["remove"]])
    if last is not None:
        last.close()


def serve(door: Path, owned: bool) -> socket.socket | None:
    """Answers until the owner has ended (None) or somebody asks for the end (who waits at the returned socket)."""
    programs = Programs()
    with socket.socket(socket.AF_UNIX) as listener:
        unfinished = door.with_name(door.name + ".new")  # a socket is there when it can be talked to
        door.unlink(missing_ok=True)
        listener.bind(str(unfinished))
        listener.listen()
        unfinished.rename(door)
        while True:
            ready, _, _ = select.select([listener, *([sys.stdin] if owned else [])], [], [], 0.2)
            programs.reap()
            if sys.stdin in ready:
                return None
            if listener in ready:
                line = listener.accept()[0]
                request = json.loads(b"".join(iter(lambda: line.recv(65536), b"")) or b'{"do": "look"}')  # noqa: B023
                if request["do"] == "end":
                    return line
                try:
                    answer = programs.answer(request)
                except OSError as error:
                    answer = {"error": str(error)}
                line.sendall(json.dumps(answer).encode())
                line.close()


def power_off(folders: Sequence[Path]) -> None:
    for _ in range(2):  # again for what was being started
        try:
            os.kill(-1, signal.SIGKILL)
            while True:
                os.waitpid(-1, 0)
        except (ProcessLookupError, ChildProcessError):
            continue
    for folder in folders:
        if folder.is_relative_to("/sys/fs/cgroup"):
            remove_cgroup(folder)
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
