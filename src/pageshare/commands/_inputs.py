"""The dumps that a command is given: which owner each belongs to, opened and recognised before any is counted."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pageshare.commands._progress import Show, progress_bar

if TYPE_CHECKING:
    from pageshare.images import Image

RAW_SUFFIXES = (".raw", ".mem", ".vmem", ".dd", ".dump", ".img", ".bin", ".pages")
"""In a folder a file without a known magic counts as a dump if its name ends so; named files always do."""


class BadInputs(ValueError):
    """One line for each input that can't be read."""


@dataclass
class OwnerImages:
    """An owner and the images that make up its memory, in the order given; ``named``: by the user, with NAME=."""

    name: str
    named: bool = False
    images: list[Image] = field(default_factory=list)


@dataclass
class Inputs:
    """What was opened: owners; inputs left out with the reason; what is odd; what is worth a note."""

    owners: list[OwnerImages] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def add_input_arguments(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Declare what every command takes that reads dumps; ``optional``: they may be named in another way."""
    parser.add_argument(
        "dumps",
        nargs="*" if optional else "+",
        metavar="DUMP",
        help="PATH, NAME=PATH, a folder of dumps, or - for one that comes from a pipe",
    )
    add_reading_arguments(parser)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how dumps are read, whatever the command calls them."""
    group = parser.add_argument_group("how to read them")
    group.add_argument(
        "--format",
        type=format_name,
        metavar="NAME",
        help="read all as this, e.g. raw (default: by their content; docs/formats.md lists them)",
    )
    group.add_argument(
        "--holes",
        choices=["zero", "unknown"],
        default="zero",
        help="what a hole in a raw file is: zero (default), or unknown, as in a diff snapshot",
    )
    group.add_argument(
        "--base", metavar="FILE", help="what lies in the holes of raw files: the snapshot that they differ from"
    )
    group.add_argument(
        "--meta", metavar="FILE", help="VMware's .vmss or .vmsn, which says where the memory in the .vmem belongs"
    )
    group.add_argument(
        "--spool",
        metavar="DIR",
        help="folder for what is decompressed, in files without a name (default: $TMPDIR, or /var/tmp)",
    )
    group.add_argument(
        "--page-size",
        type=page_size,
        default=4096,
        metavar="SIZE",
        help="bytes, or 16K, 2M: a power of two from 512 to 2M (default: 4096)",
    )
    group.add_argument("--skip-bad", action="store_true", help="leave out what can't be read, and exit with 3")


def input_arguments(**given: Any) -> argparse.Namespace:
    """What ``add_input_arguments`` makes of a command line that says nothing, but for what was ``given``."""
    parser = argparse.ArgumentParser()
    add_input_arguments(parser, optional=True)
    return argparse.Namespace(**{**vars(parser.parse_args([])), "quiet": False, **given})


def format_name(text: str) -> str:
    """A format that pageshare reads."""
    from pageshare.images import FORMATS

    if text not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r}: must be one of {', '.join(FORMATS)}")
    return text


def page_size(text: str) -> int:
    """``4096``, ``4K``, ``4KiB``, ``2M``: a power of two from 512 to 2 MiB."""
    digits = text.rstrip("KMiBkmb")
    scale = {"": 1, "b": 1, "k": 1 << 10, "kb": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "mib": 1 << 20}
    unit = scale.get(text[len(digits) :].lower())
    size = int(digits) * unit if digits.isdecimal() and unit else 0
    if not 512 <= size <= 2 << 20 or size & (size - 1):
        raise argparse.ArgumentTypeError(f"{text!r}: must be a power of two from 512 to 2M bytes")
    return size


@dataclass(frozen=True)
class _Named:
    """A file to open; ``owner`` is empty where the user named none, ``found`` where it was met in a folder."""

    path: str
    owner: str
    found: bool


def _files(argument: str) -> Iterator[_Named]:
    """The files that one argument stands for. OSError if it is a folder that can't be read or holds no file."""
    owner, equals, path = argument.partition("=")
    if not equals or not owner or "/" in owner:
        owner, path = "", argument
    if not path or not Path(path).is_dir():
        yield _Named(path, owner, found=False)
        return
    files = sorted(each for each in Path(path).iterdir() if each.is_file())
    yield from (_Named(str(each), owner, found=True) for each in files)


def would_be_read(argument: str, status: os.stat_result, args: argparse.Namespace) -> str:
    """Which of the files that one argument stands for is this one, by whatever name; empty if none is.

    OSError as from ``_files``, and for those that can't be opened.
    """
    for named in _files(argument):
        with contextlib.suppress(FileNotFoundError):
            if same_file(status, Path(named.path).stat()) and not (named.found and _is_passed_over(named, args)):
                return named.path
    return ""


