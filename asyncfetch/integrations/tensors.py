"""What a batch is for PyTorch: tensors over the memory that it lies in. `torch` beside it says what to install."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.data import default_collate

from asyncfetch.errors import UsageError
from asyncfetch.objects import Failure

if TYPE_CHECKING:
    from asyncfetch.streams import Batch


class Sample(NamedTuple):
    """One image: `pixels` (H, W, C) or as the options say, `label` its source's payload, and which source it is."""

    pixels: torch.Tensor
    label: Any
    source_index: int
    uri: str


class TensorBatch(NamedTuple):
    """Some images. N is their number.

    `pixels` is one tensor (N, H, W, C), of the dtype that the options say, where all are of equal shape; else a list of
    tensors. `labels` are the payloads as `torch.utils.data.default_collate` joins them: numbers are a tensor (N,); None
    where no source has one. `indices` is a tensor (N,) of int64. `failures` are those of `on_error="yield"`; `pixels`
    then is a list with None in their places.
    """

    pixels: torch.Tensor | list[torch.Tensor | None]
    labels: Any
    indices: torch.Tensor
    uris: list[str]
    failures: list[Failure]


def tensors(batch: Batch[Any]) -> TensorBatch:
    """A batch as tensors, over the memory that it lies in. Raises `UsageError` for payloads that cannot be joined."""
    pixels: Any = batch.pixels
    if pixels is None or isinstance(pixels, list):
        found = [None] * len(batch) if pixels is None else pixels
        pixels = [None if one is None else torch.from_numpy(one) for one in found]
        failures = [item for item in batch.items if isinstance(item, Failure)]
    else:
        pixels = torch.from_numpy(pixels)
        failures = []  # every one of them has pixels
    return TensorBatch(pixels, _labels(batch.payloads), torch.tensor(batch.indices), batch.uris, failures)


def pinned(value: Any) -> Any:
    """The same with all tensors in it copied to page-locked memory, whatever they are wrapped in."""
    if isinstance(value, torch.Tensor):
        return value.pin_memory()
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(map(pinned, value))
    if isinstance(value, tuple | list):
        return type(value)(map(pinned, value))
    return {name: pinned(one) for name, one in value.items()} if isinstance(value, dict) else value


def _labels(payloads: list[Any]) -> Any:
    if all(payload is None for payload in payloads):
        return None
    try:
        return default_collate(payloads)
    except (TypeError, RuntimeError, ValueError) as error:
        raise UsageError(f"The payloads cannot be joined to labels: {error}", remedy="Say collate=.") from error
