"""Checkpoints that outlive a kill, a full disk and a damaged file: the newest, and the one before it."""

from .store import NEWEST, PREVIOUS, load, read, write

__all__ = ["NEWEST", "PREVIOUS", "load", "read", "write"]
