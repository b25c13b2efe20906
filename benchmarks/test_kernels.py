"""The kernels: hash, zero test and comparison, in the L2 cache and from memory, beside memcpy."""

from __future__ import annotations

import numpy as np
import pytest

import inputs
from pageshare._core import ffi, lib
from pageshare.core import kernels
from passes import zeros

SIZES = {"L2 cache": 256 << 10, "memory": (16 << 20) if inputs.QUICK else (1 << 30)}


def operation(name, kernel, one, other):
    """A function that goes over all of a buffer once."""
    number, pages = kernels().index(kernel), len(one) // 4096
    key, hashes = ffi.new("ps_hash_key *"), np.empty(2 * pages, np.uint64)
    lib.ps_hash_key_init(key, 1)
    a, b, into = ffi.from_buffer(one), ffi.from_buffer(other), ffi.from_buffer("uint64_t[]", hashes)
    return {
        "XXH3-64": lambda: lib.ps_hash64(number, key, a, 4096, pages, into),
        "XXH3-128": lambda: lib.ps_hash128(number, key, a, 4096, pages, into),
        "zero test": lambda: lib.ps_is_zero(number, a, len(one)),
        "comparison": lambda: lib.ps_equal(number, a, b, len(one)),
    }[name]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", kernels())
@pytest.mark.parametrize("name", ["XXH3-64", "XXH3-128", "zero test", "comparison"])
@pytest.mark.benchmark(group="kernels")
def test_kernel(beside, name, kernel, size):
    one, other = zeros(SIZES[size]), zeros(SIZES[size])
    run, repeat = operation(name, kernel, one, other), max(1, (64 << 20) // SIZES[size])

    def again(function):
        return lambda: [function() for _ in range(repeat)]

    beside(
        again(run),
        again(lambda: np.copyto(other, one)),
        rounds=5,
        operation=name,
        kernel=kernel,
        size=size,
        bytes=SIZES[size] * repeat,
    )
