"""clangd, Clang's compiler as a language server, with four C++ files that are edited one after the other.

A compiler that stays in memory: for each file it keeps a compiled preamble and a syntax tree, for the last three files
used; the rest is made anew. The client runs natively and is no part of the trace. It opens files, edits one for a while
(each edit compiles the file's body anew, and asks for completions now and then, which reads the preamble), goes over to
the next, rests, opens two more, and comes back to the first after long. gcc's compilers each end with their file, and
what starts them executes another program, which leaves the emulator; a server is one memory from beginning to end.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from pathlib import Path
from typing import IO, Any

from programs import Recorded, ticks, until

NEEDS = ("clangd-14",)
ANSWERS = True
# One heap for all threads, and large blocks in it too: else each compilation has addresses of its own.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TOP_PAD_": "0"}
_HEADERS = (
    ("vector", "string", "map"),
    ("iostream", "sstream", "algorithm"),
    ("functional", "memory", "set", "string"),
    ("unordered_map", "vector", "iomanip"),
)
FUNCTIONS = 60


def _source(number: int, edit: int) -> str:
    """A file of C++; each edit changes one function."""
    rng = random.Random(number)
    lines = [f"#include <{name}>" for name in _HEADERS[number]]
    for at in range(FUNCTIONS):
        value = edit if at == edit % FUNCTIONS else rng.randrange(1000)
        lines += [
            f"struct Part{at} {{ int value = {value}; long many[{rng.randrange(1, 50)}]; std::string name; }};",
            f"inline long sum{at}(const Part{at} &part, int from) {{",
            f"    long sum = part.value * {rng.randrange(100)} + static_cast<long>(part.name.size());",
            f"    for (int i = from; i < {rng.randrange(5, 50)}; i++) sum += part.many[0] * i ^ (sum >> 3);",
            f"    return sum + {f'sum{at - 1}(Part{at - 1}(), from)' if at else 'from'};",
            "}",
        ]
    return "\n".join([*lines, "int main() {", "    std::string text;", "    text.", "}", ""])


def command(folder: Path, seconds: int) -> list[str]:
    """With all that it knows in memory."""
    del seconds
    for number in range(len(_HEADERS)):
        (folder / f"part{number}.cpp").write_text(_source(number, 0))
    options = ["-j=2", "--pch-storage=memory", "--background-index=false", "--log=error", "--clang-tidy=false"]
    return ["/usr/bin/clangd-14", *options]


class _Client:
    """Speaks the language server protocol."""

    def __init__(self, recorded: Recorded, folder: Path, answers: IO[bytes]) -> None:
        self._pipe, self._folder, self._number = recorded.process.stdin, folder, 0
        self._versions: Counter[int] = Counter()
        self._answers = answers
        self.compiled: Counter[str] = Counter()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while line := self._answers.readline():
            if line.lower().startswith(b"content-length:"):
                while self._answers.readline().strip():
                    pass
                said = json.loads(self._answers.read(int(line.split(b":")[1])))
                if said.get("method") == "textDocument/publishDiagnostics":
                    self.compiled[said["params"]["uri"]] += 1

    def say(self, method: str, parameters: dict[str, Any], *, answered: bool = False) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": parameters}
        if answered:
            self._number += 1
            message["id"] = self._number
        body = json.dumps(message).encode()
        assert self._pipe is not None  # noqa: S101 - it is a pipe
        self._pipe.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._pipe.flush()

    def uri(self, number: int) -> str:
        return f"file://{self._folder}/part{number}.cpp"

    def open(self, number: int) -> None:
        """And wait until it is compiled."""
        seen = self.compiled[self.uri(number)]
        text = {"uri": self.uri(number), "languageId": "cpp", "version": 0, "text": _source(number, 0)}
        self.say("textDocument/didOpen", {"textDocument": text})

        def compiled() -> bool:
            return self.compiled[self.uri(number)] > seen

        until(compiled)

    def edit(self, number: int, seconds: float) -> None:
        """Now and then for a while."""
        for tick in ticks(seconds, 0.5):
            self._versions[number] += 1
            document = {"uri": self.uri(number), "version": self._versions[number]}
            text = _source(number, self._versions[number])
            self.say("textDocument/didChange", {"textDocument": document, "contentChanges": [{"text": text}]})
            if tick % 3 == 2:
                place = {"line": text.count("\n") - 2, "character": 9}
                where = {"textDocument": {"uri": self.uri(number)}, "position": place}
                self.say("textDocument/completion", where, answered=True)


def drive(recorded: Recorded, folder: Path, seconds: int) -> None:
    """A day of a programmer."""
    assert recorded.process.stdout is not None  # noqa: S101 - it is a pipe
    client, part = _Client(recorded, folder, recorded.process.stdout), seconds / 100
    client.say("initialize", {"processId": None, "rootUri": None, "capabilities": {}}, answered=True)
    client.say("initialized", {})
    client.open(0)
    client.edit(0, 12 * part)
    client.open(1)
    client.edit(1, 10 * part)
    _rest(14 * part)
    client.edit(1, 5 * part)
    client.open(2)
    client.open(3)
    client.edit(3, 12 * part)
    _rest(12 * part)
    client.edit(0, 18 * part)
    client.say("shutdown", {}, answered=True)
    client.say("exit", {})


def _rest(seconds: float) -> None:
    for _ in ticks(seconds, 1):
        pass
