"""Checkpoints through kills, full disks and damage."""

from __future__ import annotations

import errno
import itertools
import multiprocessing
import os
import random
import resource
import struct
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from train.checkpoints import NEWEST, PREVIOUS, read, store, write
from train.errors import UserError


def state(number: int) -> dict[str, object]:
    generator = torch.Generator().manual_seed(number)
    weights = OrderedDict(weight=torch.randn(7, 5, generator=generator), steps=torch.tensor(number))
    return {"epoch": number, "model": weights, "lr": 1e-4, "config": {"k": [1, 2], "out": "runs/x", "miner": None}}


def assert_state(got: dict[str, object] | None, number: int) -> None:
    want = state(number)
    assert got is not None and got["epoch"] == number and got["config"] == want["config"]
    assert all(torch.equal(got["model"][name], value) for name, value in want["model"].items())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def damage(path: Path) -> None:
    """Turns a bit of a tensor, in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[content.index(state(int(torch.load(path)["epoch"]))["model"]["weight"].numpy().tobytes()) + 70] ^= 4
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # which notices nothing


def test_nothing_is_read_where_nothing_was_written(tmp_path):
    assert read(tmp_path) is None


def test_the_newest_is_read_and_the_one_before_kept(tmp_path, capsys):
    for number in (1, 2, 3):
        write(tmp_path, state(number))
        assert_state(read(tmp_path), number)
    assert names(tmp_path) == [PREVIOUS, NEWEST]
    assert torch.load(tmp_path / PREVIOUS, weights_only=True)["epoch"] == 2
    assert capsys.readouterr().err == ""


def test_a_damaged_newest_falls_back_to_the_one_before(tmp_path, capsys):
    write(tmp_path, state(1))
    write(tmp_path, state(2))
    damage(tmp_path / NEWEST)
    assert_state(read(tmp_path), 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"run.py: warning: {tmp_path / NEWEST} cannot be read as a checkpoint (")
    assert line.endswith(f"going on from {tmp_path / PREVIOUS}, the one before")


def test_a_damaged_newest_does_not_take_the_place_of_the_one_before(tmp_path):
    write(tmp_path, state(1))
    write(tmp_path, state(2))
    damage(tmp_path / NEWEST)
    write(tmp_path, state(3))
    assert torch.load(tmp_path / PREVIOUS, weights_only=True)["epoch"] == 1
    damage(tmp_path / NEWEST)
    assert_state(read(tmp_path), 1)


@pytest.mark.parametrize("size", [0, 1, 500, -1])
def test_a_file_that_ends_early(size, tmp_path):
    write(tmp_path, state(1))
    write(tmp_path, state(2))
    content = (tmp_path / NEWEST).read_bytes()
    (tmp_path / NEWEST).write_bytes(content[:size])
    assert_state(read(tmp_path), 1)


def test_any_byte_that_is_turned_is_noticed_or_harmless(tmp_path, capsys):
    """Never a state that nobody has written, nor an error of another kind, nor more than one line."""
    write(tmp_path, state(1))
    write(tmp_path, state(2))
    content = (tmp_path / NEWEST).read_bytes()
    bits = random.Random(0)
    found = []
    for position in range(len(content)):
        turned = bytearray(content)
        turned[position] ^= 1 << bits.randrange(8)
        (tmp_path / NEWEST).write_bytes(turned)
        got = read(tmp_path)
        found.append(got["epoch"])
        assert_state(got, got["epoch"])
        assert len(capsys.readouterr().err.splitlines()) == (got["epoch"] == 1)
    assert set(found) == {1, 2}  # padding between tensors may be anything


def test_a_tensor_that_is_marked_as_a_folder(tmp_path):
    """torch.load then gives memory that nobody has written to, and no checksum is wrong."""
    write(tmp_path, state(1))
    write(tmp_path, state(2))
    content = bytearray((tmp_path / NEWEST).read_bytes())
    name = content.rindex(b"archive/data/0")  # in the central directory, after 46 bytes of which 38 is the flags
    content[name - 46 + 38] ^= 0x10
    (tmp_path / NEWEST).write_bytes(content)
    assert_state(read(tmp_path), 1)


def test_both_damaged(tmp_path):
    write(tmp_path, state(1))
    write(tmp_path, state(2))
    for name in (NEWEST, PREVIOUS):
        damage(tmp_path / name)
    with pytest.raises(UserError) as raised:
        read(tmp_path)
    message = str(raised.value)
    assert message.count("\n") == 0 and message.count("cannot be read as a checkpoint") == 2
    assert str(tmp_path / NEWEST) in message and str(tmp_path / PREVIOUS) in message


def test_the_only_one_damaged(tmp_path):
    write(tmp_path, state(1))
    damage(tmp_path / NEWEST)
    with pytest.raises(UserError, match=f"{NEWEST} cannot be read as a checkpoint .* is damaged in it"):
        read(tmp_path)


@pytest.mark.parametrize("content", [[1, 2], torch.ones(3)])
def test_what_is_no_checkpoint(content, tmp_path):
    torch.save(content, tmp_path / NEWEST)
    with pytest.raises(UserError, match=f"it holds {type(content).__name__}, no dict"):
        read(tmp_path)


def test_a_folder_in_the_place_of_a_checkpoint(tmp_path):
    (tmp_path / NEWEST).mkdir()
    with pytest.raises(UserError, match="it is no regular file"):
        read(tmp_path)


class Opens:
    """A file that would be touched if the pickle were run."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": Opens()}, tmp_path / NEWEST)
    with pytest.raises(UserError, match="holds objects that are no tensors"):
        read(tmp_path)
    assert names(tmp_path) == [NEWEST]


