"""What goes on in memories over time (see memories.py): ``python memory_work.py ROLE [SLOWER]``, in a guest or not.

A role first fills memory, then goes on in small steps, at a pace that leaves the processor idle for the most part. It
works in the current folder, and leaves the file ``done`` there when it has filled memory. SLOWER is how many times as
long to wait after each step.
"""

from __future__ import annotations

import array
import gzip
import http.server
import json
import random
import shutil
import socketserver
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from guest_work import sentence

CSRC = Path("/csrc")
Work = Iterator[float]
"""Yields when memory is filled and after each step: the seconds to wait until the next one."""


def phrases(choose: random.Random, count: int = 2000) -> list[str]:
    """What texts are put together from: to choose every word takes too long in a guest."""
    return [sentence(choose, choose.randrange(6, 30)) for _ in range(count)]


def text(choose: random.Random, pool: list[str], size: int) -> str:
    """About so many characters."""
    return "\n".join(f"{choose.randrange(10**6)} {each}" for each in choose.choices(pool, k=1 + size // 160))


def recent(choose: random.Random, end: int, mean: float) -> int:
    """A number from 1 to ``end``, mostly one of the last: what is new is what is used."""
    return max(1, end - int(choose.expovariate(1 / mean)))


def database(choose: random.Random) -> Work:
    """Orders with two indexes in a file that is half held in a cache: orders come, change and go."""
    pool = phrases(choose)
    connection = sqlite3.connect("orders.db")
    connection.execute("pragma cache_size = -40000")
    connection.execute("create table orders (id integer primary key, customer text, total real, note text)")
    connection.execute("create index by_customer on orders (customer)")
    connection.execute("create index by_total on orders (total)")

    def new(count: int) -> None:
        rows = (
            (f"c{choose.randrange(5000)}", choose.random() * 1e4, choose.choice(pool) + choose.randbytes(60).hex())
            for _ in range(count)
        )
        connection.executemany("insert into orders (customer, total, note) values (?, ?, ?)", rows)

    new(120_000)
    connection.commit()
    while True:
        yield 0.2
        new(4)
        last = connection.execute("select max(id) from orders").fetchone()[0]
        for _ in range(3):
            connection.execute("update orders set total = total + 1 where id = ?", (recent(choose, last, 4000),))
        connection.execute("delete from orders where id = ?", (choose.randrange(last),))
        connection.execute("select sum(total) from orders where customer = ?", (f"c{choose.randrange(5000)}",))
        connection.commit()


def web(choose: random.Random) -> Work:
    """A site in three releases much alike, its server, which keeps packed pages, and clients that fetch pages."""
    pool = phrases(choose)
    root = Path("www")
    pages = [f"{i}.html" for i in range(1500)]

    def publish(page: str) -> None:
        body = text(choose, pool, choose.randrange(40_000))
        (root / "now" / page).write_text(f"<!doctype html><title>{page}</title><pre>{body}</pre>")

    (root / "now").mkdir(parents=True)
    for page in pages:
        publish(page)
    for release in ("before", "oldest"):
        shutil.copytree(root / "now", root / release)
    for page in choose.sample(pages, 150):
        publish(page)
    packed: dict[str, bytes] = {}
    log: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(root / "now"))

        def log_message(self, format: str, *values: object) -> None:
            log.append(format % values)

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def fetch(page: str) -> None:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/{page}") as answer:
            packed[page] = gzip.compress(answer.read(), 1)

    for page in pages[:300]:
        fetch(page)
    while True:
        yield 0.2
        for _ in range(3):
            fetch(pages[-recent(choose, len(pages), 100)])
        if choose.random() < 0.2:
            publish(choose.choice(pages))


def compiler(choose: random.Random) -> Work:
    """The core's sources, compiled again and again, with what that leaves in files."""
    sources = sorted(CSRC.glob("*.c"))

    def build(source: Path, level: str) -> None:
        into = Path(level)
        into.mkdir(exist_ok=True)
        subprocess.run(["cc", "-g", f"-O{level}", "-save-temps", "-c", source], cwd=into, check=True)

    for level in "01":
        for source in sources:
            build(source, level)
    while True:
        yield 2.0
        build(choose.choice(sources), choose.choice("01"))


def cache(choose: random.Random) -> Work:
    """Sessions by random keys: new ones, some in use, old ones that go; and now and then all of them into a file."""
    sessions: dict[str, dict[str, Any]] = {}
    keys: list[str] = []

    def new() -> None:
        key = choose.randbytes(16).hex()
        sessions[key] = {"user": choose.randrange(10**6), "seen": 0, "data": choose.randbytes(choose.randrange(1500))}
        keys.append(key)

    for _ in range(110_000):
        new()
    for key in choose.sample(keys, 20_000):
        sessions.pop(key)
    for step in range(sys.maxsize):
        if step % 300 == 0:
            with Path("snapshot.json").open("w") as file:
                for key, value in sessions.items():
                    file.write(json.dumps([key, value["user"], value["seen"]]) + "\n")
        yield 0.2
        for _ in range(10):
            new()
            sessions.pop(choose.choice(keys), None)
            used = sessions.get(keys[recent(choose, len(keys), 3000) - 1])
            if used:
                used["seen"] += 1
                used["data"] = choose.randbytes(len(used["data"]))


def index(choose: random.Random) -> Work:
    """Texts, sorted and packed by other programs, and which of them have a word."""
    pool = phrases(choose, 5000)
    found: dict[str, set[int]] = {}

    def add(number: int) -> None:
        name = f"{number}.txt"
        Path(name).write_text(text(choose, pool, 300_000))
        subprocess.run(["sort", "-k", "2", "-o", f"{name}.sorted", name], check=True)
        subprocess.run(["gzip", "-k", "-f", f"{name}.sorted"], check=True)
        for word in set(Path(name).read_text().split()):
            found.setdefault(word, set()).add(number)

    for number in range(80):
        add(number)
    while True:
        yield 1.5
        add(choose.randrange(100))


def analytics(choose: random.Random) -> Work:
    """Sales by day in a database in memory, a day's worth more each second, and series that are computed from it."""
    connection = sqlite3.connect(":memory:")
    connection.execute("create table sales (day integer, item integer, shop integer, amount real)")
    connection.execute("create index by_day on sales (day)")
    series: dict[int, array.array[float]] = {}

    def one(day: int) -> None:
        rows = [(day, choose.randrange(2000), choose.randrange(50), choose.gauss(100, 30)) for _ in range(700)]
        connection.executemany("insert into sales values (?, ?, ?, ?)", rows)
        series[day] = array.array("d", (row[3] for row in rows))

    def summary(day: int) -> None:
        sums = connection.execute("select shop, sum(amount) from sales where day >= ? group by shop", (day - 3,))
        series[-day] = array.array("d", (statistics.fmean(series[day]), *(each[1] for each in sums)))

    for day in range(1, 700):
        one(day)
    for day in range(700, sys.maxsize):
        yield 1.0
        one(day)
        summary(day)
        connection.execute("delete from sales where day = ?", (day - 690,))
        series.pop(day - 690, None)


def files(choose: random.Random) -> Work:
    """Many small files: some are read, new ones come, others are copied, renamed and removed."""
    pool = phrases(choose)
    root = Path("files")
    names: list[str] = []

    def new(number: int) -> None:
        name = f"{number % 50}/{number}.txt"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text(choose, pool, int(choose.expovariate(1 / 16_000))))
        names.append(name)

    for number in range(7000):
        new(number)
    for number in range(7000, sys.maxsize):
        yield 0.2
        for name in choose.sample(names, 10):
            (root / name).read_bytes()
        new(number)
        copied, moved, removed = choose.sample(names, 3)
        shutil.copy(root / copied, root / f"{copied}.copy")
        (root / moved).replace(root / removed)
        names.remove(moved)


