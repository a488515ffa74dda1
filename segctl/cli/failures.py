"""What went wrong becomes a message on standard error and an exit code: 1 the user's to mend, 3 a bug, 130 Ctrl-C."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable

import typer

from segctl.errors import SegctlError, did_you_mean

OK, USER_ERROR, BUG, INTERRUPTED = 0, 1, 3, 130

# Every usage error of the parser. Newer versions of Typer bring the parser along under a private name; Typer's public
# exceptions lead there in all of them.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]

# What the machine or the user's files can do to any command; any other OSError that nobody expected is a bug.
_CONDITIONS = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "ENOTDIR", "ENAMETOOLONG", "ELOOP"),
        *("EMFILE", "ENFILE", "EIO", "ESTALE", "ENOMEM", "EAGAIN"),
    )
    if hasattr(errno, name)
)


def guarded(action: Callable[[], int]) -> int:
    """Runs `action` and returns the exit code; whatever it raises is told on standard error."""
    try:
        code = action()
        sys.stdout.flush()
        return code
    except SegctlError as error:
        return say(str(error))
    except _UsageError as error:
        return say(usage_message(error))
    except typer.Exit as leave:
        return leave.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except SystemExit as leave:
        if isinstance(leave.__context__, BrokenPipeError):  # rich's way to say it
            return _reader_left()
        raise
    except OSError as error:
        if error.errno not in _CONDITIONS:
            return _bug()
        return say(machine_message(error))
    except MemoryError:
        return say("The memory of this machine is used up.")
    except Exception:
        return _bug()


def say(message: str, code: int = USER_ERROR) -> int:
    typer.secho("error: ", fg=typer.colors.RED, bold=True, err=True, nl=False)
    typer.echo(message, err=True)
    return code


def usage_message(error: Exception) -> str:
    """The parser's message as one sentence, with the nearest option and where to read on."""
    message: str = getattr(error, "message", "") or ""
    option: str = getattr(error, "option_name", "") or ""
    if option and message.startswith("No such option"):
        near = _of_sbatch(error, option) or did_you_mean(option, getattr(error, "possibilities", None) or ())
        setting = f"For a setting of the configuration use --set {option.lstrip('-')}=VALUE." if "." in option else ""
        message = f"No such option: {option}. {setting or near}".strip()
    else:
        message = error.format_message() if hasattr(error, "format_message") else message
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "segctl"
    return f"{message.rstrip().rstrip('.?')}{'?' if message.endswith('?') else '.'} See '{command} --help'."


def _of_sbatch(error: Exception, option: str) -> str:
    """Where to say it, if it is an option of sbatch and the command sends jobs to SLURM."""
    command = getattr(getattr(error, "ctx", None), "command", None)
    if not option.startswith("--") or not any("--slurm" in each.opts for each in getattr(command, "params", ())):
        return ""
    from segctl.config.slurm_options import takes

    way = takes(option)
    return f"For this option of sbatch use {way}." if way else ""


def machine_message(error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    file = f"{os.fspath(error.filename)!r}: " if isinstance(error.filename, (str, os.PathLike)) else ""
    hint = {
        errno.ENOSPC: "Free some space, or choose another disk with --runs-dir.",
        errno.EDQUOT: "Free some of your quota.",
    }
    return f"{file}{reason}. {hint.get(error.errno or 0, '')}".strip()


def _reader_left() -> int:
    """``segctl status | head`` has all it wanted; what is still buffered must not raise again when Python exits."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    return OK


def _bug() -> int:
    from segctl import __version__

    traceback.print_exc()
    origin = f"This is a bug in segctl {__version__} or in one of its plugins."
    return say(f"{origin} Please report it with the lines above{_address()}.", BUG)


def _address() -> str:
    from importlib import metadata

    try:
        links = metadata.metadata("segctl").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:
        links = []
    addresses = [link.partition(", ")[2] for link in links if link.lower().startswith(("issues", "bug"))]
    return f" at {addresses[0]}" if addresses else " to whoever maintains it for you"
