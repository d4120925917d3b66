"""Memory: nothing that a caller passes makes the library read or write what is not its own.

Each call has a process of its own, as a fault may end it.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import metrix_ext as mx

from . import calls
from .support import DIM, gave, isolated, make_batch, make_head, make_loss, make_maps, refused


def mix_through_head(pool: str, size: int) -> float:
    x, labels = make_batch()
    maps = make_maps().requires_grad_()
    criterion = mx.Metrix(make_loss("MultiSimilarityLoss"), mix="feature", pairs="pos-neg")
    loss = criterion(x.requires_grad_(), labels, source=maps, encode=make_head(pool, size), seed=0)
    loss.backward()
    return float(loss.detach())


@pytest.mark.parametrize("size", [1, DIM - 1, DIM + 1, 64, 4096])
@pytest.mark.parametrize("pool", ["avg", "max", "avg+max"])
def test_a_head_of_another_embedding_size_is_refused(pool: str, size: int) -> None:
    """Mixes of d' numbers cannot be compared with embeddings of d: the message names encode and both sizes."""
    refused(isolated(mix_through_head, pool, size), "encode", f"{size}", f"{DIM}")


def mix_through(encode: str) -> float:
    x, labels = make_batch()
    maps = make_maps()
    wide = nn.Sequential(nn.Flatten(), nn.Linear(maps[0].numel(), DIM + 1)).double()
    right = nn.Sequential(nn.Flatten(), nn.Linear(maps[0].numel(), DIM)).double()
    encoders: dict[str, Any] = {
        "another size": wide,
        "fewer rows": lambda maps: right(maps)[1:],
        "one dimension": lambda maps: right(maps).reshape(-1),
        "meta": lambda maps: right(maps).to("meta"),
    }
    criterion = mx.Metrix(make_loss("MultiSimilarityLoss"), mix="feature", pairs="pos-neg")
    return float(criterion(x, labels, source=maps, encode=encoders[encode], seed=0))


@pytest.mark.parametrize("encode", ["another size", "fewer rows", "one dimension", "meta"])
def test_what_encode_returns_is_checked(encode: str) -> None:
    """A mix is [p, d] on the device of the embeddings; anything else is an error about encode."""
    refused(isolated(mix_through, encode), "encode")


def loss_with_one_on_meta(argument: str) -> float:
    x, labels = make_batch()
    pairs = torch.tensor([0, 1]), torch.tensor([4, 5]), torch.tensor([2, 3])
    given: dict[str, Any] = {"embeddings": x, "labels": labels}
    if argument in ("ref_emb", "ref_labels"):
        given |= {"ref_emb": x.clone(), "ref_labels": labels.clone()}
    if argument == "indices_tuple":
        given["indices_tuple"] = tuple(t.to("meta") for t in pairs)
    else:
        given[argument] = given[argument].to("meta")
    return float(make_loss("MultiSimilarityLoss")(**given))


@pytest.mark.parametrize("argument", ["embeddings", "labels", "ref_emb", "ref_labels", "indices_tuple"])
def test_a_tensor_of_a_loss_on_another_device_is_refused(argument: str) -> None:
    named = {"embeddings": "labels", "ref_labels": "ref_"}.get(argument, argument)
    refused(isolated(loss_with_one_on_meta, argument), named, "meta")


def metrix_with_one_on_meta(argument: str) -> float:
    x, labels = make_batch()
    lam = torch.full((len(x), len(x)), 0.3, dtype=torch.float64)
    of_proxies = argument == "proxies"
    loss = make_loss("ProxyAnchorLoss" if of_proxies else "MultiSimilarityLoss")
    loss = loss.to("meta") if of_proxies else loss
    mix = "feature" if argument in ("source", "encode") else "embed"
    criterion = mx.Metrix(loss, mix=mix, pairs="pos-neg", lam=lam.to("meta") if argument == "lam" else lam)
    maps, head = make_maps(), make_head("max")
    if mix == "embed":
        return float(criterion(x, labels).detach())
    source = maps.to("meta") if argument == "source" else maps
    return float(criterion(x, labels, source=source, encode=head.to("meta") if argument == "encode" else head).detach())


