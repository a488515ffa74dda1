"""A person's own images and masks, without any code."""

from .dataset import Folder

__all__ = ["Folder"]
