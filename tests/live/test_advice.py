"""Which line would allow it, for what runs in which way."""

from __future__ import annotations

import pytest

from pageshare.ksm import Ksm, KsmStat
from pageshare.live.advice import advice_for, switch_on
from pageshare.live.find import is_qemu
from pageshare.live.look import Subject
from pageshare.live.mappings import Reach


def made(arguments: str, groups: str = "", merge_any: bool = False) -> Subject:
    return Subject(1, "made", 0, arguments.split(), groups.split(), KsmStat(ksm_merge_any=merge_any))


QEMU = "/usr/bin/qemu-system-x86_64 -m 64 "
UNIT = "MemoryKSM=yes under [Service] in: systemctl"
OWN = "systemd-run -p MemoryKSM=yes COMMAND"


@pytest.mark.parametrize(
    ("arguments", "groups", "reach", "why", "allow"),
    [
        ("sleep 1", "user.slice/session-1.scope", Reach.UNASKED, "nobody has asked for it", OWN),
        ("db", "system.slice/db.service", Reach.UNASKED, "nobody has asked", f"{UNIT} edit db.service"),
        ("db", "system.slice/db.service/writer", Reach.UNASKED, "nobody has asked", f"{UNIT} edit db.service"),
        (
            "db",
            "user.slice/user-7.slice/user@7.service/app.slice/db.service",
            Reach.UNASKED,
            "nobody has asked",
            f"{UNIT} --user edit db.service",
        ),
        ("db", "user.slice/user-7.slice/user@7.service/app.slice/a.scope", Reach.UNASKED, "nobody has asked", OWN),
        ("db", r"system.slice/a\x2db@c.service", Reach.UNASKED, "nobody has asked", r"edit 'a\x2db@c.service' (Linux"),
        ("db", "x;reboot;.service", Reach.UNASKED, "nobody has asked", OWN),
        ("db", "x\x1b[2J.service", Reach.UNASKED, "nobody has asked", OWN),
        ("db", "", Reach.SHARED, "shared memory", ""),
        ("db", "", Reach.HUGETLB, "reserved huge pages", ""),
        ("db", "", Reach.DROPPABLE, "droppable", ""),
        (QEMU + "-machine q35,mem-merge=off", "", Reach.UNASKED, "with mem-merge=off", "-machine mem-merge=on"),
        (QEMU + "-M pc -M mem-merge=off", "", Reach.UNASKED, "with mem-merge=off", "-machine mem-merge=on"),
        (QEMU + "-object memory-backend-ram,merge=off,id=a", "", Reach.UNASKED, "has merge=off", "merge=on"),
        (QEMU + "-machine q35", "machine.slice/vm.scope", Reach.UNASKED, "not for its own", OWN),
        (QEMU + "-object memory-backend-memfd,id=a,share=on", "", Reach.SHARED, "with share=on", "share=off"),
        (QEMU + '-object {"id":"a","merge":false}', "", Reach.UNASKED, "has merge=off", "merge=on"),
        (QEMU + '-object {"id":"a","share":true,"size":1}', "", Reach.SHARED, "with share=on", "share=off"),
        (QEMU + '-object {"share":true', "", Reach.SHARED, "shared memory", ""),
        pytest.param(QEMU + "-object " + '{"a":' * 99999, "", Reach.SHARED, "shared memory", "", id="deep"),
        (QEMU, "", Reach.SHARED, "shared memory", ""),
        (QEMU + "-mem-path /dev/hugepages", "", Reach.HUGETLB, "reserved huge pages", "in place of one on hugetlbfs"),
    ],
)
def test_lines(arguments: str, groups: str, reach: Reach, why: str, allow: str) -> None:
    (found,) = advice_for(made(arguments, groups), {reach: 7, Reach.MERGEABLE: 3, Reach.FILE: 2, Reach.SPECIAL: 1})
    assert (found.reach, found.pages) == (reach, 7)
    assert why in found.why
    assert allow in found.allow
    assert bool(allow) == bool(found.allow)


def test_what_prctl_has_not_reached() -> None:
    (found,) = advice_for(made("db", merge_any=True), {Reach.UNASKED: 1})
    assert "has not reached" in found.why


def test_nothing_to_say_of_nothing() -> None:
    assert advice_for(made("db"), dict.fromkeys(Reach, 0)) == []


@pytest.mark.parametrize(
    ("arguments", "machine"),
    [
        (["/usr/bin/qemu-system-aarch64", "-m", "1G"], True),
        (["/usr/libexec/qemu-kvm", "-name", "guest=a"], True),
        (["qemu-system-x86_64"], False),
        (["qemu-img", "convert"], False),
        (["vi", "qemu-system-x86_64"], False),
    ],
)
def test_machines_are_told_by_their_program(arguments: list[str], machine: bool) -> None:
    assert is_qemu(arguments) == machine


def test_ksm_is_switched_on_by() -> None:
    assert "CONFIG_KSM" in switch_on(Ksm())
    assert switch_on(Ksm(run=1)) == ""
    assert switch_on(Ksm(run=0)) == switch_on(Ksm(run=2)) == "echo 1 | sudo tee /sys/kernel/mm/ksm/run"
