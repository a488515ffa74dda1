"""segctl: launch, track and evaluate semantic-segmentation jobs.

Each command of the command line is a function here with the same name and a frozen result::

    import segctl
    submitted = segctl.train("quickstart", flags={"train.epochs": 5})
    print(segctl.status(submitted.run.id))

Importing this package is cheap: each function is loaded on first use (PEP 562); none imports torch before it has to.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segctl.bench import bench as bench
    from segctl.cancel import cancel as cancel
    from segctl.cancel import cancel_sweep as cancel_sweep
    from segctl.data_check.check import check_data as check_data
    from segctl.data_prepare import prepare_data as prepare_data
    from segctl.data_show import show_data as show_data
    from segctl.download import download as download
    from segctl.drill import drill as drill
    from segctl.export import export as export
    from segctl.logs import logs as logs
    from segctl.predict import predict as predict
    from segctl.profile_check import check_profile as check_profile
    from segctl.profiles import profile as profile
    from segctl.profiles import profiles as profiles
    from segctl.requeue import requeue as requeue
    from segctl.status import status as status
    from segctl.submit import evaluate as evaluate
    from segctl.submit import resume as resume
    from segctl.submit import train as train
    from segctl.sweep import sweep as sweep
    from segctl.upsampling import dunet_upsampling as dunet_upsampling
    from segctl.weights import import_weights as import_weights
    from segctl.why import why as why

__version__ = "0.1.0"

_COMMANDS = {
    "train": "segctl.submit",
    "evaluate": "segctl.submit",
    "sweep": "segctl.sweep",
    "resume": "segctl.submit",
    "predict": "segctl.predict",
    "profiles": "segctl.profiles",
    "profile": "segctl.profiles",
    "check_profile": "segctl.profile_check",
    "status": "segctl.status",
    "logs": "segctl.logs",
    "cancel": "segctl.cancel",
    "cancel_sweep": "segctl.cancel",
    "requeue": "segctl.requeue",
    "why": "segctl.why",
    "bench": "segctl.bench",
    "download": "segctl.download",
    "drill": "segctl.drill",
    "check_data": "segctl.data_check.check",
    "prepare_data": "segctl.data_prepare",
    "show_data": "segctl.data_show",
    "import_weights": "segctl.weights",
    "export": "segctl.export",
    "dunet_upsampling": "segctl.upsampling",
}

__all__ = [
    "__version__",
    "bench",
    "cancel",
    "cancel_sweep",
    "check_data",
    "check_profile",
    "download",
    "drill",
    "dunet_upsampling",
    "evaluate",
    "export",
    "import_weights",
    "logs",
    "predict",
    "prepare_data",
    "profile",
    "profiles",
    "requeue",
    "resume",
    "show_data",
    "status",
    "sweep",
    "train",
    "why",
]


def __getattr__(name: str) -> Any:
    if name in _COMMANDS:
        return getattr(import_module(_COMMANDS[name]), name)
    raise AttributeError(f"module 'segctl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_COMMANDS])


class _Package(ModuleType):
    """Keeps functions in their places, where Python would put the modules of the same name once they are imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _COMMANDS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
