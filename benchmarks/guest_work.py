"""What a guest with software does: ``python guest_work.py database|web|cache``; runs in the guest.

Each touches /tmp/done when its work is done, and goes on holding what it has in memory.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import random
import socketserver
import sqlite3
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

WORDS = ["page", "frame", "hint", "zero", "share", "guest", "memory", "balloon", "idle", "scan", "hash", "write"]


def sentence(choose: random.Random, words: int) -> str:
    """Some words and numbers."""
    return " ".join(f"{choose.choice(WORDS)}{choose.randrange(1000)}" for _ in range(words))


def database(choose: random.Random) -> object:
    """A table of 60,000 rows with two indexes in a file, some of it changed and deleted, and a large cache."""
    connection = sqlite3.connect("/tmp/orders.db")
    connection.execute("pragma cache_size = -20000")
    connection.execute("create table orders (id integer primary key, customer text, total real, note text)")
    rows = ((f"c{choose.randrange(5000)}", choose.random() * 1e4, sentence(choose, 12)) for _ in range(60_000))
    connection.executemany("insert into orders (customer, total, note) values (?, ?, ?)", rows)
    connection.execute("create index by_customer on orders (customer)")
    connection.execute("create index by_total on orders (total)")
    connection.execute("update orders set total = total * 1.1 where customer like 'c1%'")
    connection.execute("delete from orders where id % 7 = 0")
    connection.commit()
    found = connection.execute("select customer, sum(total) from orders group by customer order by 2 desc").fetchall()
    return connection, found


def web(choose: random.Random) -> object:
    """A server of 300 files of all sizes, and the clients that fetch them."""
    root = Path("/tmp/www")
    root.mkdir()
    for i in range(300):
        page = f"<!doctype html><title>{i}</title>" + "".join(f"<p>{sentence(choose, 9)}</p>" for _ in range(i))
        (root / f"{i}.html").write_text(page)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(root))

        def log_message(self, format: str, *values: object) -> None:
            log.append(format % values)

    log: list[str] = []
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 8080), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sums = {}
    for _ in range(400):
        page = f"{choose.randrange(300)}.html"
        with urllib.request.urlopen(f"http://127.0.0.1:8080/{page}") as answer:
            sums[page] = hashlib.sha256(answer.read()).hexdigest()
    return server, log, sums


def cache(choose: random.Random) -> object:
    """Sessions by their random keys, half of them gone again; a snapshot of the others in a file."""
    sessions = {choose.randbytes(16).hex(): {"user": i, "data": choose.randbytes(300)} for i in range(90_000)}
    for key in choose.sample(list(sessions), 45_000):
        del sessions[key]
    with Path("/tmp/snapshot.json").open("w") as file:
        for key, value in sessions.items():
            file.write(json.dumps([key, value["user"], sentence(choose, 3)]) + "\n")
    return sessions


if __name__ == "__main__":
    kept = {"database": database, "web": web, "cache": cache}[sys.argv[1]](random.Random(sys.argv[1]))
    Path("/tmp/done").touch()
    while True:
        time.sleep(60)
