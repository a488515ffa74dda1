"""Colours for classes that have none of their own: easily told apart, in a picture as in its legend."""

from __future__ import annotations

from collections.abc import Sequence

from segctl.plugin import voc_palette

__all__ = ["distinct_palette"]

Color = tuple[int, int, int]

# Neighbours differ in hue and in lightness; none is so dark that it looks like a shadow.
_DISTINCT: tuple[Color, ...] = (
    (230, 159, 0),
    (0, 114, 178),
    (220, 40, 60),
    (60, 180, 75),
    (240, 228, 66),
    (145, 30, 180),
    (86, 210, 233),
    (154, 99, 36),
    (255, 130, 200),
    (20, 150, 120),
    (150, 205, 30),
    (70, 60, 230),
    (255, 215, 180),
    (128, 0, 60),
    (170, 255, 195),
    (245, 90, 20),
    (190, 160, 255),
    (128, 128, 128),
    (240, 50, 230),
    (0, 90, 40),
)


def distinct_palette(names: Sequence[str]) -> tuple[Color, ...]:
    """A colour for each class: black for background, which overlays leave clear; beyond 20 classes those of VOC."""
    if len(names) > len(_DISTINCT):
        return voc_palette(len(names))
    return tuple(
        (0, 0, 0) if name.lower() == "background" else color for name, color in zip(names, _DISTINCT, strict=False)
    )
