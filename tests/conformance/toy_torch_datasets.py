"""A data set whose module imports torch, which the conformance kit must find."""

from __future__ import annotations

import torch
from toy_datasets import Good


class ImportsTorch(Good):
    """Needs torch to be looked at."""

    seed = torch.initial_seed
