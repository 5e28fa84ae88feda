"""synreal: keep an ImageNet network's knowledge of the real world while it learns from synthetic images."""