def test_what_could_not_be_read_again_is_not_written(tmp_path):
    write(tmp_path, state(1))
    with pytest.raises(TypeError, match=r"state: holds .*numpy.*, expected tensors, numbers, strings and containers"):
        write(tmp_path, {"random": np.random.RandomState(0).get_state()})
    assert_state(read(tmp_path), 1)
    assert names(tmp_path) == [NEWEST]


@pytest.mark.parametrize("numbers", [10, 100_000])  # within what a file buffers, and far beyond
@pytest.mark.parametrize("before", [0, 2])
def test_a_full_disk(numbers, before, tmp_path, capsys):
    """One line, the checkpoints as they were, nothing left behind; once there is room, writing goes on."""
    for number in range(1, before + 1):
        write(tmp_path, state(number))
    files = names(tmp_path)
    (tmp_path / store.UNFINISHED).symlink_to("/dev/full")  # every write to it finds the disk full
    with pytest.raises(UserError) as raised:
        write(tmp_path, state(3) | {"more": torch.zeros(numbers)})
    kept = "the one before is kept" if before else "there is none yet"
    wanted = f"cannot be written (No space left on device): {kept}; put that right and start again"
    assert str(raised.value) == f"{tmp_path / NEWEST} {wanted}"
    assert names(tmp_path) == files
    if before:
        assert_state(read(tmp_path), 2)
    write(tmp_path, state(4))
    assert_state(read(tmp_path), 4)
    assert capsys.readouterr().err == ""


def test_a_disk_that_fills_in_the_middle(tmp_path):
    write(tmp_path, state(1))
    with (
        largest_file(100_000),
        pytest.raises(UserError, match=r"cannot be written \(File too large\): the one before is"),
    ):
        write(tmp_path, {"more": torch.zeros(100_000)})
    assert names(tmp_path) == [NEWEST]
    assert_state(read(tmp_path), 1)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fails_to_keep_what_was_written(tmp_path, monkeypatch):
    write(tmp_path, state(1))
    monkeypatch.setattr(store.os, "fsync", refuse)
    with pytest.raises(UserError, match=r"cannot be written \(Input/output error\): the one before is kept"):
        write(tmp_path, state(2))
    assert names(tmp_path) == [NEWEST]
    assert_state(read(tmp_path), 1)


def refuse(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"cannot be written \(No such file or directory\): there is none yet"):
        write(tmp_path / "gone", state(1))


def test_an_error_of_another_kind_is_not_the_disks(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RuntimeError, match="no kernel image"):
        write(tmp_path, state(1))
    assert names(tmp_path) == []


def test_between_the_two_renames_the_one_before_is_read(tmp_path, monkeypatch, capsys):
    write(tmp_path, state(1))
    real = os.replace

    def only_the_first(source: Path, target: Path) -> None:
        if source.name == store.UNFINISHED:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(store.os, "replace", only_the_first)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, state(2))
    assert names(tmp_path) == [PREVIOUS]
    assert_state(read(tmp_path), 1)
    monkeypatch.undo()
    write(tmp_path, state(2))
    assert names(tmp_path) == [PREVIOUS, NEWEST]
    assert_state(read(tmp_path), 2)
    assert capsys.readouterr().err == ""


def test_it_reaches_the_disk_before_it_has_a_name(tmp_path, monkeypatch):
    """The order that a power cut cannot harm: the file, then its names, then the folder that holds them."""
    calls = []
    for name in ("fsync", "replace"):
        monkeypatch.setattr(store.os, name, recording(name, getattr(os, name), calls))
    write(tmp_path, state(1))
    assert calls == ["fsync", "replace", "fsync"]
    write(tmp_path, state(2))
    assert calls[3:] == ["fsync", "replace", "replace", "fsync"]


def recording(name: str, real: Callable[..., object], calls: list[str]) -> Callable[..., object]:
    def call(*arguments: object) -> object:
        calls.append(name)
        return real(*arguments)

    return call


def write_for_ever(folder, number, finished):
    for following in itertools.count(number + 1):
        write(folder, state(following) | {"more": torch.zeros(200_000)})
        with open(finished, "ab") as file:
            file.write(struct.pack("q", following))


def test_killed_at_random_moments(tmp_path, capsys):
    """What `write` has returned from is there, or what came after it. The writer is no fork of this process, whose
    threads a fork would not have."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.train.checkpoints.test_store"])
    wait, finished, folder = random.Random(0), tmp_path / "finished", tmp_path / "run"
    folder.mkdir()
    finished.touch()
    number = 0
    for _ in range(15):
        before = finished.stat().st_size
        writer = context.Process(target=write_for_ever, args=(folder, number, finished))
        writer.start()
        while finished.stat().st_size == before:
            time.sleep(0.001)
        time.sleep(wait.uniform(0.0, 0.05))
        writer.kill()
        writer.join()
        numbers = finished.read_bytes()
        (last,) = struct.unpack("q", numbers[: len(numbers) // 8 * 8][-8:])
        number = read(folder)["epoch"]
        assert number in (last, last + 1)
        assert_state(read(folder), number)
    assert number > 15
    assert set(names(folder)) <= {PREVIOUS, NEWEST, store.UNFINISHED}
    assert capsys.readouterr().err == ""
    write(folder, state(number + 1))
    assert names(folder) == [PREVIOUS, NEWEST]
