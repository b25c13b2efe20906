"""Apache's web server with 900 files mapped into memory (MMapFile), of which visitors want ever different ones.

One process with a few worker threads (-X, the worker MPM). A client, which runs natively and is no part of the trace,
asks for files: in the morning for those of one topic, at noon for many, then nobody asks; afterwards a crawler fetches
each file once, slowly (each page is touched once, and never used again); at night nobody asks; then another topic is
wanted. Some answers are compressed, so that the server itself reads the files; others it passes on to the system.

nginx was considered: what it serves lies in the kernel's page cache, and its own memory is too small to show anything.
"""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from pathlib import Path

from programs import Recorded, ticks, until

NEEDS = ("/usr/sbin/apache2",)
FILES, WORDS, VISITORS = 900, 9000, 3
_WORDS = [f"word{number}" for number in range(3000)]
_CONFIGURATION = """
ServerRoot {folder}
ServerName localhost
PidFile {folder}/pid
Listen 127.0.0.1:{port}
ErrorLog /dev/stderr
LogLevel warn
DocumentRoot {folder}/files
EnableSendfile Off
LoadModule mpm_worker_module /usr/lib/apache2/modules/mod_mpm_worker.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule file_cache_module /usr/lib/apache2/modules/mod_file_cache.so
LoadModule filter_module /usr/lib/apache2/modules/mod_filter.so
LoadModule deflate_module /usr/lib/apache2/modules/mod_deflate.so
StartServers 1
ServerLimit 1
ThreadsPerChild 4
MaxRequestWorkers 4
MinSpareThreads 4
MaxSpareThreads 4
KeepAliveTimeout 60
MaxKeepAliveRequests 0
<Directory {folder}>
    Require all granted
    SetOutputFilter DEFLATE
</Directory>
"""


def _port(folder: Path) -> int:
    """One that is free, written down in the folder."""
    place = folder / "port"
    if not place.exists():
        with socket.create_server(("127.0.0.1", 0)) as server:
            place.write_text(str(server.getsockname()[1]))
    return int(place.read_text())


def command(folder: Path, seconds: int) -> list[str]:
    """Files and configuration are made here."""
    del seconds
    rng = random.Random(1)
    (folder / "files").mkdir()
    names = []
    for number in range(FILES):
        path = folder / "files" / f"{number}.txt"
        path.write_text(" ".join(rng.choices(_WORDS, k=WORDS)))
        names.append(f"MMapFile {path}\n")
    text = _CONFIGURATION.format(folder=folder, port=_port(folder)) + "".join(names)
    (folder / "apache.conf").write_text(text)
    return ["/usr/sbin/apache2", "-X", "-f", str(folder / "apache.conf")]


def _fetch(connection: socket.socket, number: int, *, compressed: bool) -> None:
    coding = "Accept-Encoding: gzip\r\n" if compressed else ""
    connection.sendall(f"GET /{number}.txt HTTP/1.1\r\nHost: localhost\r\n{coding}\r\n".encode())
    with connection.makefile("rb") as answer:
        length, chunked = 0, False
        while (line := answer.readline().strip().lower()) != b"":
            if line.startswith(b"content-length:"):
                length = int(line.split(b":")[1])
            chunked = chunked or line == b"transfer-encoding: chunked"
        if not chunked:
            answer.read(length)
        while chunked and (length := int(answer.readline(), 16)) > 0:
            answer.read(length + 2)
        if chunked:
            answer.readline()


def _visit(port: int, seconds: float, files: range, per_second: float, seed: int) -> None:
    rng = random.Random(seed)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in ticks(seconds, per_second):
            _fetch(connection, rng.choice(files), compressed=rng.random() < 0.3)


def _visits(port: int, seconds: float, files: range, per_second: float) -> None:
    """Some visitors at once."""
    threads = [
        threading.Thread(target=_visit, args=(port, seconds, files, per_second / VISITORS, seed))
        for seed in range(VISITORS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _idle(seconds: float) -> None:
    for _ in ticks(seconds, 1):
        pass


def drive(recorded: Recorded, folder: Path, seconds: int) -> None:
    """A day in ``seconds``."""
    port, part = _port(folder), seconds / 100

    def listening() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    until(listening)
    _visits(port, 15 * part, range(120), 12)
    _visits(port, 15 * part, range(FILES), 30)
    _idle(14 * part)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for number in ticks(18 * part, FILES / (18 * part)):
            if number < FILES:
                _fetch(connection, number, compressed=False)
    _idle(14 * part)
    _visits(port, 14 * part, range(600, 700), 12)
    _visits(port, 8 * part, range(500, 800), 25)
    recorded.stop()
