"""Every hash kernel against PyPI's xxhash, bit for bit; zero test and equality against Python's bytes."""

import numpy as np
import pytest
import xxhash

from pageshare import core

PAGE_SIZES = [512, 1024, 2048, 4096, 8192, 16384, 65536, 2 << 20]
OTHER_SIZES = [256, 320, 576, 1088, 4032, 4160]
SEEDS = [0, 1, 0x9E3779B185EBCA87, 2**64 - 1]


def pages_of(size, count, seed=7):
    """Random pages, and among them zero, constant and nearly zero ones."""
    pages = np.random.default_rng(seed).integers(0, 256, (count, size), dtype=np.uint8)
    pages[::7] = 0
    pages[1::7] = 0xFF
    pages[2::14] = 0
    pages[2::14, -1] = 1
    return pages


@pytest.mark.parametrize("kernel", core.kernels())
@pytest.mark.parametrize("size", PAGE_SIZES + OTHER_SIZES)
def test_hashes_equal_xxhash(kernel, size):
    count = max(3, min(400, (4 << 20) // size))
    pages = pages_of(size, count)
    for seed in SEEDS:
        ours64 = core.hash_pages(pages, size, seed=seed, kernel=kernel)
        ours128 = core.hash_pages(pages, size, bits=128, seed=seed, kernel=kernel)
        for page, h64, (low, high) in zip(pages, ours64.tolist(), ours128.tolist(), strict=True):
            data = page.tobytes()
            assert h64 == xxhash.xxh3_64_intdigest(data, seed)
            assert low | high << 64 == xxhash.xxh3_128_intdigest(data, seed)


@pytest.mark.parametrize("kernel", core.kernels())
@pytest.mark.parametrize("size", PAGE_SIZES)
def test_thousands_of_pages_from_anywhere(kernel, size):
    rng = np.random.default_rng(size)
    memory = rng.integers(0, 256, size + (4 << 20), dtype=np.uint8)
    for at, seed in zip(
        rng.integers(0, 4 << 20, 2000).tolist(), rng.integers(0, 2**64, 2000, np.uint64).tolist(), strict=True
    ):
        page = memory[at : at + size]
        assert core.hash_pages(page, size, seed=seed, kernel=kernel)[0] == xxhash.xxh3_64_intdigest(page, seed)
        low, high = core.hash_pages(page, size, bits=128, seed=seed, kernel=kernel)[0].tolist()
        assert low | high << 64 == xxhash.xxh3_128_intdigest(page, seed)


@pytest.mark.parametrize("kernel", core.kernels())
def test_any_alignment(kernel):
    memory = np.random.default_rng(1).integers(0, 256, 4096 + 64, dtype=np.uint8)
    for shift in range(64):
        page = memory[shift : shift + 4096]
        assert core.hash_pages(page, kernel=kernel)[0] == xxhash.xxh3_64_intdigest(page.tobytes())


@pytest.mark.parametrize("kernel", core.kernels())
@pytest.mark.parametrize("size", [64, 128, 256, 320, 512, 4096])
def test_zero_and_equality_see_every_byte(kernel, size):
    zero, other = np.zeros(size + 8, np.uint8)[8:], np.full(size + 3, 0x5A, np.uint8)[3:]
    copy = other.copy()
    assert core.is_zero(zero, kernel=kernel)
    assert core.equal(other, copy, kernel=kernel)
    for at in range(size):
        zero[at], copy[at] = 1 << at % 8, 0x5A ^ 1 << at % 8
        assert not core.is_zero(zero, kernel=kernel)
        assert not core.equal(other, copy, kernel=kernel)
        zero[at], copy[at] = 0, 0x5A


def test_kernels_are_named_and_the_best_is_used_by_default():
    assert core.kernels()[0] == "scalar"
    assert core.FrameTable(bytes(4096)).kernel == core.kernels()[-1]


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="whole number of pages"):
        core.hash_pages(bytes(4097))
    with pytest.raises(ValueError, match="page size 100"):
        core.hash_pages(bytes(4096), 100)
    with pytest.raises(ValueError, match="no hash kernel 'mmx'"):
        core.hash_pages(bytes(4096), kernel="mmx")
    with pytest.raises(ValueError, match="XXH3 has 64 or 128"):
        core.hash_pages(bytes(4096), bits=32)
    with pytest.raises(ValueError, match="multiple of 64"):
        core.is_zero(bytes(63))
    with pytest.raises(ValueError, match="must be equal"):
        core.equal(bytes(64), bytes(128))
