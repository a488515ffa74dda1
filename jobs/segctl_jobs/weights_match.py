"""Which entry of one state dict is which of another, by names, then by the order and shapes of layers. Pure functions.

Four ways, from the surest to the least; what one has matched is out of the others' sight:

exact
    The same name and shape.
renamed
    Below one prefix in the file and another in the model all names and shapes are equal (``pretrained.`` and
    ``backbone.``).
by order
    A module of the model and one of the file have the same sequence of layers, of the same kinds and shapes. There are
    as many such modules in the one as in the other; several are taken in their order.
by shape
    One single layer of its kind and shape is left in both.

A layer is what shares a module: a convolution's weight and bias, the four tensors of a BatchNorm. Heads that exist for
the loss alone are only matched with such heads. What could be one thing as well as another is left alone.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Match", "Shape", "classes_in", "is_auxiliary", "like", "match", "surplus"]

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_STANDARD = frozenset({"weight", "bias", "running_mean", "running_var"})
_AUXILIARY = re.compile(r"(?:^|\.)(?:aux|dsn|deep_?sup|criterion|loss)", re.IGNORECASE)
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


def match(model: Shapes, file: Shapes) -> tuple[dict[str, Match], frozenset[str]]:
    """The matches by the model's names, and the names for which there is more than one candidate.

    Args:
        model: Shapes of the model's entries, in its order.
        file: Those of the file.
    """
    pool = _Pool(model, file)
    pool.take(((name, name) for name in model if pool.fits(name, name)), "exact")
    _match_prefixes(pool)
    _match_layers(pool)
    candidates = {layer.kind for layer in _layers(pool.file)}
    ambiguous = {
        name for layer in _layers(pool.model) if layer.kind in candidates for name in layer.names if name in pool.model
    }
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
    kind: tuple[bool, tuple[tuple[str, Shape], ...]]


def _layers(shapes: Shapes) -> list[_Layer]:
    members: dict[str, list[str]] = defaultdict(list)
    for name in shapes:
        members[name[: name.rfind(".") + 1]].append(name)
    layers = []
    for path, names in members.items():
        # Names of parameters that a module defines itself (gamma, scale) differ between authors: they sort last.
        ending = {name: name[len(path) :] if name[len(path) :] in _STANDARD else "~" for name in names}
        ordered = tuple(sorted(names, key=lambda name: ending[name]))
        kind = tuple((ending[name], shapes[name]) for name in ordered)
        layers.append(_Layer(path, ordered, (is_auxiliary(names[0]), kind)))
    return layers


def _match_layers(pool: _Pool) -> None:
    """Takes modules with equal sequences of layers, then single layers; each makes others unequivocal."""
    while _match_sequences(pool) or _match_singles(pool):
        pass


def _match_sequences(pool: _Pool) -> bool:
    """Whether something was matched."""
    wanted, offered = _sequences(pool.model), _sequences(pool.file)
    before = len(pool.matches)
    for sequence in sorted(wanted.keys() & offered.keys(), key=lambda kinds: -len(kinds)):
        mine, theirs = (
            [layers for layers in group[sequence] if all(name in left for layer in layers for name in layer.names)]
            for group, left in ((wanted, pool.model), (offered, pool.file))
        )
        if len(mine) == len(theirs):
            for own, other in zip(mine, theirs, strict=True):
                pool.take(_pairs(own, other), "by order")
    return len(pool.matches) > before


def _match_singles(pool: _Pool) -> bool:
    wanted, offered = (_by_kind(_layers(shapes)) for shapes in (pool.model, pool.file))
    for kind in wanted.keys() & offered.keys():
        if len(wanted[kind]) == len(offered[kind]) == 1:
            pool.take(_pairs(wanted[kind], offered[kind]), "by shape")
            return True
    return False


def _by_kind(layers: Iterable[_Layer]) -> dict[object, list[_Layer]]:
    found: dict[object, list[_Layer]] = defaultdict(list)
    for layer in layers:
        found[layer.kind].append(layer)
    return found


def _pairs(mine: Sequence[_Layer], theirs: Sequence[_Layer]) -> list[tuple[str, str]]:
    return [pair for own, other in zip(mine, theirs, strict=True) for pair in zip(own.names, other.names, strict=True)]


def _sequences(shapes: Shapes) -> dict[tuple[object, ...], list[tuple[_Layer, ...]]]:
    """Every module of two layers and more, by the sequence of their kinds, in order."""
    modules: dict[str, list[_Layer]] = defaultdict(list)
    for layer in _layers(shapes):
        for prefix in (*_prefixes(layer.path[:-1]), layer.path) if layer.path else ("",):
            modules[prefix].append(layer)
    found: dict[tuple[object, ...], list[tuple[_Layer, ...]]] = defaultdict(list)
    for layers in dict.fromkeys(tuple(each) for each in modules.values() if len(each) > 1):
        found[tuple(layer.kind for layer in layers)].append(layers)
    return found
