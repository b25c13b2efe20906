"""Memories over time: what orders of visiting pages are judged on. ``python benchmarks/memories.py [NAME...]`` makes
those that are missing and prints the dumps of each moment.

- same: guests of the same system at different work, while they work
- different: guests of different systems
- processes: programs of this machine
- held-out: guests like those of "same" at other work. No constant is chosen by it.
- unseen: guests like those of "same", once more at other work. Nothing is chosen by it, neither constants nor ideas.

They are kept in `inputs.folder` as memories/NAME/OWNER.tSECONDS.raw, or .core. Whoever is dumped is stopped meanwhile,
so that each dump is of one moment. A guest has run for at least these seconds since it was ready. What the dumps hold
differs from one making to the next, as timing does; the work is drawn from fixed seeds.

They take 21 GiB, and twelve minutes to make on two CPUs.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import inputs
from inputs import QUICK, ROOT

HERE = Path(__file__).resolve().parent
KASLR = "kaslr"
# A Debian system without its package manager, and Perl and Python.
DEBIAN = (
    *("base-files", "bash", "coreutils", "dash", "debconf", "debianutils", "diffutils", "findutils", "grep", "gzip"),
    *("hostname", "libacl1", "libattr1", "libbz2-1.0", "libc-bin", "libc6", "libcrypt1", "libexpat1", "libffi8"),
    *("libgmp10", "libgcc-s1", "liblzma5", "libpcre2-8-0", "libpython3.11-minimal", "libpython3.11-stdlib"),
    *("libselinux1", "libsqlite3-0", "libssl3", "libstdc++6", "libtinfo6", "libuuid1", "login", "mawk", "perl-base"),
    *("python3.11", "python3.11-minimal", "sed", "tar", "util-linux", "zlib1g"),
)
# Two numbers a row; some rows change.
AWK = """BEGIN {
    srand(6)
    for (i = 0; i < 200000; i++) row[i] = int(rand() * 1e9) " " int(rand() * 1e9)
    printf "" >"done"; close("done")
    for (;;) {
        for (i = 0; i < 10; i++) { k = int(rand() * (rand() < 0.7 ? 2000 : 200000)); row[k] = row[k] % 1e6 + 1 " " k }
        system("sleep 0.2")
    }
}"""
# A list that is written anew, little by little.
PAGE = """<!doctype html><title>list</title><ol id=list></ol><script>
const list = document.getElementById('list'), kept = [];
const add = (i) => {
    const item = document.createElement('li');
    item.textContent = `${i} ${Math.random()} ${'word '.repeat(i % 30)}`;
    list.append(item);
    kept.push({ i, text: item.textContent });
};
let next = 0;
while (next < 200) add(next++);
setInterval(() => {
    for (let i = 0; i < 2; i++) { list.firstChild.remove(); add(next++); kept[next * 97 % kept.length].i++; }
}, 2000);
</script>"""
LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian")


@dataclass(frozen=True)
class Memory:
    """Some owners' memory at several times: the dumps of each time, owners in the same order."""

    name: str
    words: str
    times: tuple[float, ...]
    snapshots: tuple[tuple[Path, ...], ...]

    def __str__(self) -> str:
        """The name, for pytest's test names."""
        return self.name


@dataclass(frozen=True)
class _Plan:
    words: str
    owners: tuple[str, ...]
    times: tuple[float, ...]
    make: Callable[[Path, _Plan], None]
    """Leaves OWNER.tSECONDS.raw or .core of each owner in a folder; all owners but those whose programs are missing."""


Files = dict[str, bytes | str]
"""A guest's, see `guests.boot.initramfs`."""


def ours(*suffixes: str) -> Files:
    """What a guest does, as files in /srv."""
    names = [f"memory_work.{suffix}" for suffix in suffixes] + ["guest_work.py"]
    return {f"srv/{name}": (HERE / name).read_bytes() for name in names}


def started(command: str) -> Files:
    """The file by which a guest starts its work (see init.sh)."""
    return {"software": f"#!/bin/busybox sh\nexport PATH=/bin:/usr/bin\nifconfig lo up\nexec {command}\n".encode()}


