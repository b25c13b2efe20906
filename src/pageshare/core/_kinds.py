"""What a page's bytes look like."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from pageshare._core import ffi, lib
from pageshare.space import check_hashable


class PageKind(IntEnum):
    """What a page looks like, by its bytes alone. The first that fits, in this order; saved scans keep the numbers.

    A sample is 32 words of 8 bytes, one in each 32nd part of the page.

    - ZERO, REPEATED_BYTE, REPEATED_2, _4, _8: the whole page is zeros, or has a period of so many bytes, the shortest.
    - ELF: the header of an ELF file: magic, class, byte order, version 1, type 1 to 4, e_ehsize of its class (elf(5)).
    - FILE_SYSTEM: on-disk metadata. ext4: inodes of 256 bytes, each of a valid type, with i_extra_isize 28 or 32, with
      links or a time of deletion, and 0xf30a where extents are; entries of a directory that fill 4 KiB from end to end;
      a node of an extent tree (0xf30a); a superblock (0xef53) (Linux, Documentation/filesystems/ext4). XFS: inodes
      ("IN" in each 512 bytes) and those magic numbers of blocks that are four letters (xfs_format.h). NTFS: FILE and
      INDX records. A squashfs superblock.
    - TEXT: of the sample, but for zeros at its end, at most 1/64 are control characters (0x01 to 0x1f but white space),
      at most 1/8 NULs; and if any byte is 0x80 or more, at most 1/64 of the page are not well-formed UTF-8 (Unicode,
      table 3-7). Tables of strings, with a NUL between them, are text too.
    - HIGH_ENTROPY: compressed, encrypted or random: 512 bytes, 8 in each 64th part of the page, take 195 different
      values or more. Of random bytes that would be 256 (1 - (255/256)^512) = 221.5, with a deviation of 4.5.
    - PAGE_TABLE: of x86-64, or of 32 bits with PAE (Intel SDM, volume 3, 4.5; Linux, pgtable_types.h): words are 0 or
      present entries, of a frame below 4 TiB and not 0, with the bits clear that are reserved or that Linux leaves
      clear (10, 42 to 56, 59 to 62); one in eight of those that are used may be something else (swapped out); half are
      accessed, half are of frames beyond 1 MiB; bits 0 to 11 but accessed and dirty take at most 4 different values,
      and one more for each 64 entries.
    - POINTERS: of the sample, an eighth, and a third of what is not 0, are addresses of the kernel's half (from
      0xffff000000000000 on, but for the last 16 MiB, small negative numbers), or where Linux puts programs (0x55.. and
      0x56.., 47 bits) and what is mapped (0x7e.., 0x7f..) on x86-64 (Documentation/arch/x86/x86_64/mm.rst).
    - OTHER: code, numbers, anything else.
    """

    ZERO = lib.PS_KIND_ZERO
    REPEATED_BYTE = lib.PS_KIND_BYTE
    REPEATED_2 = lib.PS_KIND_WORD2
    REPEATED_4 = lib.PS_KIND_WORD4
    REPEATED_8 = lib.PS_KIND_WORD8
    TEXT = lib.PS_KIND_TEXT
    ELF = lib.PS_KIND_ELF
    PAGE_TABLE = lib.PS_KIND_PAGE_TABLE
    FILE_SYSTEM = lib.PS_KIND_FILE_SYSTEM
    POINTERS = lib.PS_KIND_POINTERS
    HIGH_ENTROPY = lib.PS_KIND_HIGH_ENTROPY
    OTHER = lib.PS_KIND_OTHER


KIND_NAMES = tuple(kind.name.lower() for kind in sorted(PageKind))
"""The names of kinds, by their numbers."""


def kind_of(page: Any) -> PageKind:
    """What one page looks like: a buffer of a size that a page may have, else ValueError.

    >>> kind_of(bytes(4096)).name, kind_of(b"abcd" * 1024).name, kind_of(b"To be, or not to be? " * 195 + b"!").name
    ('ZERO', 'REPEATED_4', 'TEXT')
    """
    view = ffi.from_buffer("uint8_t[]", page)
    check_hashable(len(view))
    return PageKind(lib.ps_kind(view, len(view)))
