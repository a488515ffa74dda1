"""Feature extractors: each maps an image to the feature maps of its stages and keeps torchvision's parameter names."""
