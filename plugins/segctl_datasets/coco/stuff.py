"""COCO-Stuff 164k: all of COCO's photographs of 2017, every pixel a thing or stuff."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..labels import ValueTable
from ..pairs import PairDataset, check_split, pairs_by_stem
from .archives import HOMEPAGE, PHOTOGRAPHS, STUFF

__all__ = ["COCOStuff"]

# The 182 labels of https://github.com/nightrome/cocostuff (labels.txt), 1 to 182; a mask's value is the label minus
# one. A dash is one of the eleven that COCO names but never annotates.
_LABELS = """
    person; bicycle; car; motorcycle; airplane; bus; train; truck; boat; traffic light; fire hydrant; -; stop sign;
    parking meter; bench; bird; cat; dog; horse; sheep; cow; elephant; bear; zebra; giraffe; -; backpack; umbrella; -;
    -; handbag; tie; suitcase; frisbee; skis; snowboard; sports ball; kite; baseball bat; baseball glove; skateboard;
    surfboard; tennis racket; bottle; -; wine glass; cup; fork; knife; spoon; bowl; banana; apple; sandwich; orange;
    broccoli; carrot; hot dog; pizza; donut; cake; chair; couch; potted plant; bed; -; dining table; -; -; toilet; -;
    tv; laptop; mouse; remote; keyboard; cell phone; microwave; oven; toaster; sink; refrigerator; -; book; clock;
    vase; scissors; teddy bear; hair drier; toothbrush; -;
    banner; blanket; branch; bridge; building-other; bush; cabinet; cage; cardboard; carpet; ceiling-other;
    ceiling-tile; cloth; clothes; clouds; counter; cupboard; curtain; desk-stuff; dirt; door-stuff; fence;
    floor-marble; floor-other; floor-stone; floor-tile; floor-wood; flower; fog; food-other; fruit; furniture-other;
    grass; gravel; ground-other; hill; house; leaves; light; mat; metal; mirror-stuff; moss; mountain; mud; napkin;
    net; paper; pavement; pillow; plant-other; plastic; platform; playingfield; railing; railroad; river; road; rock;
    roof; rug; salad; sand; sea; shelf; sky-other; skyscraper; snow; solid-other; stairs; stone; straw;
    structural-other; table; tent; textile-other; towel; tree; vegetable; wall-brick; wall-concrete; wall-other;
    wall-panel; wall-stone; wall-tile; wall-wood; water-other; waterdrops; window-blind; window-other; wood
"""
_STORED = {
    value: name for value, name in enumerate(" ".join(word.split()) for word in _LABELS.split(";")) if name != "-"
}


class COCOStuff(PairDataset):
    """COCO-Stuff 164k: 118287 training and 5000 validation photographs, 80 things and 91 kinds of stuff.

    Layout: the photographs in ``train2017`` and ``val2017``, the masks of stuffthingmaps_trainval2017.zip in
    ``stuffthingmaps``. A mask's value is COCO's label minus one; 255, unlabelled, is ignored. Of the 182 labels eleven
    never occur: the other 171, in their order, are the classes. The authors publish no colours; VOC's colour map is
    used.
    """

    classes = tuple(_STORED.values())
    ignore_index = 255
    splits: Mapping[str, int | None] = {"train": 118287, "val": 5000}
    train_split = "train"
    eval_split = "val"
    home = "coco"
    layout = ("train2017", "val2017", "stuffthingmaps/train2017", "stuffthingmaps/val2017")
    labels = tuple(_STORED)
    licence = "CC BY 4.0 for the annotations; the photographs under Flickr's terms of use."
    citation = "Caesar, Uijlings, Ferrari: COCO-Stuff: Thing and Stuff Classes in Context. CVPR 2018."
    homepage = HOMEPAGE
    archives = (*PHOTOGRAPHS, STUFF)

    def __init__(self, root: Path, split: str) -> None:
        check_split("coco_stuff", split, self.splits)
        pairs = pairs_by_stem(Path(root), f"{split}2017", ".jpg", f"stuffthingmaps/{split}2017", ".png")
        super().__init__(root, split, pairs, ValueTable.of_labels(self.labels, ignored=[255]))
