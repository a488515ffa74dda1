"""The files that COCO's photographs and annotations of 2017 are published as.

MD5 and SHA-1 as other projects publish them, size and SHA-256 from TensorFlow Datasets.
"""

from __future__ import annotations

from segctl.plugin import Archive

__all__ = ["ANNOTATIONS", "HOMEPAGE", "PHOTOGRAPHS", "STUFF"]

HOMEPAGE = "https://cocodataset.org"
_SERVER = "http://images.cocodataset.org"

PHOTOGRAPHS = (
    Archive(
        url=f"{_SERVER}/zips/train2017.zip",
        size=19_336_861_798,
        md5="cced6f7f71b7629ddf16f17bbcfab6b2",
        sha1="10ad623668ab00c62c096f0ed636d6aff41faca5",
        sha256="69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
        provides=("train2017",),
    ),
    Archive(
        url=f"{_SERVER}/zips/val2017.zip",
        size=815_585_330,
        md5="442b8da7639aecaf257c1dceb8ba8c80",
        sha1="4950dc9d00dbe1c933ee0170f5797584351d2a41",
        sha256="4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
        provides=("val2017",),
    ),
)
ANNOTATIONS = Archive(
    url=f"{_SERVER}/annotations/annotations_trainval2017.zip",
    size=252_907_541,
    md5="f4bbac642086de4f52a3fdda2de5fa2c",
    sha1="8551ee4bb5860311e79dace7e79cb91e432e78b3",
    sha256="113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
    provides=("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
)
STUFF = Archive(  # neither exact size nor digest are published
    url="http://calvin.inf.ed.ac.uk/wp-content/uploads/data/cocostuffdataset/stuffthingmaps_trainval2017.zip",
    folder="stuffthingmaps",
    provides=("stuffthingmaps/train2017", "stuffthingmaps/val2017"),
)