def guests(
    into: Path,
    plan: _Plan,
    *,
    memory_mib: int,
    more: Callable[[str], Mapping[str, bytes | str]],
    vmlinuz: Callable[[str], Path] | None = None,
    options: str = KASLR,
) -> None:
    """Boot and dump the owners as guests."""
    from guests.boot import boot

    def owner(number: int) -> str:
        return plan.owners[number - 1]

    boot(
        into,
        guests=len(plan.owners),
        memory_mib=memory_mib,
        options=options,
        more=lambda number: more(owner(number)),
        vmlinuz=vmlinuz and (lambda number: vmlinuz(owner(number))),
        snapshots=plan.times,
    )
    for path in into.glob("guest*.raw"):
        number, _, ending = path.name.removeprefix("guest").partition(".")
        path.rename(into / f"{owner(int(number))}.{ending}")


def same(into: Path, plan: _Plan, memory_mib: int) -> None:
    """Guests that have the same programs and do the work of their names."""
    import software

    python, programs = software.interpreter("memory_work")
    # Most of its library is never loaded; but it is there, and the same in all guests.
    skipped = {"site-packages", "test", "tests"}
    library = {
        path
        for path in (python.parents[1] / "lib").glob("python3*/**/*.py")
        if not skipped.intersection(path.parts) and path.is_file()
    }
    common: Files = {str(path)[1:]: path.read_bytes() for path in sorted(programs | software.compiler() | library)}
    common |= {f"csrc/{path.name}": path.read_bytes() for path in software.CSRC.iterdir()}
    common |= ours("py")

    def more(owner: str) -> Files:
        return common | started(f"{python} /srv/memory_work.py {owner}")

    guests(into, plan, memory_mib=memory_mib, more=more)


