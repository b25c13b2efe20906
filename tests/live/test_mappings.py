"""/proc/PID/smaps, /proc/PID/ksm_stat and /sys/kernel/mm/ksm, as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from pageshare import ksm as ksm_module
from pageshare.ksm import Ksm, KsmStat, ksm_now, parse_ksm_stat
from pageshare.live.mappings import LiveMapping, Reach, parse_smaps


def entry(span: str, name: str, flags: str, rss: int = 8, ksm: int | None = 0, **more: int) -> str:
    """An entry as fs/proc/task_mmu.c writes it; sizes in KiB."""
    sizes = {"Size": 8, "KernelPageSize": 4, "Rss": rss, "Pss": 1, "Shared_Clean": 0, "KSM": ksm, **more}
    lines = [f"{key + ':':<16}{value:>8} kB" for key, value in sizes.items() if value is not None]
    spaces = " " * 20 if name else ""
    first = f"{span} rw-p 00001000 fe:00 1234 {spaces}{name}"
    return "\n".join([first, *lines, "THPeligible:           0", f"VmFlags: {flags} ", ""])


PRIVATE = "rd wr mr mw me ac sd"


@pytest.mark.parametrize(
    ("name", "flags", "reach"),
    [
        ("", PRIVATE, Reach.UNASKED),
        ("", PRIVATE + " mg", Reach.MERGEABLE),
        ("[heap]", PRIVATE + " mg", Reach.MERGEABLE),
        ("/usr/lib/libc.so.6", PRIVATE, Reach.UNASKED),
        ("/memfd:ram (deleted)", "rd wr sh mr mw me ms sd", Reach.SHARED),
        ("/memfd:ram (deleted)", "rd mr me ms sd", Reach.SHARED),
        ("/dev/shm/ram", "rd wr sh mr mw me ms sd", Reach.SHARED),
        ("/dev/zero (deleted)", "rd wr sh mr mw me ms sd", Reach.SHARED),
        ("/SYSV00000000 (deleted)", "rd wr sh mr mw me ms sd", Reach.SHARED),
        ("/var/lib/data", "rd wr sh mr mw me ms sd", Reach.FILE),
        ("/dev/hugepages/ram", "rd wr mr mw me de ht sd", Reach.HUGETLB),
        ("/anon_hugepage (deleted)", "rd wr sh mr mw me ms de ht sd", Reach.HUGETLB),
        ("", PRIVATE + " dp", Reach.DROPPABLE),
        ("", PRIVATE + " de", Reach.SPECIAL),
        ("", "rd wr mr mw me io pf", Reach.SPECIAL),
        ("", "rd wr mr mw me mm", Reach.SPECIAL),
        ("[vvar]", "rd mr pf io de dd sd", Reach.SPECIAL),
        ("/dev/kvm", PRIVATE, Reach.SPECIAL),
        ("/secretmem (deleted)", "rd wr sh mr mw me ms lo dd sd", Reach.SPECIAL),
        ("/secretmem (deleted)", "rd wr sh mr mw me ms sd", Reach.FILE),
    ],
)
def test_what_ksm_may_do(name: str, flags: str, reach: Reach) -> None:
    (mapping,) = parse_smaps(entry("1000-3000", name, flags).encode())
    assert mapping == LiveMapping(0x1000, 0x3000, name, reach, locked=" lo " in flags, resident=8192, ksm=0)


def test_sizes_and_names() -> None:
    smaps = "".join(
        [
            entry("1000-3000", "/tmp/a b", PRIVATE, rss=4, Swap=4, ksm=4),
            entry("ffff0000-ffff2000", "", PRIVATE + " lo", rss=0, ksm=None),
            entry("7f0000000000-7f0000200000", "/anon_hugepage (deleted)", "rd wr ht", rss=0, Private_Hugetlb=2048),
        ]
    )
    mappings = parse_smaps(smaps.encode())
    assert [(each.name, each.resident, each.ksm, each.locked) for each in mappings] == [
        ("/tmp/a b", 8192, 4096, False),
        ("", 0, 0, True),
        ("/anon_hugepage (deleted)", 2 << 20, 0, False),
    ]


def test_mappings_that_change_while_they_are_read_never_overlap() -> None:
    smaps = entry("1000-5000", "", PRIVATE) + entry("3000-4000", "", PRIVATE) + entry("3000-7000", "", PRIVATE)
    assert [(each.start, each.end) for each in parse_smaps(smaps.encode())] == [(0x1000, 0x5000), (0x5000, 0x7000)]


def test_nothing_is_no_mapping() -> None:
    assert parse_smaps(b"") == []
    assert parse_smaps(b"Rss: 4 kB\nVmFlags: rd\n") == []


def test_our_own() -> None:
    mappings = parse_smaps(Path("/proc/self/smaps").read_bytes())
    lines = Path("/proc/self/maps").read_text().splitlines()
    assert abs(len(mappings) - len(lines)) < 5
    assert any(each.name == "[stack]" and each.reach is Reach.UNASKED for each in mappings)


def test_ksm_stat_of_kernels() -> None:
    now = b"ksm_rmap_items 9\nksm_zero_pages 1\nksm_merging_pages 2\nksm_process_profit -64\nksm_merge_any: no\n"
    assert parse_ksm_stat(now + b"ksm_mergeable: yes\n") == KsmStat(9, 1, 2, -64, False)
    assert parse_ksm_stat(b"ksm_rmap_items 9\n") == KsmStat(ksm_rmap_items=9)
    assert parse_ksm_stat(b"ksm_merge_any: yes\n").ksm_merge_any is True
    assert parse_ksm_stat(b"") == KsmStat()


def test_settings_of_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ksm_module, "FOLDER", tmp_path)
    assert ksm_now() == Ksm()
    assert not ksm_now().present
    for name, value in {"run": "0", "pages_sharing": "5", "advisor_mode": "none [scan-time]", "unknown": "1"}.items():
        (tmp_path / name).write_text(value + "\n")
    assert ksm_now() == Ksm(run=0, pages_sharing=5, advisor_mode="scan-time")
    assert ksm_now().pass_seconds(100) is None
    assert Ksm(run=0, pages_to_scan=100, sleep_millisecs=0).pass_seconds(100) == 0
