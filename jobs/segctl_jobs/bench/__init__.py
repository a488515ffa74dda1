"""How fast models are and what they need, beside a plain model of torchvision; `measure.bench` is where it begins."""
