"""Plugins that fail when they are imported are known without being imported here."""

from __future__ import annotations

import os

FAILURES = """
import json, sys
sys.modules["torch"] = None  # what loads it here would fail
from segctl.import_check import failures
from segctl.registry import KINDS, discover
found = failures(entry for kind in KINDS for entry in discover(kind))
assert not any(name.startswith("acme") for name in sys.modules)
print(json.dumps({entry.name: reason for entry, reason in found.items()}))
"""


def plugins(install, site, sources):
    return install(
        site,
        "acme",
        "1",
        {f"acme_{name}.py": source for name, source in sources.items()},
        models={name: f"acme_{name}:net" for name in sources},
    )


def test_each_plugin_is_imported_in_another_process_whatever_it_does(install, run_python, tmp_path):
    good = "print('noise')\ndef net(num_classes): ...\n"
    sources = {
        "boom": "raise RuntimeError('boom')\n",
        "exits": "import os\nos._exit(7)\n",
        "good": good,
        "late": "import json.no_such_module\n",
        "unbound": "",
    }
    site = plugins(install, tmp_path / "site", sources)

    assert run_python(FAILURES, [site]) == {
        "boom": "RuntimeError: boom",
        "exits": "importing it ends the interpreter (exit code 7)",
        "late": "ModuleNotFoundError: No module named 'json.no_such_module'",
        "unbound": "AttributeError: module 'acme_unbound' has no attribute 'net'",
    }


def test_what_was_found_is_remembered_until_the_plugin_changes(install, run_python, tmp_path):
    log = tmp_path / "imports.log"
    counting = f"open({str(log)!r}, 'a').write('x')\n"
    site = plugins(install, tmp_path / "site", {"net": counting + "1 / 0\n"})

    first = [run_python(FAILURES, [site]) for _ in range(2)]
    assert first == [{"net": "ZeroDivisionError: division by zero"}] * 2
    assert log.read_text() == "x"

    module = site / "acme_net.py"
    module.write_text(counting + "def net(num_classes): ...\n")
    os.utime(module, (0, 0))  # any other time than before, however coarse the file system's clock
    assert run_python(FAILURES, [site]) == {}
    assert log.read_text() == "xx"


def test_without_plugins_of_others_nothing_is_tried_or_written(run_python, tmp_path):
    assert run_python(FAILURES) == {}
    assert not (tmp_path / "cache").exists()
