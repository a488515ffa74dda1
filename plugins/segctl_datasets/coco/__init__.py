"""COCO: the 21 classes of VOC made of its instances, and the 171 classes of COCO-Stuff."""

from .stuff import COCOStuff
from .voc21 import COCO

__all__ = ["COCO", "COCOStuff"]
