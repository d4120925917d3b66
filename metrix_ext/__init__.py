"""Mixup for deep metric learning: fused kernels and losses (Metrix, ICLR 2022)."""

from . import grad_cache, heads, losses, memory, reference, retrieval
from .backend import use_backend
from .grad_cache import GradCache
from .metrix import Metrix

__version__ = "0.1.0"

__all__ = ["GradCache", "Metrix", "grad_cache", "heads", "losses", "memory", "reference", "retrieval", "use_backend"]
