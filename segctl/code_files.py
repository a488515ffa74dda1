"""Which files a snapshot copies: of each project whose modules a job imports, what git does not ignore.

Beyond that come modules that git ignores (compiled ones, generated versions), as the import would fail without them.
Data and runs are left out. What leads out of the project, or is too much, is refused: a snapshot that is not whole
would fail in the queue.
"""

from __future__ import annotations

import importlib.machinery
import os
import re
import shutil
import stat
import time
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from segctl.errors import LaunchError, listing
from segctl.runs import repository

__all__ = ["File", "Tree", "amount_text", "collect", "importable"]

LIMIT_VARIABLE = "SEGCTL_SNAPSHOT_MIB"
_LIMIT = 100  # MiB
_FILES_PER_MIB = 100
_MIB = 1024 * 1024
_SEEN = 200_000  # more files are not looked at
_SECONDS = 60.0  # for git to list a project
_GIT_LIMIT = 64 * _MIB
_SUFFIXES = (*importlib.machinery.SOURCE_SUFFIXES, *importlib.machinery.EXTENSION_SUFFIXES)
_MODULES = tuple(sorted(_SUFFIXES, key=len, reverse=True))  # ".so" is the end of the others
_MARKS = (".git", "pyproject.toml", "setup.py", "setup.cfg")
_HEIGHT = 3  # folders between a project and one that its modules are imported from: src/, python/


@dataclass(frozen=True)
class File:
    """A file to copy.

    Attributes:
        name: Relative to the project, with slashes.
        size: Bytes.
        link: Where the copy, a symbolic link, points to; None for a file of its own.
    """

    name: str
    size: int
    link: str | None = None


@dataclass(frozen=True)
class Tree:
    """A project's folder, or one that only holds modules.

    Attributes:
        name: Of the copy.
        source: Absolute, without links.
        files: What is copied.
    """

    name: str
    source: Path
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def copy_to(self, target: Path) -> None:
        """Raises OSError where a file cannot be read or written."""
        made: set[Path] = set()
        for file in self.files:
            copy = target / file.name
            if copy.parent not in made:
                copy.parent.mkdir(parents=True, exist_ok=True)
                made.add(copy.parent)
            if file.link is not None:
                copy.symlink_to(file.link)
            else:
                shutil.copyfile(self.source / file.name, copy)
                shutil.copymode(self.source / file.name, copy)


