"""The machine-wide queue: jobs start in the order they were submitted, as GPUs and CPU slots become free.

There is no server. Every job holds a ticket, a small file that it keeps locked (flock) as long as it lives and that
says what it wants and what it holds. The kernel takes the lock away when the job ends, however it ends, so what a dead
job held is free at once. All decisions are made under one more lock, which nobody holds for longer than it takes to
read the tickets.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segctl.errors import LaunchError
from segctl.runs.process import hostname

_TICKET = "ticket-"


@dataclass(frozen=True)
class Wish:
    """What a job needs before it may start.

    Attributes:
        among: Identities of the GPUs it may use; empty for a CPU job.
        count: How many of them; for a CPU job how many CPU jobs may run at once, itself included.
        label: How other jobs speak of it: its run's id.
        group: What it shares a limit with: its sweep's id.
        at_once: How many of the group may run at once; 0 without such a limit.
    """

    among: tuple[str, ...]
    count: int
    label: str
    group: str = ""
    at_once: int = 0


@dataclass(frozen=True)
class Standing:
    """A ticket, as another job reads it."""

    number: int
    among: frozenset[str]
    holds: tuple[str, ...]
    label: str
    group: str = ""
    at_once: int = 0


@dataclass(frozen=True)
class Decision:
    """Whether a job may start: with which GPUs, or why not yet, and how many others came before it."""

    start: bool
    holds: tuple[str, ...] = ()
    reason: str = ""
    earlier: int = field(default=0, compare=False)


def decide(wish: Wish, number: int, others: Sequence[Standing]) -> Decision:
    """Whether the job with this ticket number may start now: first come, first served among those that want the same.

    Args:
        wish: What it needs.
        number: Its place; a smaller number came earlier.
        others: The tickets of all other living jobs.
    """
    rivals = [other for other in others if (other.among & set(wish.among) if wish.among else not other.among)]
    users = [other for other in rivals if other.holds and (not wish.among or set(other.holds) & set(wish.among))]
    earlier = [other for other in rivals if not other.holds and other.number < number]
    ahead = [other for other in earlier if not _is_kept_back(other, others)]  # such a one lets others pass
    taken = {identity for other in users for identity in other.holds}
    free = [identity for identity in wish.among if identity not in taken]
    enough = len(free) >= wish.count if wish.among else len(users) < wish.count
    if _is_kept_back(wish, others):
        return Decision(
            False, reason=f"waits: {wish.at_once} of {wish.group} run already (--max-running)", earlier=len(earlier)
        )
    if enough and not ahead:
        return Decision(True, tuple(free[: wish.count]) if wish.among else ("cpu",))
    return Decision(False, reason=_reason(wish, free, users, ahead), earlier=len(earlier))


def _is_kept_back(one: Wish | Standing, others: Sequence[Standing]) -> bool:
    """Whether as many of its group run as may."""
    return one.at_once > 0 and sum(bool(other.holds) and other.group == one.group for other in others) >= one.at_once


def _reason(wish: Wish, free: Sequence[str], users: Sequence[Standing], ahead: Sequence[Standing]) -> str:
    if wish.among:
        needs = "1 GPU" if wish.count == 1 else f"{wish.count} GPUs"
        what = f"waits for {needs}: {len(free)} of {len(wish.among)} free"
    else:
        what = f"waits for one of {wish.count} CPU slot{'s' if wish.count > 1 else ''} ($SEGCTL_CPU_SLOTS)"
    used = f", used by {_named(users)}" if users else ""
    return f"{what}{used}" + (f"; after {_named(ahead)}" if ahead else "")


def _named(standings: Sequence[Standing]) -> str:
    labels = [standing.label for standing in sorted(standings, key=lambda standing: standing.number)]
    return ", ".join(labels[:2]) + (f" and {len(labels) - 2} more" if len(labels) > 2 else "")


@dataclass
class Ticket:
    """A job's place in the queue; what it holds is given back by `close`, or by the end of the process."""

    folder: Path
    wish: Wish
    number: int
    descriptor: int
    holds: tuple[str, ...] = field(default=())

    def try_start(self) -> Decision:
        """Takes what the job needs if it is its turn."""
        with _exclusive(self.folder):
            decision = decide(self.wish, self.number, _standings(self.folder, besides=self.path))
            if decision.start:
                self.holds = decision.holds
                self.write()
        return decision

    def write(self) -> None:
        content = {**vars(self.wish), "holds": self.holds, "pid": os.getpid()}
        data = json.dumps(content).encode()
        # In place: the lock is on this very file. Others read it only under the queue's lock.
        os.pwrite(self.descriptor, data, 0)
        os.ftruncate(self.descriptor, len(data))

    @property
    def path(self) -> Path:
        return self.folder / f"{_TICKET}{self.number:012d}"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self.descriptor)


