"""Mapillary Vistas: streets of all continents, with the 65 classes of its first edition."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segctl.plugin import Archive

from .labels import ValueTable
from .pairs import PairDataset, check_split, pairs_by_stem

__all__ = ["Mapillary"]

_FOLDER_OF = {"train": "training", "val": "validation", "test": "testing"}
_UNLABELED = 65

# Names and colours of config_v1.2.json, in its order, as MaskFormer and mmsegmentation both give them.
_CLASSES = """
    a52a2a Bird; 00c000 Ground Animal; c4c4c4 Curb; be9999 Fence; b4a5b4 Guard Rail; 5a7896 Barrier; 66669c Wall;
    8040ff Bike Lane; 8c8cc8 Crosswalk - Plain; aaaaaa Curb Cut; faaaa0 Parking; 606060 Pedestrian Area;
    e6968c Rail Track; 804080 Road; 6e6e6e Service Lane; f423e8 Sidewalk; 966464 Bridge; 464646 Building;
    96785a Tunnel; dc143c Person; ff0000 Bicyclist; ff0064 Motorcyclist; ff00c8 Other Rider;
    c88080 Lane Marking - Crosswalk; ffffff Lane Marking - General; 40aa40 Mountain; e6a032 Sand; 4682b4 Sky;
    beffff Snow; 98fb98 Terrain; 6b8e23 Vegetation; 00aa1e Water; ffff80 Banner; fa001e Bench; 648cb4 Bike Rack;
    dcdcdc Billboard; dc8080 Catch Basin; de2828 CCTV Camera; 64aa1e Fire Hydrant; 282828 Junction Box;
    212121 Mailbox; 6480a0 Manhole; 8e0000 Phone Booth; 466496 Pothole; d2aa64 Street Light; 999999 Pole;
    808080 Traffic Sign Frame; 000050 Utility Pole; faaa1e Traffic Light; c0c0c0 Traffic Sign (Back);
    dcdc00 Traffic Sign (Front); 8c8c14 Trash Can; 770b20 Bicycle; 9600ff Boat; 003c64 Bus; 00008e Car;
    00005a Caravan; 0000e6 Motorcycle; 005064 On Rails; 804040 Other Vehicle; 00006e Trailer; 000046 Truck;
    0000c0 Wheeled Slow; 202020 Car Mount; 780a0a Ego Vehicle
"""
_PAIRS = [" ".join(entry.split()).split(" ", 1) for entry in _CLASSES.split(";")]


class Mapillary(PairDataset):
    """Mapillary Vistas: 18000 training and 2000 validation photographs of many megapixels, 65 classes.

    The labels are those of edition 1.2, which papers report on, in the archive of release 2.0: ``training/images`` and
    ``training/v1.2/labels``, ``validation`` likewise, ``testing/images``. A mask's value is the class; 65, unlabelled,
    is ignored. The labels of the 5000 test photographs are not public. The archive takes a registration; no digest is
    published. The licence is given from memory: the homepage could not be read again.
    """

    classes = tuple(name for _, name in _PAIRS)
    palette = tuple((int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for code, _ in _PAIRS)
    ignore_index = 255
    splits: Mapping[str, int | None] = {"train": 18000, "val": 2000}
    unlabelled_splits: Mapping[str, int | None] = {"test": 5000}
    train_split = "train"
    eval_split = "val"
    layout = ("training/images", "training/v1.2/labels", "validation/images", "validation/v1.2/labels")
    licence = "CC BY-NC-SA 4.0 (research edition)"
    citation = "Neuhold et al.: The Mapillary Vistas Dataset for Semantic Understanding of Street Scenes. ICCV 2017."
    homepage = "https://www.mapillary.com/dataset/vistas"
    archives = (
        Archive(
            file="mapillary-vistas-dataset_public_v2.0.zip",
            provides=(*layout, "testing/images"),
            manual=(
                "Register at https://www.mapillary.com/dataset/vistas and fetch release 2.0 with a browser; where it "
                "comes in two parts, join them (zip -s 0 PART.zip --out FILE.zip). Hand it over with --from."
            ),
        ),
    )

    def __init__(self, root: Path, split: str) -> None:
        check_split("mapillary", split, {**self.splits, **self.unlabelled_splits})
        folder = _FOLDER_OF[split]
        masks = f"{folder}/v1.2/labels" if split in self.splits else None
        pairs = pairs_by_stem(Path(root), f"{folder}/images", ".jpg", masks, ".png")
        super().__init__(root, split, pairs, ValueTable.of_labels(range(len(self.classes)), ignored=[_UNLABELED]))
