"""Under what `segctl bench` says it has measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
from programs import Said

from segctl.bench import Benchmark

FOUND = Benchmark(
    models=(),
    device="cpu",
    device_name="A CPU",
    threads=2,
    size=(512, 1024),
    batch_size=1,
    num_classes=19,
    amp=False,
    compile=False,
    channels_last=True,
    torch="2.9",
)


@pytest.mark.parametrize(("channels_last", "said"), [(True, "channels last."), (False, "contiguous.")])
def test_the_order_in_memory_is_the_one_that_was_used(
    segctl: Callable[..., Said], monkeypatch: pytest.MonkeyPatch, channels_last: bool, said: str
) -> None:
    found = replace(FOUND, channels_last=channels_last)

    def measured(*_: Any, **__: Any) -> Benchmark:
        return found

    monkeypatch.setattr(import_module("segctl.bench"), "bench", measured)

    told = segctl("bench", "enet")

    assert f"A CPU, 2 threads, torch 2.9, float32; 1 x 512x1024, 19 classes, {said}" in " ".join(told.err.split())