def enter(wish: Wish) -> Ticket:
    """Joins the queue of this machine at its end.

    Raises:
        LaunchError: The queue's folder cannot be used.
    """
    folder: Path | None = None
    try:
        folder = _folder()
        with _exclusive(folder):
            number = max((standing.number for standing in _standings(folder)), default=0) + 1
            while True:
                path = folder / f"{_TICKET}{number:012d}"
                try:
                    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
                    break
                except FileExistsError:  # a dead job's, of a user whose files are not ours to remove
                    number += 1
            os.fchmod(descriptor, 0o644)  # whatever the umask: other users' jobs read it
            lock(descriptor)
            ticket = Ticket(folder, wish, number, descriptor)
            ticket.write()
            return ticket
    except OSError as error:
        raise LaunchError(
            f"The queue of this machine{f' in {folder}' if folder else ''} cannot be used: {error.strerror or error}.",
            "Set $SEGCTL_STATE_DIR to a folder on a local disk that can be written.",
        ) from error


def wait(ticket: Ticket, *, pause: Callable[[float], bool], waiting: Callable[[str], None]) -> bool:
    """Waits for the job's turn.

    Args:
        ticket: Its place.
        pause: Sleeps for so many seconds; True ends the waiting.
        waiting: Is told what is waited for.

    Returns:
        True when the job may start, False when `pause` ended the waiting.
    """
    delay = 0.1
    while True:
        decision = ticket.try_start()
        if decision.start:
            return True
        waiting(decision.reason)
        if pause(delay):
            return False
        # Each look reads all tickets: who has a long time to wait looks rarely.
        delay = min(max(2.0, 0.1 * decision.earlier), delay * 1.3)


def lock(descriptor: int, *, shared: bool = False) -> bool:
    """Locks an open file without waiting; False where another process holds it."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _folder() -> Path:
    """The queue's folder: in ``$SEGCTL_STATE_DIR``, else shared by all users of this machine, else this user's own."""
    name = f"segctl-queue-{hostname()}"
    chosen = os.environ.get("SEGCTL_STATE_DIR")
    if chosen:
        folder = Path(chosen) / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LaunchError(
                f"$SEGCTL_STATE_DIR is {chosen!r}, where no folder can be made: {error.strerror}.",
                "Set it to a folder on a local disk that can be written.",
            ) from error
        return folder
    # Not tempfile's folder: $TMPDIR may differ between two terminals, and the queue is one.
    common = Path("/tmp")
    shared = common / name
    with contextlib.suppress(OSError):
        shared.mkdir()
        shared.chmod(0o1777)
    if shared.is_dir() and not shared.is_symlink() and os.access(shared, os.R_OK | os.W_OK | os.X_OK):
        return shared
    own = common / f"{name}-{os.getuid()}"
    own.mkdir(exist_ok=True)
    if own.is_symlink() or own.stat().st_uid != os.getuid():
        raise PermissionError(errno.EACCES, "it belongs to another user")
    return own


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    descriptor = _open_common(folder / "lock")
    try:
        while not lock(descriptor):
            time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)


def _open_common(path: Path) -> int:
    """Opens a file that may be another user's; in a folder that all may write to Linux refuses O_CREAT on those."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        pass
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        os.fchmod(descriptor, 0o644)
        return descriptor
    except FileExistsError:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _standings(folder: Path, besides: Path | None = None) -> list[Standing]:
    """The tickets of living jobs. Those of dead ones are removed. Only under the queue's lock."""
    standings = (_standing(path) for path in sorted(folder.glob(f"{_TICKET}*")) if path != besides)
    return [standing for standing in standings if standing is not None]


def _standing(path: Path) -> Standing | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if lock(descriptor, shared=True):
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        content = json.loads(os.read(descriptor, 65536) or b"{}")
        return Standing(
            number=int(path.name.removeprefix(_TICKET)),
            among=frozenset(content.get("among", ())),
            holds=tuple(content.get("holds", ())),
            label=str(content.get("label", "another job")),
            group=str(content.get("group", "")),
            at_once=int(content.get("at_once", 0)),
        )
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)
