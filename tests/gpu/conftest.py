"""The CUDA backend, for tests that ask for it."""

from collections.abc import Iterator

import pytest

import metrix_ext as mx


@pytest.fixture
def cuda_backend() -> Iterator[None]:
    with mx.use_backend("cuda"):
        yield
