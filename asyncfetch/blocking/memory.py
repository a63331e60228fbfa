"""Images that were used last, kept in memory up to so many bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]


class Memory:
    """A map from names to arrays for several threads. What was used longest ago goes when there are too many bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = 0
        self._images: OrderedDict[str, Pixels] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """How many are held."""
        return self._held

    def get(self, name: str) -> Pixels | None:
        """The image of this name, None where it is not held."""
        with self._lock:
            found = self._images.get(name)
            if found is not None:
                self._images.move_to_end(name)
            return found

    def put(self, name: str, pixels: Pixels) -> None:
        """Holds an image; one that has more bytes than all may have is not held."""
        with self._lock:
            self._drop(name)
            if pixels.nbytes <= self._limit:
                self._images[name] = pixels
                self._held += pixels.nbytes
            while self._held > self._limit:
                self._drop(next(iter(self._images)))

    def clear(self) -> None:
        """Holds nothing any more."""
        with self._lock:
            self._images.clear()
            self._held = 0

    def _drop(self, name: str) -> None:
        gone = self._images.pop(name, None)
        if gone is not None:
            self._held -= gone.nbytes
