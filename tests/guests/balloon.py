"""What Linux and QEMU do with a balloon, measured: ``python tests/guests/balloon.py -o FILE.json``.

Prints a table and writes all values; ``--markdown FILE`` writes docs/lab/virtio-balloon.md from them (``--from
FILE.json``: from those of an earlier run). Five guests are booted one after the other, which takes about seven minutes:
one plain, one whose memory is QEMU's own instead of a file's, one whose kernel does not zero what it allocates, one
that takes memory back when it runs out (deflate-on-oom), and one that tells which memory is free
(free-page-reporting). QEMU emulates the processor (TCG), so
that times are those of no real machine; what counts are orders, counts and ratios.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from guests import ages, ballooning
from guests.ballooning import Results, Series
from guests.boot import QEMU, BootError, kernel, output, say, terminated
from guests.modules import configuration, version
from guests.observed import DISK_MIB, Observed, observed

MEMORY_MIB = 256
OPTIONS = (
    *("VIRTIO_BALLOON", "PAGE_REPORTING", "BALLOON_COMPACTION", "INIT_ON_ALLOC_DEFAULT_ON", "PSI"),
    *("LRU_GEN", "LRU_GEN_ENABLED", "IDLE_PAGE_TRACKING", "DAMON"),
)
"""Of the kernel's configuration, those that bear on this."""
FEATURES = {0: "MUST_TELL_HOST", 1: "STATS_VQ", 2: "DEFLATE_ON_OOM", 3: "FREE_PAGE_HINT", 4: "PAGE_POISON"}
FEATURES |= {5: "REPORTING", 28: "INDIRECT_DESC", 29: "EVENT_IDX", 32: "VERSION_1", 40: "RING_RESET"}
"""Of the balloon, by their bits (virtio 1.2, sections 5.5.3 and 6)."""

Measure = Callable[[Observed, Results], None]


@dataclass(frozen=True)
class Setting:
    """A guest that is booted, and what is done in it."""

    name: str
    measures: Callable[[int], tuple[Measure, ...]]
    """Given how often."""
    balloon: str = ""
    options: str = ""
    shared: bool = True


def times(measure: Callable[[Observed, Results, int], None], repeats: int) -> Measure:
    """It, so often."""

    @functools.wraps(measure)
    def so_often(guest: Observed, results: Results) -> None:
        measure(guest, results, repeats)

    return so_often