def documents(choose: random.Random) -> Work:
    """Documents as text and as objects, some of which are changed."""
    pool = phrases(choose)

    def new(number: int) -> dict[str, Any]:
        parts = [{"title": choose.choice(pool)[:30], "body": text(choose, pool, 1500)} for _ in range(4)]
        return {"number": number, "tags": choose.choices(pool, k=3), "parts": parts, "changes": []}

    texts = [json.dumps(new(number)) for number in range(3500)]
    objects = [json.loads(each) for each in texts[::4]]
    while True:
        yield 0.2
        which = recent(choose, len(texts), 500) - 1
        document = json.loads(texts[which])
        document["changes"].append(choose.choice(pool))
        texts[which] = json.dumps(document)
        objects[choose.randrange(len(objects))] = document


def numbers(choose: random.Random) -> Work:
    """Series in arrays: new values push out the oldest, and a part is computed anew."""
    import numpy as np

    draw = np.random.default_rng(choose.randrange(10**6))
    values = draw.normal(size=(100, 20_000))
    products = values @ values.T
    counts = np.zeros((1000, 2000), dtype=np.int32)
    for step in range(sys.maxsize):
        yield 0.5
        row = step % len(values)
        values[row, :-100] = values[row, 100:]
        values[row, -100:] = draw.normal(size=100)
        products[row] = values @ values[row]
        np.add.at(counts, (draw.integers(0, 1000, 20), draw.integers(0, 2000, 20)), 1)


ROLES: dict[str, Callable[[random.Random], Work]] = {
    work.__name__: work for work in (database, web, compiler, cache, index, analytics, files, documents, numbers)
}

if __name__ == "__main__":
    work = ROLES[sys.argv[1]](random.Random(sys.argv[1]))
    slower = float(sys.argv[2]) if len(sys.argv) > 2 else 1.0
    pause = next(work)
    Path("done").touch()
    while True:
        time.sleep(pause * slower)
        pause = next(work)
