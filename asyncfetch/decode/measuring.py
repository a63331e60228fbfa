"""What is measured of an image in the worker that decoded it, beside the file that is made of it."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asyncfetch.decode.encoding import Encoding, on_white
from asyncfetch.decode.exif import read_exif

if TYPE_CHECKING:
    from asyncfetch.decode.forms import ImageFile, Pixels
    from asyncfetch.decode.jobs import ImageOptions

SCALE = 512  # pixels of the longer side at which images are measured, where they have so many
_LENGTH = struct.Struct("<I")
_SIDE, _LOW = 32, 8  # of what the perceptual hash sees, and of the frequencies that it keeps


@dataclass(frozen=True, slots=True)
class Making:
    """What becomes of an image in its worker: a file of at most `max_side` pixels, its measures, or both.

    A `transform` of `DecodeOptions`, with all of `options`; `unpack` takes apart what it gives.
    """

    encoding: Encoding | None
    max_side: int
    measured: bool

    @property
    def options(self) -> ImageOptions:
        """What the decode pool is told."""
        most = max(SCALE if self.measured else 0, self.max_side if self.encoding is not None else 0)
        return {"color": "unchanged", "dtype": "uint8", "max_size": most, "transform": self, "with_file": True}

    def __call__(self, pixels: Pixels, file: ImageFile) -> Pixels:
        """Both, one behind the other, as bytes."""
        import cv2
        import numpy as np

        from asyncfetch.decode.samples import resize

        measures = measure(pixels, file) if self.measured else {}
        made = b""
        if self.encoding is not None:
            height, width = pixels.shape[:2]
            if max(height, width) > self.max_side:
                scale = self.max_side / max(height, width)
                size = max(1, round(width * scale)), max(1, round(height * scale))
                pixels = resize(pixels, size, cv2.INTER_AREA)
            made = self.encoding(pixels).tobytes()
        text = json.dumps(measures).encode()
        return np.frombuffer(_LENGTH.pack(len(text)) + text + made, np.uint8)


def unpack(made: Pixels) -> tuple[dict[str, Any], bytes]:
    """The measures, and the file."""
    data = made.tobytes()
    end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    return json.loads(data[_LENGTH.size : end]), data[end:]


def measure(pixels: Pixels, file: ImageFile) -> dict[str, Any]:
    """What can be said of an image, of whose pixels there are at most `SCALE` a side, in 8 bits, on white.

    - `width`, `height` (upright), `channels` and `format` of the file; `taken` and `orientation` as Exif says.
    - `mean_color`: the means of red, green and blue, 0 to 255, without regard to gamma.
    - `sharpness`: the variance of the Laplacian of gray at this scale (Pech-Pacheco et al., "Diatom autofocusing in
      brightfield microscopy", ICPR 2000). It compares images; no number of it is sharp by itself.
    - `phash`: 64 bits in hexadecimal. Gray of 32 x 32 pixels, its cosine transform, and of the 8 x 8 lowest
      frequencies which are above their median (Zauner, "Implementation and benchmarking of perceptual image hash
      functions", 2010).
    """
    import cv2
    import numpy as np

    if pixels.ndim == 3 and pixels.shape[2] == 4:
        pixels = on_white(pixels)
    gray: Any = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY) if pixels.ndim == 3 else pixels
    means = pixels.reshape(-1, pixels.shape[2]).mean(0)[::-1] if pixels.ndim == 3 else [gray.mean()] * 3
    small: Any = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    # Rounded, so that an image of one colour has no bits of noise.
    low = np.round(cv2.dct(small)[:_LOW, :_LOW], 2).ravel()
    bits = np.packbits(low > np.median(low[1:]))
    exif = read_exif(file.kind, file.data)
    return {
        "width": file.width or pixels.shape[1],
        "height": file.height or pixels.shape[0],
        "channels": file.channels,
        "format": file.kind,
        "taken": exif.taken,
        "orientation": exif.orientation,
        "mean_color": [round(float(mean), 1) for mean in means],
        "sharpness": round(float(cv2.Laplacian(gray, cv2.CV_64F).var()), 2),
        "phash": bits.tobytes().hex(),
    }