@pytest.mark.parametrize("argument", ["proxies", "source", "encode", "lam"])
def test_a_tensor_of_metrix_on_another_device_is_refused(argument: str) -> None:
    """Also the parameters of the loss and of the head. (lam on a GPU would be copied; from meta there is nothing.)"""
    refused(isolated(metrix_with_one_on_meta, argument), argument, "meta")


BEYOND = 10**12
# call, argument, what is wrong with it
WRONG_INDICES = [
    ("unit_rows", "order", "beyond"),
    ("unit_rows", "order", "negative"),
    ("unit_rows", "order", "short"),
    ("unit_rows", "order", "int32"),
    ("pair_sums clean", "positives", "beyond"),
    ("pair_sums clean", "positives", "negative"),
    ("pair_sums clean", "positives", "int32"),
    ("pair_sums clean", "self_index", "int32"),
    ("pair_sums clean", "mask", "int64"),
    ("pair_sums pos-neg", "positives", "beyond"),
    ("pair_sums pos-neg", "positives", "negative"),
    ("pair_sums pos-neg", "mask", "int64"),
    ("pair_sums anc-neg", "positives", "beyond"),
    ("anchor_sums", "first", "beyond"),
    ("anchor_sums", "first", "negative"),
    ("anchor_sums", "second", "beyond"),
    ("anchor_sums", "positives", "beyond"),
    ("anchor_sums", "begin", "short"),
    ("anchor_sums", "begin", "int32"),
    ("anchor_sums", "uses", "short"),
    ("anchor_sums", "uses", "int32"),
    ("mix_pool", "order", "beyond"),
    ("mix_pool", "order", "negative"),
    ("mix_pool", "first", "beyond"),
    ("mix_pool", "second", "negative"),
    ("mix_pool", "begin", "beyond"),
    ("mix_pool", "begin", "int32"),
    ("mix_pool", "uses", "short"),
    ("mix_pool", "uses", "int32"),
    ("mean_loss", "mixed", "short"),
    ("mean_loss", "mixed", "float32"),
    ("mean_loss", "mixed", "meta"),
    ("mean_loss", "sums", "three columns"),
    ("gram", "x", "one dimension"),
    ("class_order", "labels", "int32"),
    ("class_order", "labels", "float32"),
]


def spoilt(tensor: torch.Tensor, how: str) -> torch.Tensor:
    if how in ("beyond", "negative"):
        tensor = tensor.clone()
        tensor.view(-1)[0] = BEYOND if how == "beyond" else -BEYOND
        return tensor
    if how == "three columns":
        return tensor.new_zeros(len(tensor), 3)
    if how in ("short", "one dimension", "meta"):
        return {"short": tensor[:-1], "one dimension": tensor.reshape(-1), "meta": tensor.to("meta")}[how]
    return tensor.to(getattr(torch, how))


def op_with_one_wrong(name: str, argument: str, how: str) -> list[float]:
    call = calls.CALLS[name]
    given = call.make(0)
    given[argument] = spoilt(given[argument], how)
    outputs, gradients = calls.outputs_and_gradients(call, given)
    return [float(t.double().sum()) for t in (*outputs, *gradients)]


@pytest.mark.parametrize(("name", "argument", "how"), WRONG_INDICES)
def test_an_op_reads_no_index_and_no_type_that_it_has_not_checked(name: str, argument: str, how: str) -> None:
    """On the CPU, where it waits for nobody, an index outside its range is a ValueError like a wrong shape."""
    refused(isolated(op_with_one_wrong, name, argument, how), argument)


def strided_lists(name: str) -> list[float]:
    call = calls.CALLS[name]
    given = call.make(0)
    for argument in ("first", "second", "lam", "begin", "uses", "order"):
        if argument in given:
            given[argument] = given[argument].repeat_interleave(2)[::2]
    outputs, gradients = calls.outputs_and_gradients(call, given)
    return [float(t.double().sum()) for t in (*outputs, *gradients)]


@pytest.mark.parametrize("name", ["anchor_sums", "mix_pool", "unit_rows"])
def test_lists_whose_elements_are_not_next_to_each_other_are_read_right(name: str) -> None:
    call = calls.CALLS[name]
    outputs, gradients = calls.outputs_and_gradients(call, call.make(0))
    gave(isolated(strided_lists, name), [float(t.double().sum()) for t in (*outputs, *gradients)])
