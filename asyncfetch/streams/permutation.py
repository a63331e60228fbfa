"""A random order of any number of things, one place at a time: nothing is stored, whatever their number."""

from __future__ import annotations

import hashlib
from math import isqrt

_WORD = (1 << 64) - 1
_MANY = 1000  # from so many on
_ROUNDS_OF_MANY = 6  # are enough: neighbours and pairs are as in a uniform permutation (chi-squared over 40,000 keys)
_ROUNDS_OF_FEW = 20  # with 6, the permutations of five things were far from equally frequent; with 18 they are


class Permutation:
    """A permutation of `range(length)`, chosen by the key: the same on every machine, in every version of Python.

    It is the generalized Feistel cipher of Black and Rogaway ("Ciphers with Arbitrary Finite Domains", CT-RSA 2002,
    section 5): a place is written as a pair of digits in mixed radix, each in turn is shifted by a hash of the other,
    and what falls outside is walked on until it is inside. The hash is two steps of SplitMix64's finalizer (Steele,
    Lea and Flood, OOPSLA 2014), which scatters well and is no secret. Some 1.5 us a place.
    """

    __slots__ = ("_high", "_keys", "_low", "length")

    def __init__(self, length: int, *key: int) -> None:
        self.length = length
        self._low = isqrt(max(length - 1, 0)) + 1
        self._high = -(-length // self._low)
        rounds = _ROUNDS_OF_MANY if length >= _MANY else _ROUNDS_OF_FEW
        words = hashlib.shake_128(" ".join(map(str, (length, *key))).encode()).digest(8 * rounds)
        keys = [int.from_bytes(words[at : at + 8], "little") for at in range(0, len(words), 8)]
        self._keys = list(zip(keys[::2], keys[1::2], strict=True))

    def __call__(self, place: int) -> int:
        low, high = self._low, self._high
        while True:
            right, left = divmod(place, low)
            for first, second in self._keys:
                word = ((right ^ first) * 0xBF58476D1CE4E5B9) & _WORD
                word = ((word ^ word >> 32) * 0x94D049BB133111EB) & _WORD
                left = (left + (word >> 32)) % low
                word = ((left ^ second) * 0xBF58476D1CE4E5B9) & _WORD
                word = ((word ^ word >> 32) * 0x94D049BB133111EB) & _WORD
                right = (right + (word >> 32)) % high
            place = low * right + left
            if place < self.length:
                return place
