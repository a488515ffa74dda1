"""Which entry of one state dict is which of another, by names, then by the order and shapes of layers. Pure functions.

Four ways, from the surest to the least; what one has matched is out of the others' sight:

exact
    The same name and shape.
renamed
    Below one prefix in the file and another in the model all names and shapes are equal (``pretrained.`` and
    ``backbone.``).
by order
    A module of the model and one of the file have the same sequence of layers, of the same kinds and shapes. There is
    one such module in each; or there are as many in the one as in the other, and they are taken in their order, where
    what stands around them has the same order too.
by shape
    One single layer of its kind and shape is left in both.

A layer is what shares a module: a convolution's weight and bias, the four tensors of a BatchNorm. Heads that exist for
the loss alone are only matched with such heads. What could be one thing as well as another is left alone.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Match", "Shape", "classes_in", "is_auxiliary", "like", "match", "surplus"]

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_STANDARD = frozenset({"weight", "bias", "running_mean", "running_var"})
_AUXILIARY = re.compile(r"(?:^|\.)(?:aux|dsn|deep_?sup|criterion|loss)", re.IGNORECASE)
# The branch for the whole image in a spatial pyramid: its convolution has the shape of another branch's, and authors
# differ about which of them comes first.
_IMAGE_LEVEL = re.compile(r"image_?pool|img_pool|global_pool|(?:^|\.)gap\.", re.IGNORECASE)
_CLASSIFIER = re.compile(r"(?:^|\.)(?:fc|head|classifier|last_linear|logits)\.(?:\d+\.)?(?:weight|bias)$")


@dataclass(frozen=True)
class Match:
    """The file's entry for an entry of the model, and how it was found: one of the ways above."""

    source: str
    how: str


def like(shape: Shape) -> Shape:
    """Equal for a linear layer and the 1x1 convolution that computes the same: ``(out, in)``."""
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def is_auxiliary(name: str) -> bool:
    """Whether an entry belongs to something that only the loss needs, going by its name."""
    return _AUXILIARY.search(name) is not None


def match(
    model: Shapes, file: Shapes, classes: Mapping[str, str] | None = None
) -> tuple[dict[str, Match], frozenset[str]]:
    """The matches by the model's names, and the names for which there is more than one candidate.

    Args:
        model: Shapes of the model's entries, in its order.
        file: Those of the file.
        classes: For entries of the model the class names of the modules around them, which may say more than names.
    """
    pool = _Pool(model, file)
    pool.take(((name, name) for name in model if pool.fits(name, name)), "exact")
    _match_prefixes(pool)
    image_level = {name for name in (*model, *file) if _IMAGE_LEVEL.search(f"{(classes or {}).get(name, '')}.{name}")}
    _match_layers(pool, image_level)
    _match_layers(pool, set())
    candidates = {layer.kind for layer in _layers(pool.file)}
    ambiguous = {name for layer in _layers(pool.model) if layer.kind in candidates for name in layer.names}
    return pool.matches, frozenset(ambiguous)


def surplus(matches: Mapping[str, Match], unused: Iterable[str]) -> tuple[str, ...]:
    """Those of the file's unused entries that stand between used ones: the file's model has more layers there.

    Whole parts that are not used (a head for the loss, an ImageNet classifier) are none.
    """
    used = {found.source.split(".")[0] for found in matches.values()}
    return tuple(
        name
        for name in unused
        if name.split(".")[0] in used and not is_auxiliary(name) and not _CLASSIFIER.search(name)
    )


def classes_in(file: Shapes, two: Shapes, three: Shapes) -> int | None:
    """The number of classes that the shapes of a file say; None where they do not, or not with one voice.

    Args:
        two: Shapes of the model's entries with 2 classes; `three` with 3.
    """
    left = Counter(like(shape) for shape in file.values())
    left.subtract(like(shape) for name, shape in two.items() if shape == three[name])
    votes: Counter[int] = Counter()
    for name, shape in two.items():
        if shape == three[name]:
            continue
        slope = tuple(more - less for less, more in zip(shape, three[name], strict=True))
        if name in file and (count := _solved(shape, slope, file[name])):
            votes[count] += 1000
        if len(shape) > 1:  # a bias alone says little
            for found in (each for each, number in left.items() if number > 0):
                full = found + (1,) * (len(shape) - len(found))
                votes.update(filter(None, [_solved(shape, slope, full)]))
    (best, most), (_, next_most) = [*votes.most_common(2), (0, 0), (0, 0)][:2]
    return best if most > next_most else None