def same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether both are one file, or one disk."""
    if stat.S_ISBLK(one.st_mode) and stat.S_ISBLK(other.st_mode):
        return one.st_rdev == other.st_rdev
    return os.path.samestat(one, other)


def _is_passed_over(named: _Named, args: argparse.Namespace) -> bool:
    try:
        image = _open(named, input_arguments(**{**vars(args), "quiet": True}))
    except (OSError, ValueError):
        return True
    if image is None:
        return True
    image.close()
    return False


def _explain(named: _Named, argument: str, error: Exception) -> str:
    """The reason in words, without the file's name."""
    from pageshare.images import ImageError

    if isinstance(error, ImageError):
        return error.reason
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    if isinstance(error, FileNotFoundError) and named.owner and Path(argument).exists():
        return f"{reason}; if you mean the file {argument}, write ./{argument}"
    return reason


@contextmanager
def open_inputs(args: argparse.Namespace, *, decode: bool = True) -> Iterator[Inputs]:
    """Open all that ``add_input_arguments`` declared; closed again at the end. With ``decode``, compressed memory is
    decoded when all have been recognised.

    Raises BadInputs, with a line for each of them, unless ``--skip-bad`` and something is left.
    """
    with open_groups(args, [args.dumps], decode=decode) as (inputs,):
        yield inputs


@contextmanager
def open_groups(
    args: argparse.Namespace, groups: Sequence[Sequence[str]], *, decode: bool = True
) -> Iterator[list[Inputs]]:
    """The same of several groups of dumps, each with owners of its own. What is bad is named in one go."""
    from pageshare.images import printable

    _raise_file_limit()
    with ExitStack() as stack:
        # The stack keeps no image: a command may drop what takes memory.
        opened = [_open_all(args, group, stack, decode=decode) for group in groups]
        bad = [each for _, group_bad in opened for each in group_bad]
        if bad and not (args.skip_bad and all(inputs.owners for inputs, _ in opened)):
            raise BadInputs("\n".join(printable(f"{path}: {reason}") for path, reason in bad))
        if decode:
            _decode_all([owner for inputs, _ in opened for owner in inputs.owners], args, stack)
        yield [inputs for inputs, _ in opened]


def _decode_all(owners: Sequence[OwnerImages], args: argparse.Namespace, stack: ExitStack) -> None:
    """Decode what is compressed, in place; the spool files are closed by ``stack``."""
    from pageshare.images.blocks import decoded
    from pageshare.images.spool import check_room, spool_folder

    need = sum(image.compressed.size for owner in owners for image in owner.images if image.compressed)
    if not need:
        return
    first = next(image for owner in owners for image in owner.images if image.compressed)
    check_room(first.source.path, need, spool_folder(args.spool))
    done = 0
    with progress_bar("decode", need, quiet=args.quiet) as show:
        for owner in owners:
            for number, image in enumerate(owner.images):
                if image.compressed:
                    before = done
                    size = image.compressed.size
                    owner.images[number] = decoded(image, progress=lambda more: show(before + more))  # noqa: B023
                    stack.enter_context(owner.images[number].payload[-1])
                    done += size


def _open_all(
    args: argparse.Namespace, dumps: Sequence[str], stack: ExitStack, *, decode: bool
) -> tuple[Inputs, list[tuple[str, str]]]:
    """The inputs, to be closed by ``stack``, and what could not be opened."""
    inputs = Inputs()
    bad: list[tuple[str, str]] = []
    damaged: list[tuple[str, str]] = []  # in a folder, where no user has named it
    opened: list[tuple[_Named, Image]] = []
    for argument in dumps:
        try:
            files = list(_files(argument))
        except OSError as error:
            bad.append((argument, error.strerror or str(error)))
            continue
        found = 0
        for named in files:
            try:
                image = _open(named, args)
                if image and decode and image.compressed:
                    image.compressed.check_codecs()
            except (OSError, ValueError) as error:
                reason = _explain(named, argument, error)
                (damaged if named.found else bad).append((named.path or repr(argument), reason))
                continue
            if image is None:
                inputs.notes.append(f"{named.path}: not known as a dump; passed over (name it to scan it)")
                continue
            found += 1
            for source in image.payload:
                stack.enter_context(source)
            opened.append((named, image))
        if not found and all(named.found for named in files):
            bad.append((argument, "there is no dump in this folder"))
    opened = _without_parts(opened, inputs.notes)
    inputs.notes += _taken_for_raw(opened, args)
    inputs.skipped = [{"path": path, "reason": reason} for path, reason in [*bad, *damaged]]
    inputs.owners = _owners(opened)
    inputs.warnings = [*_repeated(opened), *_odd(image for _, image in opened)]
    return inputs, bad


