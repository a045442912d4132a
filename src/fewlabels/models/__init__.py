"""Backbones: one catalog over ours, torchvision's and timm's."""