class Apt:
    """Debian packages of an architecture, which need not be this machine's; nothing is installed, and this machine's
    lists of packages stay as they are. Raises RuntimeError.
    """

    def __init__(self, folder: Path, architecture: str | None = None) -> None:
        self.folder = folder
        self.options: list[str] = []
        folder.mkdir()
        if architecture is not None:
            for name in ("lists", "cache/archives"):
                (folder / name / "partial").mkdir(parents=True)
            settings = {
                "APT::Architecture": architecture,
                "APT::Architectures": architecture,
                "Dir::State::Lists": folder / "lists",
                "Dir::State::status": "/dev/null",
                "Dir::Cache": folder / "cache",
            }
            self.options = [each for name, value in settings.items() for each in ("-o", f"{name}={value}")]
            with contextlib.suppress(RuntimeError):  # what it failed to get may not be needed
                self._run("apt-get", "update")

    def _run(self, program: str, *arguments: str) -> str:
        command = [program, "-q", *self.options, *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def unpacked(self, *packages: str) -> Path:
        """Packages, unpacked into one folder."""
        tree = self.folder / packages[0]
        self._run("apt-get", "download", *packages)
        for package in self.folder.glob("*.deb"):
            subprocess.run(["dpkg", "-x", package, tree], check=True)
            package.unlink()
        return tree

    def kernel(self, package: str) -> Path:
        """The kernel that a package without a version stands for."""
        depends = re.search(r"Depends: (linux-image-\S+)", self._run("apt-cache", "depends", package))
        if depends is None:
            raise RuntimeError(f"apt knows no {package}")
        (path,) = self.unpacked(depends[1]).glob("boot/vmlinuz-*")
        return path


def contents(tree: Path) -> Files:
    """A folder as a guest's root."""
    found: Files = {}
    for path in sorted(tree.rglob("*")):
        name = str(path.relative_to(tree))
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file() and not name.startswith(LEFT_OUT):
            found[name] = path.read_bytes()
    return found


def different(into: Path, plan: _Plan) -> None:
    """Guests of other kernels and other programs: busybox alone, Debian with Perl and Python, Node, 32 bits."""
    import software
    from guests.boot import kernel

    here, i386 = Apt(into / "amd64"), Apt(into / "i386", "i386")
    kernels = {
        "cloud": kernel(),
        "debian": here.kernel("linux-image-amd64"),
        "realtime": here.kernel("linux-image-rt-amd64"),
        "i386": i386.kernel("linux-image-686-pae"),
    }
    node = shutil.which("node")
    if node is None:
        raise RuntimeError("a guest needs Node")
    programs = software.with_libraries({Path(node).resolve()})
    busybox = i386.unpacked("busybox-static") / "bin/busybox"
    perl = "mkdir perl; (cd perl; exec perl /srv/memory_work.pl) &"
    python = "exec /usr/bin/python3.11 /srv/memory_work.py documents"
    files: dict[str, Callable[[], Files]] = {
        "cloud": lambda: ours("sh") | started("sh /srv/memory_work.sh 1 200000"),
        "debian": lambda: contents(here.unpacked(*DEBIAN)) | ours("py", "pl") | started(f"sh -c '{perl} {python}'"),
        "realtime": lambda: (
            {str(path)[1:]: path.read_bytes() for path in programs}
            | ours("js")
            | started(f"{Path(node).resolve()} /srv/memory_work.js")
        ),
        "i386": lambda: (
            {"bin/busybox": busybox.read_bytes()} | ours("sh") | started("sh /srv/memory_work.sh 4 150000")
        ),
    }
    # Without it, files may take half of memory at most.
    options = f"{KASLR} rootfstype=ramfs"
    guests(
        into,
        plan,
        memory_mib=256,
        more=lambda owner: files[owner](),
        vmlinuz=kernels.__getitem__,
        options=options,
    )


def quick(into: Path, plan: _Plan) -> None:
    """Small guests that have busybox only."""

    def more(owner: str) -> Files:
        return ours("sh") | started(f"sh /srv/memory_work.sh {owner[-1]} 20000")

    guests(into, plan, memory_mib=112, more=more)


def commands(folder: Path) -> dict[str, list[str]]:
    """Programs that go on with some work in the folder where they are started, by their owners' names.

    What they read is written into ``folder``.
    """
    source, page = folder / "large.c", folder / "page.html"
    source.write_text(large_source())
    page.write_text(PAGE)
    cc1 = subprocess.run(["cc", "-print-prog-name=cc1"], capture_output=True, text=True, check=True).stdout.strip()
    small = ("--param", "ggc-min-heapsize=16000", "--param", "ggc-min-expand=10")
    browser = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking")
    programs: dict[str, list[object]] = {
        "perl": ["perl", HERE / "memory_work.pl"],
        "awk": ["awk", AWK],
        "browser": [*browser, "--user-data-dir=profile", "--remote-debugging-port=0", page.as_uri()],
        "compiler": [cc1, "-quiet", "-O2", *small, source, "-o", "large.s"],
    }
    for role in ("database", "web", "documents", "numbers"):
        # Half as fast as in guests, which have more memory around.
        programs[role] = [sys.executable, HERE / "memory_work.py", role, 2]
    return {owner: [*map(str, command)] for owner, command in programs.items() if shutil.which(str(command[0]))}


def processes(into: Path, plan: _Plan) -> None:
    """Programs of this machine, all at once; each is stopped while its memory is captured."""
    from pageshare.capture import capture

    found = {owner: command for owner, command in commands(into).items() if owner in plan.owners}
    running: dict[str, int] = {}
    with contextlib.ExitStack() as stack:

        def start(owner: str) -> Path:
            folder = into / owner
            folder.mkdir()
            with (folder / "output").open("wb") as output:
                process = subprocess.Popen(
                    found[owner], cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            running[owner] = process.pid
            return folder / "done"

        ready = [start(owner) for owner in found if owner not in ("compiler", "browser")]
        deadline = time.monotonic() + 120
        while not all(path.exists() for path in ready):
            if time.monotonic() > deadline:
                raise RuntimeError(f"not all are there after two minutes: {', '.join(map(str, ready))}")
            time.sleep(0.1)
        if "browser" in found:
            start("browser")
            # The process that shows the page: most of the other's memory is the program.
            running["browser"] = renderer(running["browser"])
        if "compiler" in found:
            # The last, for it ends by itself.
            start("compiler")
            time.sleep(2)
        begun = time.monotonic()
        for moment in plan.times:
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            for owner, pid in running.items():
                capture(pid, into, stop=True).path.rename(into / f"{owner}.t{moment:g}.core")


def renderer(pid: int) -> int:
    """The process that a browser shows its page with."""
    for _ in range(3):
        time.sleep(3)  # there is another one first, which has no page and is small
        sizes = {
            int(Path(f"/proc/{each}/statm").read_text().split()[1]): each
            for each in descendants(pid)
            if b"--type=renderer" in Path(f"/proc/{each}/cmdline").read_bytes()
        }
        if sizes:
            return sizes[max(sizes)]
    raise RuntimeError("the browser shows no page")


def descendants(pid: int) -> Iterator[int]:
    """Processes that a process has started, and those that these have."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from descendants(child)


def large_source(functions: int = 4500) -> str:
    """C that takes a compiler a minute."""
    choose = random.Random(5)
    lines = ["struct node { struct node *next; long value[8]; };"]
    for i in range(functions):
        k, m, n = (choose.randrange(1, 1000) for _ in range(3))
        earlier = f"work{choose.randrange(i)}(at->next, a / 2, b)" if i else "a"
        lines += [
            f"long work{i}(struct node *at, long a, long b) {{",
            f"    for (long i = 0; at && i < a % {k} + {m}; i++, at = at->next) {{",
            f"        at->value[i & 7] += b * {n} ^ at->value[(i + {k % 7}) & 7];",
            f"        if (at->value[{k % 8}] > {m}) b -= {earlier};",
            "    }",
            f"    switch (b % 5) {{ case 0: return a + {k}; case 1: return b * {m}; case 3: return a / {n}; }}",
            "    return a ^ b;",
            "}",
        ]
    return "\n".join(lines)


PLANS = {
    "same": _Plan(
        "Linux guests of 512 MiB, the same system at different work",
        ("database", "web", "compiler", "cache"),
        (0, 20, 40, 60),
        lambda into, plan: same(into, plan, 512),
    ),
    "different": _Plan(
        "Linux guests of 256 MiB, different systems",
        ("cloud", "debian", "realtime", "i386"),
        (0, 20, 40),
        different,
    ),
    "processes": _Plan(
        "processes of this machine",
        ("database", "web", "documents", "numbers", "perl", "awk", "browser", "compiler"),
        (0, 20, 40),
        processes,
    ),
    "held-out": _Plan(
        "Linux guests of 384 MiB, the same system at other work",
        ("index", "analytics", "files"),
        (0, 20, 40),
        lambda into, plan: same(into, plan, 384),
    ),
    "unseen": _Plan(
        "Linux guests of 448 MiB, the same system at other work again",
        ("analytics", "cache", "documents", "compiler"),
        (0, 20, 40),
        lambda into, plan: same(into, plan, 448),
    ),
}
if QUICK:
    PLANS = {
        "same": _Plan("small Linux guests", ("guest1", "guest2"), (0, 5), quick),
        "processes": _Plan("processes of this machine", ("documents", "perl", "awk"), (0, 2), processes),
    }
NAMES = tuple(PLANS)


def memory(name: str) -> Memory:
    """One of `NAMES`, made if it is not there yet. Raises KeyError, RuntimeError, OSError, CalledProcessError."""
    plan = PLANS[name]
    folder = inputs.folder() / "memories" / name
    if not folder.exists():
        folder.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as work:
            made = Path(work, "made")
            made.mkdir()
            plan.make(Path(work), plan)
            for path in Path(work).glob("*.t*.*"):
                path.rename(made / path.name)
            made.rename(folder)  # it is there when it is whole
    suffix = "core" if plan.make is processes else "raw"
    files = [[folder / f"{owner}.t{moment:g}.{suffix}" for owner in plan.owners] for moment in plan.times]
    return Memory(name, plan.words, plan.times, tuple(tuple(filter(Path.exists, each)) for each in files))


def main(names: list[str]) -> int:
    """Make them, and print what to scan at each moment."""
    unknown = set(names).difference(NAMES)
    if unknown:
        print(f"memories.py: no {', '.join(sorted(unknown))}, but {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in names or NAMES:
        try:
            made = memory(name)
        except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
            print(f"memories.py: {name}: {error}", file=sys.stderr)
            return 1
        print(f"# {made.name}: {made.words}")
        for moment, paths in zip(made.times, made.snapshots, strict=True):
            print(f"# after {moment:g} s")
            print(*paths)
    return 0


if __name__ == "__main__":
    sys.path.append(str(ROOT / "tests"))  # as pytest has it
    sys.exit(main(sys.argv[1:]))
