"""The cffi builder of the native core: run by setuptools through ``cffi_modules`` in setup.py."""

from pathlib import Path

from cffi import FFI

# setuptools wants sources relative to the project's root, where it runs this file.
CSRC = Path("csrc")
SOURCES = sorted(path.name for path in CSRC.glob("*.c"))

_header = (CSRC / "pageshare.h").read_text(encoding="utf-8")
_cdef = _header.partition("/* cdef: begin */")[2].partition("/* cdef: end */")[0]

ffibuilder = FFI()
ffibuilder.cdef(_cdef)
ffibuilder.set_source(
    "pageshare._core",
    '#include "pageshare.h"',
    sources=[str(CSRC / name) for name in SOURCES],
    include_dirs=[str(CSRC)],
    depends=[str(path) for path in sorted(CSRC.glob("*.h"))],
    extra_compile_args=["-std=c11", "-O3", "-Wall", "-Wextra", "-fvisibility=hidden"],
    define_macros=[("Py_LIMITED_API", "0x030a0000")],
    py_limited_api=True,
)