def _solved(at_two: Shape, slope: Shape, found: Shape) -> int | None:
    """The number of classes at which a shape that is `at_two` with two, and grows by `slope`, is `found`."""
    if len(found) != len(at_two):
        return None
    counts = {2 + (size - base) / step for size, base, step in zip(found, at_two, slope, strict=True) if step}
    fixed = all(size == base for size, base, step in zip(found, at_two, slope, strict=True) if not step)
    (count,) = counts if len(counts) == 1 else (0.0,)
    return int(count) if fixed and count >= 1 and count == int(count) else None


class _Pool:
    """What is not matched yet on either side, and what is."""

    def __init__(self, model: Shapes, file: Shapes) -> None:
        self.model = {name: like(shape) for name, shape in model.items()}
        self.file = {name: like(shape) for name, shape in file.items()}
        self.matches: dict[str, Match] = {}
        self.place = {name: number for number, name in enumerate(model)}
        self.place_in_file = {name: number for number, name in enumerate(file)}
        if not any(map(is_auxiliary, model)):
            self.file = {name: shape for name, shape in self.file.items() if not is_auxiliary(name)}

    def fits(self, name: str, source: str) -> bool:
        same_role = is_auxiliary(name) == is_auxiliary(source)
        return name in self.model and source in self.file and self.model[name] == self.file[source] and same_role

    def take(self, pairs: Iterable[tuple[str, str]], how: str) -> None:
        for name, source in list(pairs):
            self.matches[name] = Match(source, how)
            del self.model[name], self.file[source]


def _match_prefixes(pool: _Pool) -> None:
    """Takes every part of the model that the file has under another prefix, the largest parts first."""
    modules = _below(pool.model)
    places: dict[str, list[str]] = defaultdict(list)  # where in the file a name ends in this
    for name in pool.file:
        for prefix in _prefixes(name):
            places[name[len(prefix) :]].append(prefix)
    contents = Counter(_content(prefix, names, pool.model) for prefix, names in modules.items())
    for prefix, names in sorted(modules.items(), key=lambda item: -len(item[1])):
        if len(names) < 2 or any(name not in pool.model for name in names):
            continue
        endings = [name[len(prefix) :] for name in names]
        if all(ending in _STANDARD for ending in endings):
            continue  # a single layer's names are every layer's
        found = [
            place
            for place in places[max(endings, key=len)]
            if all(pool.fits(prefix + ending, place + ending) for ending in endings)
        ]
        if len(found) == 1 and contents[_content(prefix, names, pool.model)] == 1:
            pool.take(((prefix + ending, found[0] + ending) for ending in endings), "renamed")


def _content(prefix: str, names: Sequence[str], shapes: Shapes) -> tuple[bool, frozenset[tuple[str, Shape | None]]]:
    return is_auxiliary(names[0]), frozenset((name[len(prefix) :], shapes.get(name)) for name in names)


