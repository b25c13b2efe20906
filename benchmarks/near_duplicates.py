"""How much of what patching could save the search for near-duplicates finds: python near_duplicates.py DUMP [PAGES]

PAGES distinct pages of the dump, drawn at random (default 250), are patched against every other distinct page, which
takes some minutes; then the same pages against the candidates of the index, and of one over blocks of 64 bytes at
random offsets, as Difference Engine has it. Shares of the former are printed. It is an upper bound that no rule
reaches: there all pages may be references, those that are patched themselves among them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import zstandard

import pageshare
from pageshare.answers.similar import INDEXED, KEYS, MOST_COMPRESSED, MOST_PATCH, _Index, _left
from pageshare.core import NO_PAGE, Control, PageReader
from pageshare.inventory import Inventory
from pageshare.space import PageSpace

SEEDS = 6


class Blocks(PageReader):
    """Keys are of lines at random offsets, the same in all pages."""

    def sketch(self, pages: Any, keys: int, control: Control | None = None) -> Any:  # noqa: ARG002
        """See PageReader."""
        lines = np.random.default_rng(self.seed).choice(self.space.page_size // 64, keys, replace=False)
        return np.stack([self.peek(pages, int(line)) for line in lines], axis=1)


def compressor(page_size: int, reference: bytes | None) -> Callable[[bytes], bytes]:
    """zstd -1, as the answer has it."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        1,
        source_size=page_size,
        dict_size=page_size if reference else 0,
        format=zstandard.FORMAT_ZSTD1_MAGICLESS,
        write_content_size=False,
        write_checksum=False,
        write_dict_id=False,
    )
    dictionary = None
    if reference:
        dictionary = zstandard.ZstdCompressionDict(reference, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=dictionary).compress


def main(path: str, count: str = "250") -> None:
    """Measure, and print."""
    space = PageSpace([("dump", [pageshare.open_image(path)])])
    distinct = _left(Inventory.of(space, pageshare.census(space)))
    chosen = np.sort(np.random.default_rng(1).choice(len(distinct), int(count), replace=False))
    reader, size = PageReader(space), space.page_size
    pages = [page.tobytes() for page in reader.read(distinct[chosen])]
    patches = np.empty((len(distinct), len(chosen)), np.int64)
    for number in range(len(distinct)):
        compress = compressor(size, reader.read(distinct[number : number + 1]).tobytes())
        patches[number] = [len(compress(page)) for page in pages]
    patches[chosen, np.arange(len(chosen))] = size
    alone = np.array([len(compressor(size, None)(page)) for page in pages])
    alone = np.where(alone <= MOST_COMPRESSED * size, alone, size)

    def saved(sizes: Any) -> Any:
        patched = sizes <= MOST_PATCH * size
        return np.array([(size - sizes)[patched].sum(), np.maximum(alone - sizes, 0)[patched].sum(), patched.sum()])

    best = saved(patches.min(axis=0))
    print(f"{len(distinct)} distinct pages, {len(chosen)} measured; of these against all others:")
    print(f"  {best[2]} patched, {best[0] / size:.1f} pages saved, {best[1] / size:.1f} beyond compression")
    print("found of that: pages patched, saved, saved beyond compression (mean of seeds); references")
    for name, kind, keys, indexed in (
        ("words", PageReader, KEYS, INDEXED),
        ("64-byte blocks", Blocks, 2, 2),
        ("64-byte blocks", Blocks, KEYS, INDEXED),
    ):
        found = []
        for seed in range(SEEDS):
            index = _Index(kind(space, seed=seed), distinct, keys, indexed, Control())
            sizes = np.full(len(chosen), size)
            for column in index.candidates(chosen).T:
                there = np.flatnonzero(column != NO_PAGE)
                sizes[there] = np.minimum(sizes[there], patches[column[there], there])
            found.append(saved(sizes) / np.maximum(best, 1))
        of = np.mean(found, axis=0)
        share = len(index.references) / len(distinct)
        print(f"  {name}, {keys} keys, {indexed} indexed: {of[2]:.3f} {of[0]:.3f} {of[1]:.3f}; {share:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
