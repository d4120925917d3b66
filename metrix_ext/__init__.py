"""Mixup for deep metric learning: fused kernels and losses (Metrix, ICLR 2022)."""

from . import heads, losses, memory, reference, retrieval
from .backend import use_backend
from .metrix import Metrix

__version__ = "0.1.0"

__all__ = ["Metrix", "heads", "losses", "memory", "reference", "retrieval", "use_backend"]