def _below(names: Iterable[str]) -> dict[str, list[str]]:
    """Every prefix that ends in a dot, or is empty, with the names that begin with it."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        for prefix in _prefixes(name):
            found[prefix].append(name)
    return found


def _prefixes(name: str) -> list[str]:
    """``["", "a.", "a.b."]`` for ``"a.b.weight"``."""
    parts = name.split(".")
    return ["".join(f"{part}." for part in parts[:depth]) for depth in range(len(parts))]


# --- Layers ---


@dataclass(frozen=True)
class _Layer:
    """The entries of one module.

    Attributes:
        path: The module's name, with a dot at its end.
        names: Its entries, in an order that two layers of one kind share.
        kind: Equal for layers whose entries can take each other's place.
    """

    path: str
    names: tuple[str, ...]
    kind: tuple[object, ...]


@dataclass(frozen=True)
class _Module:
    """Layers below one prefix that are not matched yet; `intact` where none of those below it is."""

    layers: tuple[_Layer, ...]
    intact: bool


@dataclass(frozen=True)
class _Group:
    """Modules of one sequence of kinds of layers, as many of the model's as of the file's."""

    sequence: tuple[object, ...]
    mine: list[_Module]
    theirs: list[_Module]

    @property
    def single(self) -> bool:
        """A single layer on either side."""
        return len(self.mine) == len(self.sequence) == 1

    @property
    def certain(self) -> bool:
        """Nothing could stand for another, but for layers inside of a module whose order is whole."""
        return self.single or (len(self.mine) == 1 and self.mine[0].intact and self.theirs[0].intact)

    def pairs(self) -> list[tuple[str, str]]:
        return [
            pair
            for own, other in zip(self.mine, self.theirs, strict=True)
            for layer, counterpart in zip(own.layers, other.layers, strict=True)
            for pair in zip(layer.names, counterpart.names, strict=True)
        ]


def _layers(shapes: Shapes, marked: Collection[str] = ()) -> list[_Layer]:
    """The layers in their order; those with a marked entry are of a kind of their own."""
    members: dict[str, list[str]] = defaultdict(list)
    for name in shapes:
        members[name[: name.rfind(".") + 1]].append(name)
    layers = []
    for path, names in members.items():
        # Names of parameters that a module defines itself (gamma, scale) differ between authors: they sort last.
        ending = {name: name[len(path) :] if name[len(path) :] in _STANDARD else "~" for name in names}
        ordered = tuple(sorted(names, key=lambda name: ending[name]))
        kind = (is_auxiliary(names[0]), names[0] in marked, tuple((ending[name], shapes[name]) for name in ordered))
        layers.append(_Layer(path, ordered, kind))
    return layers


def _match_layers(pool: _Pool, marked: Collection[str]) -> None:
    """Takes modules with equal sequences of layers, down to single layers; each makes others unequivocal."""
    doubted: set[tuple[object, ...]] = set()
    while groups := _groups(pool, marked, doubted):
        believed = [group for group in groups if group.certain] or _in_order(pool, groups)
        for group in believed:
            pool.take(group.pairs(), "by shape" if group.single else "by order")
        doubted = set() if believed else doubted | {groups[0].sequence}


def _groups(pool: _Pool, marked: Collection[str], doubted: Collection[tuple[object, ...]]) -> list[_Group]:
    """Modules that there are as many of on either side, the longest sequences first; none is part of another."""
    wanted = _sequences(_layers(pool.model, marked), pool.place)
    offered = _sequences(_layers(pool.file, marked), pool.place_in_file)
    sides: tuple[tuple[Any, set[str]], ...] = ((wanted, set()), (offered, set()))  # modules, and layers that are taken
    groups = []
    shared = [sequence for sequence in wanted if sequence in offered and sequence not in doubted]
    for sequence in sorted(shared, key=lambda kinds: -len(kinds)):
        mine, theirs = (
            [module for module in modules[sequence] if not any(layer.path in taken for layer in module.layers)]
            for modules, taken in sides
        )
        if mine and len(mine) == len(theirs):
            groups.append(_Group(sequence, mine, theirs))
            for chosen, (_, taken) in zip((mine, theirs), sides, strict=True):
                taken.update(layer.path for module in chosen for layer in module.layers)
    return groups


def _sequences(layers: Iterable[_Layer], everything: Iterable[str]) -> dict[tuple[object, ...], list[_Module]]:
    """Every module by the sequence of its layers' kinds, in order."""
    below: dict[str, list[_Layer]] = defaultdict(list)
    for layer in layers:
        for prefix in _prefixes(layer.names[0]):
            below[prefix].append(layer)
    whole = Counter(prefix for name in everything for prefix in _prefixes(name))
    intact: dict[tuple[_Layer, ...], bool] = {}
    for prefix, found in below.items():
        is_intact = whole[prefix] == sum(len(layer.names) for layer in found)
        intact[tuple(found)] = intact.get(tuple(found), False) or is_intact
    modules: dict[tuple[object, ...], list[_Module]] = defaultdict(list)
    for each, is_intact in intact.items():
        modules[tuple(layer.kind for layer in each)].append(_Module(each, is_intact))
    return modules


def _in_order(pool: _Pool, groups: Sequence[_Group]) -> list[_Group]:
    """Those of the groups whose order may tell what belongs together.

    That is only to be believed where all else in the same parts of the model is in the file's order too, but for a few
    layers that stand elsewhere: where the group is on the longest common sequence.
    """
    tentative = {name: found.source for name, found in pool.matches.items()}
    tentative |= {name: source for group in groups for name, source in group.pairs()}
    believed = []
    for group in groups:
        parts = {name.split(".")[0] for name, _ in group.pairs()}
        around = sorted((pool.place[name], name) for name in tentative if name.split(".")[0] in parts)
        kept = _longest_increasing([pool.place_in_file[tentative[name]] for _, name in around])
        if {pool.place_in_file[source] for _, source in group.pairs()} <= kept:
            believed.append(group)
    return believed


def _longest_increasing(numbers: Sequence[int]) -> set[int]:
    """The members of a longest increasing subsequence of different numbers (patience sorting)."""
    ends: list[int] = []
    before: dict[int, int | None] = {}
    for number in numbers:
        at = bisect_left(ends, number)
        before[number] = ends[at - 1] if at else None
        ends[at : at + 1] = [number]
    found: set[int] = set()
    last = ends[-1] if ends else None
    while last is not None:
        found.add(last)
        last = before[last]
    return found
