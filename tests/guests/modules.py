"""Modules for the guests' kernel: those of its own package, and others that are compiled for it.

Packages are downloaded by apt-get; what is taken out of them, or compiled, is kept in $XDG_CACHE_HOME/pageshare like
the kernel. Nothing is installed.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from guests.boot import MissingError, cached, output, unpacked


def version(vmlinuz: Path) -> str:
    """Which kernel it is, as its packages' names have it."""
    return vmlinuz.name.removeprefix("vmlinuz-")


def own_modules(vmlinuz: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The kernel's own modules of these names and those that they need, by their files in the guest, which are named in
    the order in which they have to be loaded. Those that are built in are left out."""
    folder = cached() / f"modules-{version(vmlinuz)}-{'-'.join(names)}"
    if not folder.exists():
        with unpacked(f"linux-image-{version(vmlinuz)}") as files:
            chosen = files / "chosen"
            chosen.mkdir()
            for i, module in enumerate(in_order(files, names)):
                (chosen / f"{i:02}.ko").write_bytes(module)
            chosen.replace(folder)
    return {f"modules/{path.name}": path.read_bytes() for path in folder.iterdir()}


def in_order(files: Path, names: Sequence[str]) -> list[bytes]:
    """The modules of these names, each after those that it says it depends on."""
    paths = {path.name.partition(".")[0]: path for path in files.glob("lib/modules/**/*.ko*")}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or name not in paths:  # it may be built in
            return
        module = paths[name].read_bytes()
        if paths[name].suffix == ".xz":
            module = lzma.decompress(module)
        depends = re.search(rb"\0depends=([^\0]*)\0", module)
        for other in depends[1].decode().split(",") if depends else ():
            add(other)
        found[name] = module

    for name in names:
        add(name)
    return list(found.values())


def module_of_package(vmlinuz: Path, package: str, name: str) -> bytes:
    """Module ``name``, compiled for that kernel from a package with the sources. Raises MissingError if the package
    can't be had, or the module not built."""
    path = cached() / f"{name}-{version(vmlinuz)}.ko"
    if not path.exists():
        with _headers(vmlinuz, package) as headers:
            (sources,) = headers.parent.glob(f"{package.removesuffix('-dkms')}-*")
            _build(headers, sources, name).replace(path)
    return path.read_bytes()


def module_of_sources(vmlinuz: Path, sources: Path, name: str) -> bytes:
    """Module ``name`` of a folder with its Kbuild and sources, compiled for that kernel. Raises
    MissingError if the kernel's headers can't be had, or the module not built."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(sources.iterdir()))).hexdigest()
    path = cached() / f"{name}-{version(vmlinuz)}-{digest[:12]}.ko"
    if not path.exists():
        with _headers(vmlinuz) as headers:
            copy = headers.parent / name
            shutil.copytree(sources, copy)
            _build(headers, copy, name).replace(path)
    return path.read_bytes()


def configuration(vmlinuz: Path) -> dict[str, str]:
    """How that kernel was configured: what its headers' .config says, without the CONFIG_ of the names. What is not set
    is left out. Raises MissingError if the headers can't be had."""
    path = cached() / f"config-{version(vmlinuz)}"
    if not path.exists():
        with _headers(vmlinuz) as headers:
            (headers / ".config").replace(path)
    return dict(re.findall(r"^CONFIG_(\w+)=(.*)$", path.read_text(), re.MULTILINE))


@contextmanager
def _headers(vmlinuz: Path, *packages: str) -> Iterator[Path]:
    """The folder of that kernel's headers, ready to build modules against, with its packages and others unpacked beside
    it for as long as the context lasts."""
    headers = f"linux-headers-{version(vmlinuz)}"
    parts = re.findall(r"Depends: (linux-(?:headers|kbuild)-\S+)", output("apt-cache", "depends", headers))
    with unpacked(*packages, headers, *parts) as files:
        sources = files / "usr/src"
        makefile = sources / headers / "Makefile"
        makefile.write_text(makefile.read_text().replace("/usr/src/", f"{sources}/"))
        yield sources / headers


def _build(headers: Path, sources: Path, name: str) -> Path:
    for tool in ("make", "cc"):
        if shutil.which(tool) is None:
            raise MissingError(f"modules of a guest's kernel need {tool}")
    # Debian's compiler of that release, whatever its exact version is called.
    output("make", "-C", str(headers), f"M={sources}", "CC=cc", "modules")
    output("strip", "--strip-debug", str(sources / f"{name}.ko"))
    return sources / f"{name}.ko"
