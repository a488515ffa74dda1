"""What a plugin author needs: the contract of the three kinds, and the declarations a signature cannot express.

A plugin is a function or a class named by an entry point; its keyword-only arguments are its options.

``segctl.models``
    ``def unet(num_classes: int, *, backbone: Literal["resnet34", "resnet50"] = "resnet34") -> nn.Module``.
    The module maps images ``(N, 3, H, W)`` float to logits ``(N, C, H, W)``, or to a dict whose ``"out"`` are those
    logits and whose other entries (``"aux"``, ...) are for the loss. H and W are arbitrary; in evaluation from
    `SMALLEST_SIDE` on: segctl fills smaller photographs up.

``segctl.losses``
    ``class Dice: def __init__(self, *, smooth: float = 1.0)``; or any callable factory with keyword-only options. The
    result maps ``(outputs, target)`` to a scalar tensor or to a dict of named scalar terms, whose sum is minimised.
    ``outputs`` is what the model returned, ``target`` is ``(N, H, W)`` int64. A factory that has the parameters
    ``num_classes``, ``ignore_index``, ``class_pixels`` (counts the pixels of each class in the training masks when it
    is called) or ``create_loss`` (``create_loss("dice", {"smooth": 1.0})`` makes another loss for the same data) is
    given them by segctl.

``segctl.datasets``
    ``class CamVid: def __init__(self, root: Path, split: str, *, ...)`` with ``__len__``, ``__getitem__(index)`` giving
    ``(image, mask)``: ``(H, W, 3)`` uint8 RGB and ``(H, W)`` integer class indices (or `ignore_index`) as numpy arrays,
    and ``name(index)``, the sample's name in messages and file names. The facts of `DatasetInfo` are attributes of the
    class, or of the instance where they are only known then. The module must not import torch: `segctl plugins show`
    and downloads work without it. Optional are the methods

    - ``mask(index)``, the mask alone, where that is quicker;
    - ``read(index, rows)``, as ``__getitem__``, but the image may end after its first ``rows(mask)`` rows, where that
      is quicker: they are all that a crop needs;
    - ``fingerprint()``, a text that changes whenever a mask of the split does (or None), so that what is counted in
      the masks need not be counted again;
    - ``files(index)``, the paths of the files that a sample is read from, below the attribute ``root``, the image's
      first and the mask's second: `segctl data check` names them, and a run records which data it was made on;
    - ``submission_path(index)``, the path of a prediction's PNG inside the zip that the benchmark's server wants, such
      as ``results/VOC2012/Segmentation/comp6_test_cls/2008_000001.png``; its values are the `labels`;
    - ``prepare(root, progress)``, a classmethod that makes, once, what cannot be read straight from the files of the
      archives, such as masks out of a file of polygons. `segctl download` calls it after unpacking. It replaces files
      atomically, goes on where it stopped, knows by files of its own whether all is there (and then returns at once),
      and calls ``progress(done, total)`` now and then.

A data set whose files are incomplete should be refused when it is opened, with a `DataError`, not in the midst of a
training. While `segctl data check` opens it, `tolerates_faults()` is true: what is wrong with single files is then left
to the check, which finds all of it.

A training may be interrupted after any step and go on in another process. What a model keeps from step to step must
therefore be a parameter or a persistent buffer; a loss and a data set keep nothing. `segctl drill` finds out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "SMALLEST_SIDE",
    "Archive",
    "DatasetInfo",
    "ModelTraits",
    "SegmentationDataset",
    "dataset_info",
    "loss",
    "loss_outputs",
    "model",
    "model_traits",
    "tolerates_faults",
    "tolerating_faults",
]

# Pixels; in evaluation a model takes images of any size from here on. Beneath its total stride, 32 for most backbones,
# pooling runs out of pixels.
SMALLEST_SIDE = 32

Color = tuple[int, int, int]
_Factory = TypeVar("_Factory", bound=Callable[..., Any])


@dataclass(frozen=True)
class ModelTraits:
    """What a model declares beside its signature.

    Attributes:
        loss: Name of the loss plugin it is trained with unless the user names one.
        loss_options: Options for that loss, and for one that the user names where it has an option of that name and
            type.
        backbone: Prefixes of the names of parameters that belong to the (usually pretrained) backbone. All other
            parameters are the head, whose learning rate is multiplied by ``optimizer.head_lr_factor``.
        own_input: Options which, where they are not None, make another input of the one that models get by default; a
            configuration with one of them and a changed section ``input`` is refused.
    """

    loss: str = "cross_entropy"
    loss_options: tuple[tuple[str, Any], ...] = ()
    backbone: tuple[str, ...] = ("backbone.",)
    own_input: tuple[str, ...] = ()


def model(
    *,
    loss: str = "cross_entropy",
    loss_options: Mapping[str, Any] | None = None,
    backbone: Sequence[str] = ("backbone.",),
    own_input: Sequence[str] = (),
) -> Callable[[_Factory], _Factory]:
    """Declares what a model's signature does not say; see `ModelTraits`, also for the defaults."""

    def declare(factory: _Factory) -> _Factory:
        options = tuple((loss_options or {}).items())
        factory.__segctl_model__ = ModelTraits(loss, options, tuple(backbone), tuple(own_input))  # type: ignore[attr-defined]
        return factory

    return declare


