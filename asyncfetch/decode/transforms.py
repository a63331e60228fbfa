"""The user's own functions, run in the worker: loaded once, seeded for each item, never trusted."""

from __future__ import annotations

import base64
import random
import sys
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from asyncfetch.decode.forms import ImageFile, Pixels


class TransformError(Exception):
    """Raised for a function that cannot be loaded, raises, or gives something that it may not."""


class Function:
    """A function as it came over the wire, called `name` where it fails. Raises `TransformError`."""

    def __init__(self, code: str, name: str) -> None:
        import cloudpickle

        _make_whole("asyncfetch.decode")
        _make_whole("asyncfetch")
        self.name = name
        self._function: Callable[..., Any] | None = None
        self._failure = ""
        try:
            self._function = cloudpickle.loads(base64.b64decode(code))
        except BaseException as error:  # a module of the user's that calls sys.exit
            self._failure = f"{name} could not be loaded in the worker: {describe(error)}"

    def __call__(self, given: tuple[Any, ...], seed: int, epoch: int, index: int) -> Any:
        """Calls it with what is given of one item, and with the random numbers that this item has in every run."""
        if self._function is None:
            raise TransformError(self._failure)
        state = np.random.SeedSequence((seed, epoch, index)).generate_state(4)
        np.random.seed(state)  # the old way is what most transforms draw from
        random.seed(state.tobytes())
        cv2.setRNGSeed(int(state[0] >> 1))
        # Never imported for this: it takes seconds. Not by torch.manual_seed, which sees to every accelerator (0.5 ms).
        if (generator := getattr(sys.modules.get("torch"), "default_generator", None)) is not None:
            generator.manual_seed(int.from_bytes(state[2:].tobytes(), sys.byteorder))
        try:
            return self._function(*given)
        except BaseException as error:  # SystemExit too: it would end the worker, and is a mistake here
            raise TransformError(f"{self.name} raised {describe(error)}") from None


class Transform(Function):
    """A function on pixels, which gives pixels."""

    def __init__(self, code: str) -> None:
        super().__init__(code, "the transform")
        if hasattr(self._function, "set_random_seed"):
            self._function = partial(_augment, self._function)

    def __call__(self, given: tuple[Any, ...], seed: int, epoch: int, index: int) -> Pixels:
        """Applies it to one item's pixels, and its `ImageFile` where that is given as well."""
        result = super().__call__(given, seed, epoch, index)
        if isinstance(result, np.generic):
            result = np.asarray(result)
        if not isinstance(result, np.ndarray):
            raise TransformError(f"the transform gave {_name(result)}, not a NumPy array")
        if result.dtype.kind not in "?biufc":
            raise TransformError(f"the transform gave an array of {result.dtype}, not of numbers")
        return result


def _augment(transform: Any, pixels: Pixels, *_: ImageFile) -> Any:
    """Applies a transform as Albumentations makes them: it has generators of its own, and takes and gives names.

    https://albumentations.ai/docs/api-reference/core/composition
    """
    transform.set_random_seed(random.getrandbits(32))
    return transform(image=pixels)["image"]


def describe(error: BaseException) -> str:
    """An exception in a line, with the place where it was raised."""
    at, frame = error.__traceback__, ""
    while at is not None:
        frame = f" ({Path(at.tb_frame.f_code.co_filename).name}, line {at.tb_lineno})"
        at = at.tb_next
    said = " ".join(str(error).split())[:500]
    return f"{type(error).__name__}{': ' if said else ''}{said}{frame}"


def _name(value: object) -> str:
    return "None" if value is None else f"a value of the type {type(value).__name__}"


def _make_whole(name: str) -> None:
    """Has a package that was entered without its `__init__` run it when something of it is missed.

    A transform's module may well import this package for its own reasons.
    """
    package = sys.modules[name]

    def missed(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        vars(package).pop("__getattr__", None)
        _run_init(package)
        return getattr(package, attribute)

    if getattr(package, "__file__", None) is None:
        package.__getattr__ = missed  # type: ignore[method-assign] # PEP 562


def _run_init(package: ModuleType) -> None:
    place = package.__path__[0]
    spec = spec_from_file_location(package.__name__, Path(place, "__init__.py"), submodule_search_locations=[place])
    assert spec is not None
    assert spec.loader is not None
    module_attributes = vars(module_from_spec(spec))
    vars(package).update({name: value for name, value in module_attributes.items() if name.startswith("__")})
    spec.loader.exec_module(package)
