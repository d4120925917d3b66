"""State dicts: read from a file, and fitted to a network."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...errors import UserError
from ...files import load_tensors, reading, require_file

State = Mapping[str, Tensor]
WRAPPERS = ("state_dict", "model")  # under which training scripts store it
MOST_NAMED = 3


def load(module: nn.Module, path: str, what: str, prepare: Callable[[State], State]) -> None:
    """Fills the module from a file of torch.save, or a .safetensors. Raises UserError of one line that names the file.

    prepare: leaves out what belongs to the classifier, and renames what has another name there.
    """
    stored = read_safetensors(path, what) if Path(path).suffix == ".safetensors" else load_tensors(path, what)
    with reading(path, what):
        fit(module, prepare(state_dict(stored)))


def read_safetensors(path: str, what: str) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise UserError(f"--weights {path} needs safetensors: pip install 'metrix_ext[timm]'") from None
    with reading(path, what):
        require_file(path)
        return load_file(path)


def state_dict(stored: Any) -> dict[str, Tensor]:
    """Out of the wrapping of common training scripts, and of DataParallel's `module.`."""
    for wrapper in WRAPPERS:
        if isinstance(stored, Mapping) and isinstance(stored.get(wrapper), Mapping):
            stored = stored[wrapper]
    if not isinstance(stored, Mapping) or not all(isinstance(t, Tensor) for t in stored.values()):
        raise ValueError("it is no mapping from names to tensors")
    return {re.sub(r"^module\.", "", str(name)): tensor for name, tensor in stored.items()}


def fit(module: nn.Module, state: State) -> None:
    """Raises ValueError that names what is missing, what is too much and what has another shape."""
    own = module.state_dict()
    # Files from before these counters were there load as well; they matter to no network that has a momentum.
    missing = [n for n in own if n not in state and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in state if n not in own]
    shaped = [n for n in own if n in state and state[n].shape != own[n].shape]
    wrong = {"lacks": missing, "has besides": unexpected, "has another shape of": shaped}
    if any(wrong.values()):
        raise ValueError("it " + ", ".join(f"{verb} {listed(names)}" for verb, names in wrong.items() if names))
    module.load_state_dict(state, strict=False)


def listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return " ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