def tell(
    *,
    notes: Iterable[str] = (),
    skipped: Iterable[dict[str, str]] = (),
    warnings: Iterable[str] = (),
    incomplete: Iterable[str] = (),
) -> None:
    """Say on stderr, a line each, what a user should know about his dumps."""
    from pageshare.images import printable

    left_out = [f"{each['path']}: {each['reason']}" for each in skipped]
    kinds = {"note": notes, "left out": left_out, "warning": warnings, "incomplete": incomplete}
    for kind, sentences in kinds.items():
        for sentence in sentences:
            print(f"pageshare: {kind}: {printable(sentence)}", file=sys.stderr)


def _open(named: _Named, args: argparse.Namespace) -> Image | None:
    """The image, or None for a file met in a folder that only its content could tell to be a dump, and does not."""
    from pageshare.images import NoDumpError, open_image

    with ExitStack() as stack:
        show: Show | None = None

        def progress(done: int, size: int) -> None:
            nonlocal show
            if show is None:
                show = stack.enter_context(progress_bar(f"reading {Path(named.path).name}", size, quiet=args.quiet))
            show(done)

        try:
            image = open_image(
                named.path,
                format=args.format,
                holes=args.holes,
                page_size=args.page_size,
                base=args.base,
                meta=args.meta,
                spool=args.spool,
                progress=progress,
            )
        except NoDumpError:
            if named.found:
                return None
            raise
    if named.found and args.format is None and image.format == "raw" and not named.path.endswith(RAW_SUFFIXES):
        image.close()
        return None
    return image


def _without_parts(opened: Sequence[tuple[_Named, Image]], notes: list[str]) -> list[tuple[_Named, Image]]:
    """All but the files of a folder that are read as a part of another dump anyway."""
    used = {source.identity: image.source.path for _, image in opened for source in image.others if source.identity}
    kept = []
    for named, image in opened:
        if named.found and image.source.identity in used:
            notes.append(f"{named.path}: read as a part of {used[image.source.identity]}")
            image.close()
        else:
            kept.append((named, image))
    return kept


def _taken_for_raw(opened: Sequence[tuple[_Named, Image]], args: argparse.Namespace) -> Iterator[str]:
    for named, image in opened:
        if image.format == "raw" and args.format is None and not named.path.endswith(RAW_SUFFIXES):
            yield f"{named.path}: not known as a dump of any format; taken for raw memory (--format raw)"


def _raise_file_limit() -> None:
    """Every dump stays open: allow as many as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _owners(opened: Sequence[tuple[_Named, Image]]) -> list[OwnerImages]:
    """Files with the same NAME= are one owner; the others are one each, with a name that no one else has."""
    owners: dict[str, OwnerImages] = {}
    nameless = [named.path for named, _ in opened if not named.owner]
    names = iter(unique_names(nameless, taken={named.owner for named, _ in opened}))
    for named, image in opened:
        name = named.owner or next(names)
        owners.setdefault(name, OwnerImages(name, bool(named.owner))).images.append(image)
    return list(owners.values())


def unique_names(paths: Sequence[str], *, taken: Iterable[str] = ()) -> list[str]:
    """The files' names, with as many of their folders before them as it takes to tell them apart, else a number."""
    parts = [Path(path).parts for path in paths]
    names = [part[-1] for part in parts]
    for depth in range(2, max(map(len, parts), default=0) + 1):
        doubled = {name for name, count in Counter(names).items() if count > 1}
        if not doubled:
            break
        names = [
            "/".join(part[-depth:]) if name in doubled else name for name, part in zip(names, parts, strict=True)
        ]
    used = set(taken)
    unique = []
    for name in names:
        number, candidate = 2, name
        while candidate in used:
            candidate, number = f"{name}#{number}", number + 1
        used.add(candidate)
        unique.append(candidate)
    return unique


def _repeated(opened: Sequence[tuple[_Named, Image]]) -> Iterator[str]:
    first: dict[tuple[int, int], str] = {}
    for named, image in opened:
        identity = image.source.identity
        if identity is None:
            continue
        if identity in first:
            yield f"{named.path}: the same file as {first[identity]}; scanned twice, it shares all with itself"
        first.setdefault(identity, named.path)
    # A base is there for many.
    parts = {each.identity: image for _, image in opened if image.format != "raw" for each in image.others}
    for named, image in opened:
        if image.source.identity in parts and image.source.identity is not None:
            whole = parts[image.source.identity].source.path
            yield f"{named.path}: read as a part of {whole} too; scanned twice, it shares all with itself"


def _odd(images: Iterable[Image]) -> Iterator[str]:
    for image in images:
        yield from (f"{image.source.path}: {sentence}" for sentence in image.warnings)
