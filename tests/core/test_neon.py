"""page.c built by the C compiler alone, for this machine and for AArch64 (run by qemu): bit for bit PyPI's xxhash."""

import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import xxhash

ROOT = Path(__file__).parents[2]
SEEDS = [0, 1, 0x9E3779B185EBCA87, 2**64 - 1]
SHIFTS = [0, 1, 8, 13]
PAGES = {512: 2048, 1024: 2048, 2048: 2048, 4096: 2048, 8192: 1024, 16384: 1024, 65536: 128, 2 << 20: 8}


def build(folder, compiler, *flags):
    program = folder / "hash_stdin"
    sources = [ROOT / "csrc/page.c", ROOT / "tests/native/hash_stdin.c"]
    subprocess.run(
        [compiler, "-std=c11", "-O2", *flags, "-I", ROOT / "csrc", *sources, "-o", program], check=True
    )
    return program


TARGETS = {
    "native": ("cc", [], []),
    "aarch64": ("aarch64-linux-gnu-gcc", ["-static"], ["qemu-aarch64"]),
}


@pytest.fixture(scope="module", params=TARGETS)
def command(request, tmp_path_factory):
    """The command that runs hash_stdin."""
    compiler, flags, emulator = TARGETS[request.param]
    for tool in (compiler, *emulator):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is not installed")
    return [*emulator, build(tmp_path_factory.mktemp("hash_stdin"), compiler, *flags)]


def kernels(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def test_the_kernels_that_are_compiled_in(command):
    found = kernels(command)
    assert found[0] == "scalar"
    if command[0] == "qemu-aarch64":
        assert found == ["scalar", "neon"]


def pages_of(size):
    """Random pages; among them zero ones, nearly zero ones, equal pairs and nearly equal pairs."""
    random = np.random.default_rng(size)
    pages = random.integers(0, 256, (PAGES[size], size), dtype=np.uint8)
    pages[1::8] = pages[2::8] = 0
    pages[4::8] = pages[3::8]
    pages[6::8] = pages[5::8]
    for page in (*pages[2::8], *pages[6::8]):
        page[random.integers(size)] ^= np.uint8(1 << random.integers(8))
    return pages


def expected(pages, seed):
    """What hash_stdin writes for each page."""
    before = None
    for page in map(bytes, pages):
        hash64, hash128 = xxhash.xxh3_64_intdigest(page, seed), xxhash.xxh3_128_intdigest(page, seed)
        yield [hash64, hash128 % 2**64, hash128 >> 64, not any(page), page == before]
        before = page


@pytest.mark.parametrize("size", PAGES)
def test_every_kernel_equals_xxhash(command, size, tmp_path):
    pages = pages_of(size)
    cases = list(itertools.product(SEEDS, SHIFTS) if len(pages) >= 128 else zip(SEEDS, SHIFTS, strict=True))
    wanted = []
    with (tmp_path / "pages").open("wb") as file:
        for (seed, shift), part in zip(cases, np.array_split(pages, len(cases)), strict=True):
            file.write(np.array([seed, size, len(part), shift], "<u8").tobytes() + part.tobytes())
            wanted += expected(part, seed)
    for kernel in kernels(command):
        with (tmp_path / "pages").open("rb") as file:
            found = subprocess.run([*command, kernel], check=True, stdin=file, stdout=subprocess.PIPE).stdout
        assert np.array_equal(np.frombuffer(found, "<u8").reshape(-1, 5), np.array(wanted, np.uint64)), kernel
