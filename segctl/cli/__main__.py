"""``python -m segctl.cli``, the same as ``segctl``."""

from __future__ import annotations

import sys

from segctl.cli.app import main

sys.exit(main())
