"""A virtual environment of a test's own: what it installs is nobody else's, all other packages are the tests'."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path


class Environment:
    """
    Attributes:
        python: Its interpreter, which has torch and segctl from the environment that the tests run in.
        site: Its site-packages.
    """

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.python = folder / "bin" / "python"
        (self.site,) = (folder / "lib").glob("python3*/site-packages")
        (self.site / "tests.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})")

    def pip(self, *arguments: str | Path) -> None:
        words = [sys.executable, "-m", "pip", "--python", str(self.python), "-q", *map(str, arguments)]
        subprocess.run(words, check=True, capture_output=True)
