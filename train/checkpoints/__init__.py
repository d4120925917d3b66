"""Checkpoints that outlive a kill, a full disk and a damaged file: the newest, and the one before it."""

from .store import NEWEST, PREVIOUS, read, write

__all__ = ["NEWEST", "PREVIOUS", "read", "write"]
