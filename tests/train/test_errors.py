"""The one line that an error comes to."""

from __future__ import annotations

import pytest

from train.errors import Diverged, UserError, one_line


def as_from_a_worker(error):
    """As torch's DataLoader raises it again in the main process."""
    from torch._utils import ExceptionWrapper

    try:
        raise error
    except Exception:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(type(error)) as raised:
        wrapped.reraise()
    assert "Traceback" in str(raised.value)
    return raised.value


@pytest.mark.parametrize("kind", [UserError, Diverged])
@pytest.mark.parametrize("message", ["a: b.png cannot be read", "two\nlines: of it", "train.errors.UserError: x"])
def test_a_message_is_the_same_from_a_loaders_process(kind, message):
    assert one_line(kind(message)) == " ".join(message.split())
    assert one_line(as_from_a_worker(kind(message))) == " ".join(message.split())


def test_an_error_without_a_message_is_named():
    assert one_line(ValueError()) == "ValueError"
