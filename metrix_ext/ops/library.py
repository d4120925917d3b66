"""The namespace that all ops are registered in."""

import torch

LIBRARY = torch.library.Library("metrix_ext", "DEF")