def importable(folder: Path) -> frozenset[str]:
    """The top-level modules in a folder. Folders without ``__init__.py`` do not count: they hide no other module."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return frozenset()
    found = {module_name(name) for name in names} | {name for name in names if (folder / name / "__init__.py").exists()}
    return frozenset(name for name in found if name.isidentifier())


def module_name(file: str) -> str:
    """``"nets"`` for ``"nets.py"`` and ``"nets.cpython-311-x86_64-linux-gnu.so"``; empty for what is no module."""
    return next((file.removesuffix(suffix) for suffix in _MODULES if file.endswith(suffix)), "")


def collect(roots: Mapping[Path, frozenset[str]], leave_out: Iterable[Path]) -> tuple[tuple[Tree, ...], list[str]]:
    """Finds the files to copy.

    Args:
        roots: Folders that modules are imported from, each with all top-level modules that are.
        leave_out: Folders of data.

    Returns:
        The trees, and for each of `roots` where its copy is: ``"<tree>/<folder>"``.

    Raises:
        LaunchError: It cannot be listed, leads out of its project, or is too much.
    """
    projects: dict[Path, list[Path]] = {}
    for root in roots:
        projects.setdefault(project_of(root) or root, []).append(root)
    trees: dict[Path, Tree] = {}
    for source, below in projects.items():
        name = _free_name(source.name, {"metadata", *(tree.name for tree in trees.values())})
        trees[source] = Tree(name, source, _files(source, {root: roots[root] for root in below}, leave_out))
    refuse_too_much(list(trees.values()), limit())
    places = {
        root: (PurePosixPath(trees[source].name, root.relative_to(source))).as_posix()
        for source, below in projects.items()
        for root in below
    }
    return tuple(trees.values()), [places[root] for root in roots]


def project_of(root: Path) -> Path | None:
    """The project whose modules are imported from `root`: the nearest folder, itself or just above, that looks so."""
    home = Path(os.path.expanduser("~")).resolve()
    for folder in (root, *root.parents)[: _HEIGHT + 1]:
        if folder in (home, folder.parent):
            return None
        if any((folder / mark).exists() for mark in _MARKS):
            return folder
    return None


def _free_name(wanted: str, taken: Container[str]) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip("-.") or "code"
    return next(
        name for number in range(1, 1000) if (name := plain if number == 1 else f"{plain}-{number}") not in taken
    )


def _files(source: Path, roots: Mapping[Path, frozenset[str]], leave_out: Iterable[Path]) -> tuple[File, ...]:
    modules = [_relative(root, source) + module for root, kept in roots.items() for module in sorted(kept)]
    others = [_relative(root, source) + module for root, kept in roots.items() for module in importable(root) - kept]
    names = dict.fromkeys(_listed(source) if project_of(source) == source else ())
    folders = _folders(names)
    for module in modules:
        names |= dict.fromkeys(_modules_unlisted(source, module, names, folders))
    out = [_relative(folder, source) for folder in map(Path.resolve, leave_out) if source in folder.parents]
    kept = select(names, without_modules=others, without_folders=[*out, *_environments(names)])
    known = {*kept, *_folders(kept)}
    packages = tuple(f"{module}/" for module in modules)
    found = (_file(source, name, known, is_code=name.startswith(packages)) for name in kept)
    return tuple(file for file in found if file is not None)


def _relative(folder: Path, source: Path) -> str:
    """``""`` for `source` itself, else ``"src/"``."""
    relative = folder.relative_to(source).as_posix()
    return "" if relative == "." else f"{relative}/"


def _folders(names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        while (name := name.rpartition("/")[0]) and name not in found:
            found.add(name)
    return found


def _environments(names: Iterable[str]) -> list[str]:
    """Virtual environments: nobody's code, and thousands of files."""
    return [name.removesuffix("pyvenv.cfg") for name in names if name.endswith("/pyvenv.cfg")]


def select(names: Iterable[str], *, without_modules: Iterable[str], without_folders: Iterable[str]) -> list[str]:
    """Those of `names` that are copied.

    Args:
        without_modules: Modules, such as ``"src/conftest"``, that the job does not import from here: a copy would hide
            the ones that it does import under these names.
        without_folders: Each with a slash at its end.
    """
    hidden = set(without_modules)
    prefixes = (*without_folders, *(f"{module}/" for module in hidden))
    kept = []
    for name in names:
        folder, _, file = name.rpartition("/")
        cached = file.endswith(".pyc") or "__pycache__" in folder.split("/")
        module = f"{folder}/{module_name(file)}" if folder else module_name(file)
        if not cached and module not in hidden and not name.startswith(prefixes):
            kept.append(name)
    return kept


def _listed(source: Path) -> list[str]:
    """Every file of a folder that git does not ignore; without git every file that is not hidden away."""
    if repository.root_of(source) is None:
        return list(_walked(source))
    arguments = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    answer = repository.ask(source, *arguments, deadline=time.monotonic() + _SECONDS, limit=_GIT_LIMIT)
    names = [] if answer.error or answer.cut else [os.fsdecode(name) for name in answer.out.split(b"\0") if name]
    found: list[str] = []
    for name in names:
        path = source / name
        if path.is_dir() and not path.is_symlink():  # a submodule, or another repository
            found += [f"{name.rstrip('/')}/{below}" for below in _listed(path)]
        else:
            found.append(name)
    return found or list(_walked(source))  # ignored as a whole, or git refuses to look at it


def _walked(folder: Path) -> Iterator[str]:
    seen = 0
    for here, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(here, name))]
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith((".", "__pycache__")) and name not in ("node_modules", *links)
        )
        seen += len(files) + len(links)
        if seen > _SEEN:
            raise LaunchError(f"{folder} holds more than {_SEEN} files.", _WAY_OUT.format(source=folder))
        yield from (os.path.relpath(os.path.join(here, name), folder) for name in (*files, *links))


