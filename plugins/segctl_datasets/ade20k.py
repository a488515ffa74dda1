"""ADE20K as in the scene parsing benchmark of 2016: 150 classes of things and stuff in indoor and outdoor scenes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from segctl.plugin import Archive

from .labels import ValueTable
from .pairs import PairDataset, check_split, pairs_by_stem

__all__ = ["ADE20K"]

_FOLDER = "ADEChallengeData2016"
_FOLDER_OF = {"train": "training", "val": "validation"}
_TEST = "release_test/testing"

# The first of each class's synonyms in the benchmark's objectInfo150.txt, in its order, and the colours in which the
# benchmark's authors draw them (color150, https://github.com/CSAILVision/sceneparsing).
_CLASSES = """
    wall; building; sky; floor; tree; ceiling; road; bed; windowpane; grass; cabinet; sidewalk; person; earth;
    door; table; mountain; plant; curtain; chair; car; water; painting; sofa; shelf; house; sea; mirror; rug;
    field; armchair; seat; fence; desk; rock; wardrobe; lamp; bathtub; railing; cushion; base; box; column;
    signboard; chest of drawers; counter; sand; sink; skyscraper; fireplace; refrigerator; grandstand; path;
    stairs; runway; case; pool table; pillow; screen door; stairway; river; bridge; bookcase; blind; coffee
    table; toilet; flower; book; hill; bench; countertop; stove; palm; kitchen island; computer; swivel chair;
    boat; bar; arcade machine; hovel; bus; towel; light; truck; tower; chandelier; awning; streetlight; booth;
    television; airplane; dirt track; apparel; pole; land; bannister; escalator; ottoman; bottle; buffet;
    poster; stage; van; ship; fountain; conveyer belt; canopy; washer; plaything; swimming pool; stool; barrel;
    basket; waterfall; tent; bag; minibike; cradle; oven; ball; food; step; tank; trade name; microwave; pot;
    animal; bicycle; lake; dishwasher; screen; blanket; sculpture; hood; sconce; vase; traffic light; tray;
    ashcan; fan; pier; crt screen; plate; monitor; bulletin board; shower; radiator; glass; clock; flag
"""
_COLORS = """
    787878 b47878 06e6e6 503232 04c803 787850 8c8c8c cc05ff e6e6e6 04fa07 e005ff ebff07 96053d 787846 08ff33
    ff0652 8fff8c ccff04 ff3307 cc4603 0066c8 3de6fa ff0633 0b66ff ff0747 ff09e0 0907e6 dcdcdc ff095c 7009ff
    08ffd6 07ffe0 ffb806 0aff47 ff290a 07ffff e0ff08 6608ff ff3d06 ffc207 ff7a08 00ff14 ff0829 ff0599 0633ff
    eb0cff a09614 00a3ff 8c8c8c fa0a0f 14ff00 1fff00 ff1f00 ffe000 99ff00 0000ff ff4700 00ebff 00adff 1f00ff
    0bc8c8 ff5200 00fff5 003dff 00ff70 00ff85 ff0000 ffa300 ff6600 c2ff00 008fff 33ff00 0052ff 00ff29 00ffad
    0a00ff adff00 00ff99 ff5c00 ff00ff ff00f5 ff0066 ffad00 ff0014 ffb8b8 001fff 00ff3d 0047ff ff00cc 00ffc2
    00ff52 000aff 0070ff 3300ff 00c2ff 007aff 00ffa3 ff9900 00ff0a ff7000 8fff00 5200ff a3ff00 ffeb00 08b8aa
    8500ff 00ff5c b800ff ff001f 00b8ff 00d6ff ff0070 5cff00 00e0ff 70e0ff 46b8a0 a300ff 9900ff 47ff00 ff00a3
    ffcc00 ff008f 00ffeb 85ff00 ff00eb f500ff ff007a fff500 0abed4 d6ff00 00ccff 1400ff ffff00 0099ff 0029ff
    00ffcc 2900ff 29ff00 ad00ff 00f5ff 4700ff 7a00ff 00ffb8 005cff b8ff00 0085ff ffd600 19c2c2 66ff00 5c00ff
"""


class ADE20K(PairDataset):
    """ADE20K, scene parsing benchmark: 20210 training and 2000 validation photographs, 150 classes.

    Layout: the official ``ADEChallengeData2016``. A mask's value is the class index plus one; 0, what belongs to none
    of the classes, is ignored. Predictions are written as the benchmark wants them, plus one. The labels of the test
    split, the folder ``release_test`` beside the other, are not public; its number of photographs is the one that
    others counted.
    """

    classes = tuple(" ".join(name.split()) for name in _CLASSES.split(";"))
    palette = tuple((code >> 16, code >> 8 & 255, code & 255) for code in (int(word, 16) for word in _COLORS.split()))
    ignore_index = 255
    splits: Mapping[str, int | None] = {"train": 20210, "val": 2000}
    unlabelled_splits: Mapping[str, int | None] = {"test": 3352}
    train_split = "train"
    eval_split = "val"
    layout = (f"{_FOLDER}/images", f"{_FOLDER}/annotations")
    labels = tuple(range(1, 151))
    licence = "BSD 3-clause for the annotations; the photographs for non-commercial research and education only."
    citation = "Zhou et al.: Scene Parsing through ADE20K Dataset. CVPR 2017."
    homepage = "http://sceneparsing.csail.mit.edu"
    archives = (
        Archive(  # size and SHA-256 from TensorFlow Datasets
            url="http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",
            mirrors=("https://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip",),
            size=967_382_037,
            md5="7328b3957e407ddae1d3cbf487f149ef",
            sha1="219e1696abb36c8ba3a3afe7fb2f4b4606a897c7",
            sha256="7ff1be44964418441f542a7cc1e1a650e7dc0fc275f5d23252bc9bbdbc977b29",
            provides=layout,
        ),
        Archive(
            url="http://data.csail.mit.edu/places/ADEchallenge/release_test.zip",
            mirrors=("https://data.csail.mit.edu/places/ADEchallenge/release_test.zip",),
            sha1="e05747892219d10e9243933371a497e905a4860c",
            provides=(_TEST,),
        ),
    )

    def __init__(self, root: Path, split: str) -> None:
        check_split("ade20k", split, {**self.splits, **self.unlabelled_splits})
        if split == "test":
            pairs = pairs_by_stem(Path(root), _TEST, ".jpg", None, "")
        else:
            images, masks = (f"{_FOLDER}/{part}/{_FOLDER_OF[split]}" for part in ("images", "annotations"))
            pairs = pairs_by_stem(Path(root), images, ".jpg", masks, ".png")
        super().__init__(root, split, pairs, ValueTable.of_labels(self.labels, ignored=[0]))

    def submission_path(self, index: int) -> str:
        return f"{self.name(index)}.png"