SETTINGS = (
    Setting(
        "plain",
        lambda repeats: (
            times(ballooning.inflate, repeats),
            ballooning.order,
            times(ballooning.pop, repeats),
            times(ballooning.give_back, repeats),
            times(ballooning.interrupt, 2 * repeats),
            times(ages.measure, max(1, repeats // 2)),
            ballooning.squeeze,
            times(ballooning.run_out, max(1, repeats // 2)),
        ),
    ),
    Setting(
        "private",
        lambda repeats: (
            times(ballooning.inflate, repeats),
            times(ballooning.pop, repeats),
            times(ballooning.give_back, repeats),
            ballooning.collapse,
        ),
        shared=False,
    ),
    Setting("init_on_alloc=0", lambda repeats: (times(ballooning.inflate, repeats),), options="init_on_alloc=0"),
    Setting("deflate-on-oom", lambda repeats: (times(ballooning.run_out, repeats),), balloon="deflate-on-oom=on"),
    Setting(
        "free-page-reporting",
        lambda repeats: (times(ballooning.report, repeats),),
        balloon="free-page-reporting=on",
    ),
)


def measure(repeats: int) -> dict[str, Any]:
    """Everything in every guest: of each its features, its ``series`` and what was ``seen`` (see `Results`). Raises
    BootError."""
    vmlinuz = kernel()
    known = configuration(vmlinuz)
    document: dict[str, Any] = {
        "kernel": version(vmlinuz),
        "qemu": output(QEMU, "--version").splitlines()[0],
        "host": f"Linux {platform.release()}",
        "memory": MEMORY_MIB,
        "disk": DISK_MIB,
        "repeats": repeats,
        "huge_pages": {name: huge_pages(name) for name in ("enabled", "shmem_enabled", "khugepaged/max_ptes_none")},
        "configuration": {name: known.get(name, "not set") for name in OPTIONS},
        "guests": {},
    }
    for setting in SETTINGS:
        results = Results()
        say(f"{setting.name}: booting")
        with (
            tempfile.TemporaryDirectory() as folder,
            observed(
                Path(folder),
                memory_mib=MEMORY_MIB,
                balloon=setting.balloon,
                options=setting.options,
                shared=setting.shared,
            ) as guest,
        ):
            for each in setting.measures(repeats):
                say(f"{setting.name}: {each.__name__}")
                each(guest, results)
            backed = "memory of QEMU's own" if guest.pagemap is not None else "memfd"
            document["guests"][setting.name] = {
                "features": features(guest),
                "memory": backed,
                **asdict(results),
            }
    return document


def huge_pages(name: str) -> str:
    """A setting of the host's kernel: the word in brackets, of several."""
    path = Path("/sys/kernel/mm/transparent_hugepage", name)
    said = path.read_text().strip() if path.exists() else "not there"
    return said.partition("[")[2].partition("]")[0] or said


def features(guest: Observed) -> list[str]:
    """What the balloon's driver and QEMU have agreed on, by name."""
    bits = guest.run("cat /sys/bus/virtio/drivers/virtio_balloon/virtio*/features").strip()
    return [FEATURES.get(bit, str(bit)) for bit, value in enumerate(bits) if value == "1"]


def show(document: dict[str, Any]) -> None:
    """Print a table of all that was measured more than once."""
    table = Table("guest", "what", "median", "from", "to", "n", "unit")
    for name, guest in document["guests"].items():
        for each in (Series(**fields) for fields in guest["series"].values()):
            low, high = min(each.values), max(each.values)
            table.add_row(
                name, each.what, f"{each.median:.4g}", f"{low:.4g}", f"{high:.4g}", str(len(each.values)), each.unit
            )
        table.add_section()
    Console(width=160).print(table)


def spread(series: dict[str, Any], scale: float = 1) -> str:
    """The median of what was measured, and its range."""
    values = [value * scale for value in series["values"]]
    median = Series("", "", values).median
    if min(values) == max(values):
        return figure(median)
    return f"{figure(median)} ({figure(min(values))} to {figure(max(values))})"


def figure(value: float) -> str:
    """A number, to three digits or to ones (to hundreds if it is large), and its thousands apart."""
    if abs(value) >= 99_950:
        return f"{round(value, -2):,.0f}"
    if value == int(value) or abs(value) >= 999.5:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio(one: dict[str, Any], other: dict[str, Any]) -> str:
    """How many times the median of the other the median of the one is."""
    return f"{Series(**one).median / Series(**other).median:.2g}"


def ratios(one: dict[str, Any], other: dict[str, Any]) -> str:
    """How many times the other the one is, of values that were measured in pairs: median and range."""
    pairs = zip(one["values"], other["values"], strict=True)
    return spread({"values": [value / with_it for value, with_it in pairs]})


def markdown(document: dict[str, Any]) -> str:
    """The page of the documentation."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"spread": spread, "figure": figure, "median": statistics.median}
    environment.globals |= {
        "ratio": ratio,
        "ratios": ratios,
        "truth": ages.truth,
        "periods": ages.PERIODS,
        "regions": ages.REGIONS,
    }
    environment.globals["sizes"] = [size * 4096 >> 20 for size in ballooning.SIZES]
    return environment.get_template("balloon.md.jinja").render(document)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.json", help="where the values are written")
    parser.add_argument("--from", type=Path, metavar="FILE.json", dest="earlier", help="take these, do not measure")
    parser.add_argument("--markdown", type=Path, metavar="FILE.md", help="where the page is written")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="of each measurement (default: 5)")
    args = parser.parse_args()
    if (args.output is None) == (args.earlier is None):
        parser.error("one of --output and --from")
    if args.repeats < 1:
        parser.error("--repeats must be at least 1")
    signal.signal(signal.SIGTERM, terminated)
    try:
        if args.earlier:
            document = json.loads(args.earlier.read_text())
        else:
            document = measure(args.repeats)
            args.output.write_text(json.dumps(document, indent=1) + "\n")
        show(document)
        if args.markdown:
            args.markdown.write_text(markdown(document))
    except (BootError, OSError) as error:
        print(f"balloon.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
