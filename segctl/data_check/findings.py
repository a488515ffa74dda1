"""What can be wrong with a data set: each kind of fault, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["KINDS", "LISTED", "Case", "Finding", "gathered"]

Level = Literal["error", "warning", "note"]

LISTED = 1000  # cases of one kind that are named; all are counted


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes:
        kind: A key of `KINDS`.
        split: Where it is; empty where it is no split's.
        file: The file, relative to the data's root, else the sample's name; empty where it is no single file's.
        what: What is wrong, in one sentence; it does not repeat the file.
    """

    kind: str
    split: str
    file: str
    what: str


class Kind(NamedTuple):
    level: Level
    title: str
    hint: str


_FETCH = "Unpack the archive again, or fetch it anew."
_RESAVE = "Save it as an 8-bit PNG of class values, with the tool that made it or from the original."

# In the order of the report.
KINDS: dict[str, Kind] = {
    "refused": Kind("error", "split that training refuses", "Mend what it says, or the training stops there."),
    "missing-image": Kind("error", "missing image", f"{_FETCH} Or take the sample out of the split."),
    "missing-mask": Kind("error", "missing mask", f"{_FETCH} Or take the sample out of the split."),
    "refused-mask": Kind("error", "mask without an image", "Add the image, or remove the mask."),
    "unreadable-image": Kind("error", "image that cannot be read", "Replace the file or fetch it again."),
    "unreadable-mask": Kind("error", "mask that cannot be read", "Replace the file or fetch it again."),
    "size-mismatch": Kind(
        "error", "mask of another size than its image", "Resize the mask to its image with nearest neighbours."
    ),
    "mask-value": Kind("error", "mask with values that are no class", f"{_RESAVE} Or declare the class."),
    "unusable": Kind("error", "sample that cannot be used", "See what it says."),
    "contract": Kind("error", "sample that breaks the plugin's contract", "Run `segctl plugins check` on the plugin."),
    "leak": Kind(
        "error",
        "image to train on that is evaluated on, too",
        "Take it out of the training split: measured on such images, a model looks better than it is.",
    ),
    "contradiction": Kind(
        "error", "image that is there twice, with different masks", "Keep the pair whose mask is right."
    ),
    "incomplete": Kind(
        "error",
        "split with fewer samples than published",
        f"{_FETCH} Results of a part of the data compare with nothing.",
    ),
    "flip-pair": Kind("error", "wrong flip pair", "Mend `flip_pairs` in the plugin."),
    "overlap": Kind(
        "warning", "image that two splits share", "Do not train on the one and evaluate on the other of these splits."
    ),
    "listed-twice": Kind("warning", "sample that is listed twice", "List it once; it counts twice otherwise."),
    "duplicate": Kind("warning", "image that is there twice", "Keep one; it counts twice otherwise."),
    "same-name": Kind(
        "warning", "name that two samples have", "Rename one; predictions of the one would replace the other's."
    ),
    "lone-mask": Kind("warning", "mask without an image", "Add the image, or remove the mask."),
    "count": Kind("warning", "split with more samples than published", "Results will not compare with published ones."),
    "all-ignored": Kind(
        "warning", "mask in which all is ignored", "Nothing is learnt from it; take the sample out of the split."
    ),
    "lossy-mask": Kind("warning", "mask in a format that changes values", _RESAVE),
    "blank-image": Kind("warning", "image of one colour throughout", "Look whether it is the right file."),
    "tiny-image": Kind("warning", "very small image", "Models reduce an image up to 32 times; leave it out."),
    "never-occurs": Kind(
        "warning", "class that never occurs", "It cannot be learnt. Check the values of the masks, or leave it out."
    ),
    "left-right": Kind(
        "warning",
        "left and right classes that no flip pair joins",
        "Declare them in `flip_pairs`: a mirrored left arm is a right arm. Or set augment.flip=0.",
    ),
    "only-background": Kind("note", "mask of nothing but background", "Fine if there is nothing to be seen."),
    "huge-image": Kind("note", "very large image", "Each is decoded as a whole; cut it into tiles if that is slow."),
    "turned": Kind(
        "note",
        "image that is stored turned or mirrored (EXIF orientation)",
        "Its mask must lie on the pixels as the data set reads them; `segctl data show` shows whether it does.",
    ),
    "grey": Kind("note", "greyscale image", "It is read as three equal channels."),
    "alpha": Kind("note", "image with transparency", "Transparency is dropped; what lies below it is seen."),
    "deep": Kind("note", "image with more than 8 bits per channel", "The high byte is kept."),
    "cmyk": Kind("note", "image in other colours than RGB", "It is converted, without a colour profile."),
    "unused": Kind("note", "pair that is in no split", "Add it to a split's list if it should be used."),
    "never-evaluated": Kind("note", "class that never occurs", "It has no IoU there, and does not count in the mIoU."),
    "not-here": Kind("note", "split that is not here", "It is not needed to train on the others."),
    "notice": Kind("note", "from the data set", ""),
}


@dataclass(frozen=True)
class Finding:
    """All faults of one kind.

    Attributes:
        kind: A key of `KINDS`.
        level: ``error``: a training would stop, or its result would be wrong. ``warning``: probably not as it should
            be. ``note``: good to know.
        title: What it is, in few words.
        hint: What to do.
        count: How many there are.
        cases: The first ones, `LISTED` at most, by split and sample.
    """

    kind: str
    level: Level
    title: str
    hint: str
    count: int
    cases: tuple[Case, ...]


def gathered(cases: Iterable[Case]) -> tuple[Finding, ...]:
    """Faults by kind, the worst first."""
    named: dict[str, list[Case]] = {}
    counts: dict[str, int] = {}
    for case in cases:
        counts[case.kind] = counts.get(case.kind, 0) + 1
        known = named.setdefault(case.kind, [])
        if len(known) < LISTED:
            known.append(case)
    return tuple(_finding(kind, counts[kind], named[kind]) for kind in KINDS if kind in counts)


def _finding(kind: str, count: int, cases: Sequence[Case]) -> Finding:
    level, title, hint = KINDS[kind]
    return Finding(kind, level, title, hint, count, tuple(cases))
