"""Random memories with holes and gaps, saved; and files that only look like saved scans."""

import json
import random
from contextlib import ExitStack

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import pageshare
from pageshare import saved
from pageshare.saved import _format
from pageshare.scanner import Options, scan_space
from pageshare.space import PageSpace

PAGE = 4096
ZERO = bytes(PAGE)


def memories(seed, owners):
    """For each owner what lies at each frame: the bytes of a page; "hole"; or "unknown"."""
    draw = random.Random(seed)
    pool = [ZERO, *(draw.randbytes(PAGE) for _ in range(30))]
    named = {}
    for number in range(owners):
        gap = draw.choice(["hole", "unknown"])
        pages = []
        for _ in range(draw.randrange(1, 6)):
            pages += draw.choices(pool, k=draw.randrange(1, 12))
            pages += [draw.choice(pool)] * draw.randrange(4)
            pages += [draw.randbytes(PAGE) for _ in range(draw.randrange(3))]
            pages += [gap] * draw.choice([0, 0, 1, 7])
        named[f"o{number}"] = pages
    return named


def space_of(named, folder, domains=None):
    """A space over sparse files in ``folder`` that hold these memories. A file system may fill what could be a hole."""
    with ExitStack() as stack:
        owners = []
        for number, (name, pages) in enumerate(named.items()):
            path = folder / f"{number}.raw"
            with path.open("wb") as file:
                for frame, page in enumerate(pages):
                    if not isinstance(page, str):
                        file.seek(frame * PAGE)
                        file.write(page)
                file.truncate(len(pages) * PAGE)
            image = pageshare.open_image(path, holes="unknown" if "unknown" in pages else "zero")
            owners.append((name, [stack.enter_context(image)]))
        return PageSpace(owners, domains=domains)


def scanned(space):
    return scan_space(space, Options())


def save(path, space, **options):
    """The report of a scan that is saved."""
    report = scanned(space)
    saved.write(path, report, space, **{"kinds": False, **options})
    return report


def saved_scan(path, seed, owners, folder=None, **options):
    """The memories, and the report of the scan of them that is saved at ``path``."""
    named = memories(seed, owners)
    draw = random.Random(seed)
    domains = [f"d{draw.randrange(3)}" for _ in named] if seed % 2 else None
    return named, save(path, space_of(named, folder or path.parent, domains), **options)


def rows_of(path):
    """The rows of a file as dicts, in order, read by pyarrow alone."""
    return pq.read_table(path).to_pylist()


def metadata_of(path):
    return json.loads(pq.read_metadata(path).metadata[b"pageshare"])


def forged(path, *, metadata=None, text=None, **columns):
    """Write the saved scan at ``path`` anew, with what functions make of the values of some ``columns``, and of its
    ``metadata``, or with another ``text`` for that. Checksums fit, as who means harm can make them."""
    table, said = pq.read_table(path), metadata_of(path)
    wanted = _format.schema(kinds=False)
    for name, change in columns.items():
        values = pa.array(change(table.column(name).to_pylist()), wanted.field(name).type)
        table = table.set_column(table.schema.names.index(name), wanted.field(name), values)
    said["checks"] = checks(table, [owner["name"] for owner in said["report"]["owners"]])
    said = metadata(said) if metadata else said
    write_as_it_is(path, table.cast(wanted), json.dumps(said).encode() if text is None else text)


def write_as_it_is(path, table, text, **options):
    """A Parquet file with this table, and this for metadata."""
    with pq.ParquetWriter(path, table.schema, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({b"pageshare": text, b"pageshare-check": _format.check_of(text)})


def checks(table, owners):
    """The checksums of rows, as a writer makes them."""
    made = _format.Checks()

    def numbers(name, dtype, null):
        values = [null if value is None else value for value in table.column(name).to_pylist()]
        return np.array(values, dtype)

    code = {name: i for i, name in enumerate(owners)}
    made.add("owner", np.array([code.get(name, -1) for name in table.column("owner").to_pylist()], np.int32))
    made.add("frame", numbers("frame", np.uint64, 0))
    made.add("pages", numbers("pages", np.uint64, 0))
    states = [saved.STATES.index(state) if state in saved.STATES else -1 for state in table.column("state").to_pylist()]
    made.add("state", np.array(states, np.int8))
    made.add("content", numbers("content", np.uint32, 2**32 - 1))
    made.add("count", np.array([value for value in table.column("count").to_pylist() if value is not None], np.uint32))
    hashes = b"".join(value for value in table.column("hash").to_pylist() if value is not None)
    made.add("hash", np.frombuffer(hashes, np.uint8))
    return made.result()