def _modules_unlisted(source: Path, module: str, listed: Container[str], folders: Container[str]) -> Iterator[str]:
    """What git has not listed of a module that the job imports: all of it where git ignores it as a whole.

    Args:
        listed: Files; `folders` are those that they lie in.
    """
    package = source / module
    if not package.is_dir():
        parent, _, stem = module.rpartition("/")
        files = (f"{parent}/{stem}{suffix}" if parent else f"{stem}{suffix}" for suffix in _MODULES)
        yield from (file for file in files if file not in listed and (source / file).is_file())
    elif module in folders:
        yield from _modules_below(source, module, listed, folders)
    else:
        yield from (f"{module}/{name}" for name in _walked(package))


def _modules_below(source: Path, folder: str, listed: Container[str], folders: Container[str]) -> Iterator[str]:
    for entry in sorted(os.scandir(source / folder), key=lambda entry: entry.name):
        name = f"{folder}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if name in folders or (source / name / "__init__.py").exists():
                yield from _modules_below(source, name, listed, folders)
        elif entry.name.endswith(_MODULES) and name not in listed:
            yield name


def _file(source: Path, name: str, known: Container[str], *, is_code: bool) -> File | None:
    """None where there is nothing to copy: a file that git knows and the user has deleted, a socket."""
    path = source / name
    try:
        status = path.lstat()
    except OSError:
        return None
    if stat.S_ISREG(status.st_mode):
        return File(name, status.st_size)
    if not stat.S_ISLNK(status.st_mode):
        return None
    target = path.resolve()
    if source in target.parents and target.relative_to(source).as_posix() in known:
        return File(name, 0, os.path.relpath(target, path.parent.resolve()))
    if not is_code or not target.exists():
        return File(name, 0, str(target))  # data: read where they are, as every path in a configuration
    if target.is_file():
        return File(name, target.stat().st_size)
    raise LaunchError(
        f"{path} leads out of {source} to {target}: a snapshot would not hold what is there.",
        "Let git ignore it if the job does not need it, put a copy in its place, or leave --snapshot out.",
    )


_WAY_OUT = (
    "Let git ignore what is no code: name it in {source}/.gitignore. "
    f"To allow more, set ${LIMIT_VARIABLE}, or leave --snapshot out."
)


def limit() -> int:
    """MiB that a snapshot may hold: ``$SEGCTL_SNAPSHOT_MIB``, else 100.

    Raises:
        LaunchError: It is not a number.
    """
    text = os.environ.get(LIMIT_VARIABLE) or str(_LIMIT)
    if not text.isdecimal():
        raise LaunchError(f"${LIMIT_VARIABLE} is {text!r}, not a whole number.", "It is a number of MiB.")
    return int(text)


def refuse_too_much(trees: Sequence[Tree], mib: int) -> None:
    """Raises LaunchError where `trees` hold more than so many MiB, or more than 100 files for each of these."""
    size, files = sum(tree.size for tree in trees), sum(len(tree.files) for tree in trees)
    if size <= mib * _MIB and files <= mib * _FILES_PER_MIB:
        return
    worst = max(trees, key=lambda tree: tree.size / _MIB + len(tree.files) / _FILES_PER_MIB)
    largest = sorted(worst.files, key=lambda file: -file.size)[:3]
    sizes: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for file in worst.files:
        folder, slash, _ = file.name.partition("/")
        sizes[folder] += file.size if slash else 0
        counts[folder] += 1 if slash else 0
    folder = max(sizes, key=lambda name: sizes[name] / _MIB + counts[name] / _FILES_PER_MIB, default="")
    raise LaunchError(
        f"The snapshot would hold {amount_text(files, size)}; {mib * _FILES_PER_MIB} files and {mib} MiB are allowed. "
        f"In {worst.source} most is in {folder}/ ({amount_text(counts[folder], sizes[folder])}); the largest files are "
        f"{listing(f'{file.name} ({file.size / _MIB:.1f} MiB)' for file in largest)}.",
        _WAY_OUT.format(source=worst.source),
    )


def amount_text(files: int, size: int) -> str:
    """``"12 files, 0.3 MiB"``."""
    return f"{files} file{'' if files == 1 else 's'}, {size / _MIB:.1f} MiB"