def model_traits(factory: Callable[..., Any]) -> ModelTraits:
    traits: ModelTraits = getattr(factory, "__segctl_model__", ModelTraits())
    return traits


def loss(*, outputs: Callable[[Any], Mapping[str, Any]]) -> Callable[[_Factory], _Factory]:
    """Declares that a loss needs more of a model than maps of logits.

    Args:
        outputs: Makes of logits ``(N, C, H, W)`` what such a model returns; `segctl plugins check` tries the loss on
            that. An entry at another size must be the nearest logits, so that what is ignored stays so.
    """

    def declare(factory: _Factory) -> _Factory:
        factory.__segctl_outputs__ = outputs  # type: ignore[attr-defined]
        return factory

    return declare


def loss_outputs(factory: Callable[..., Any]) -> Callable[[Any], Mapping[str, Any]] | None:
    """What `loss` declared, or None."""
    outputs: Callable[[Any], Mapping[str, Any]] | None = getattr(factory, "__segctl_outputs__", None)
    return outputs


@runtime_checkable
class SegmentationDataset(Protocol):
    """The part of the data set contract that is called; the facts are read by `dataset_info`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]: ...

    def name(self, index: int) -> str: ...


@dataclass(frozen=True)
class Archive:
    """A file that a data set is published as.

    Attributes:
        url: Where it is fetched (http, https); empty when no program can fetch it.
        mirrors: Further addresses of the same bytes.
        file: Its name on disk; default: the last part of `url`.
        size: Bytes, or None where no exact number is published.
        md5: Hexadecimal; empty where none is published, as are `sha1` and `sha256`.
        sha1: See `md5`.
        sha256: See `md5`.
        folder: Where below the data set's root it is unpacked; empty for the root itself.
        unpack: False for a plain file, such as a list, which is only put into `folder`.
        provides: Paths below the root that exist once it is unpacked.
        login: The login procedure that `url` needs, such as ``"cityscapes"``; empty where none is needed.
        manual: For what needs a browser: what to fetch and where, in a sentence or two.
    """

    url: str = ""
    mirrors: tuple[str, ...] = ()
    file: str = ""
    size: int | None = None
    md5: str = ""
    sha1: str = ""
    sha256: str = ""
    folder: str = ""
    unpack: bool = True
    provides: tuple[str, ...] = ()
    login: str = ""
    manual: str = ""

    def __post_init__(self) -> None:
        if not self.file:
            name = urlsplit(self.url).path.rpartition("/")[2]
            if not name:
                raise ValueError(f"The archive {self.url or self.manual!r} needs a file name.")
            object.__setattr__(self, "file", name)


@dataclass(frozen=True)
class DatasetInfo:
    """The facts a data set declares, as attributes of its class or instance.

    Attributes:
        classes: Class names; a mask's value is an index into them.
        palette: An RGB colour for each class; generated when not declared.
        ignore_index: The mask value that is neither trained on nor counted.
        splits: Split names with their published number of samples, or None where none is published.
        unlabelled_splits: Splits whose labels only the benchmark's server knows, with their published numbers of
            samples. They are opened like the others; each mask ignores every pixel, so that predictions can be written
            but nothing is measured.
        train_split: Split that `segctl train` trains on.
        eval_split: Split that is evaluated during training and by `segctl eval`.
        flip_pairs: Class indices that change places when an image is mirrored (left arm, right arm).
        layout: Paths below the root that show the data are there. The root is ``<data root>/<home>``, or the data root
            itself when it is there that they exist. Empty for data that are made on the fly.
        home: Folder below the data root, for data sets that share files or have a second name; default: the name of
            the plugin.
        labels: The data set's own value of each class, for predictions that leave segctl (Cityscapes label ids, ADE20K
            plus one). Empty: the class index itself.
        licence: Under which terms the data may be used.
        citation: What to cite.
        homepage: Where the data come from.
        archives: The files it is published as; `segctl download` fetches and unpacks them below the root.
    """

    classes: tuple[str, ...]
    palette: tuple[Color, ...]
    ignore_index: int = 255
    splits: Mapping[str, int | None] | None = None
    unlabelled_splits: Mapping[str, int | None] | None = None
    train_split: str = "train"
    eval_split: str = "val"
    flip_pairs: tuple[tuple[int, int], ...] = ()
    layout: tuple[str, ...] = ()
    home: str = ""
    labels: tuple[int, ...] = ()
    licence: str = ""
    citation: str = ""
    homepage: str = ""
    archives: tuple[Archive, ...] = ()


def dataset_info(dataset: Any) -> DatasetInfo:
    """Reads the facts off a data set's class (before it is opened) or instance."""
    classes = tuple(getattr(dataset, "classes", ()))
    palette = tuple(tuple(color) for color in getattr(dataset, "palette", ())) or voc_palette(len(classes))
    return DatasetInfo(
        classes=classes,
        palette=palette,
        ignore_index=int(getattr(dataset, "ignore_index", 255)),
        splits=dict(getattr(dataset, "splits", {"train": None, "val": None})),
        unlabelled_splits=dict(getattr(dataset, "unlabelled_splits", None) or {}),
        train_split=getattr(dataset, "train_split", "train"),
        eval_split=getattr(dataset, "eval_split", "val"),
        flip_pairs=tuple((int(a), int(b)) for a, b in getattr(dataset, "flip_pairs", ())),
        layout=tuple(getattr(dataset, "layout", ())),
        home=getattr(dataset, "home", ""),
        labels=tuple(int(value) for value in getattr(dataset, "labels", ())),
        licence=getattr(dataset, "licence", ""),
        citation=getattr(dataset, "citation", ""),
        homepage=getattr(dataset, "homepage", ""),
        archives=tuple(
            Archive(**each) if isinstance(each, Mapping) else each  # a checkpoint holds facts as plain data
            for each in getattr(dataset, "archives", ())
        ),
    )


_tolerant = ContextVar("tolerant", default=False)


@contextmanager
def tolerating_faults() -> Iterator[None]:
    """Within this, data sets may be opened although single files are missing or wrong: to find all faults, not one."""
    token = _tolerant.set(True)
    try:
        yield
    finally:
        _tolerant.reset(token)


def tolerates_faults() -> bool:
    """Whether a data set that is being opened should leave the faults of single files to who opens it."""
    return _tolerant.get()


def voc_palette(count: int) -> tuple[Color, ...]:
    """The PASCAL VOC colour map (VOC2012 devkit, VOClabelcolormap.m).

    Bit 7 - j of red, green and blue are bits 3j, 3j + 1 and 3j + 2 of the class index.
    """
    colors = []
    for index in range(count):
        red = green = blue = 0
        for bit in range(8):
            triple = index >> (3 * bit)
            red |= (triple & 1) << (7 - bit)
            green |= ((triple >> 1) & 1) << (7 - bit)
            blue |= ((triple >> 2) & 1) << (7 - bit)
        colors.append((red, green, blue))
    return tuple(colors)
