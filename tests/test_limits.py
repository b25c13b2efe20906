"""What a process may use of memory and CPUs: /proc, and control groups of both versions, as folders made here."""

import os

import pytest

from pageshare import limits

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 8 GiB, 6 of them free; gives a function that puts files under /proc and /sys/fs/cgroup."""
    monkeypatch.setattr(limits, "PROC", tmp_path / "proc")
    monkeypatch.setattr(limits, "CGROUP", tmp_path / "cgroup")

    def put(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(str(text))

    put({"proc/meminfo": f"MemTotal: {8 << 20} kB\nMemFree: 1 kB\nMemAvailable: {6 << 20} kB\nHugePages_Total: 0\n"})
    return put


@pytest.mark.usefixtures("machine")
def test_no_control_group():
    assert limits.memory() == limits.Memory(8 * GIB, 6 * GIB)


def test_version_2_any_group_on_the_way_may_be_limited(machine):
    machine(
        {
            "proc/self/cgroup": "0::/user/mine\n",
            "cgroup/user/mine/memory.max": "max\n",
            "cgroup/user/mine/memory.current": "5\n",
            "cgroup/user/memory.max": 2 * GIB,
            "cgroup/user/memory.current": GIB,
            "cgroup/user/memory.stat": f"anon 7\ninactive_file {GIB // 4}\nactive_file {GIB // 4}\n",
        }
    )
    assert limits.memory() == limits.Memory(2 * GIB, 3 * GIB // 2)


def test_version_1_beside_version_2(machine):
    machine(
        {
            "proc/self/cgroup": "5:memory:/mine\n4:cpu:/other\n0::/\n",
            "cgroup/unified/cgroup.procs": "",
            "cgroup/memory/mine/memory.limit_in_bytes": GIB,
            "cgroup/memory/mine/memory.usage_in_bytes": GIB // 2,
            "cgroup/memory/mine/memory.stat": f"cache 1\ntotal_inactive_file {GIB // 4}\n",
            "cgroup/memory/memory.limit_in_bytes": 9223372036854771712,
            "cgroup/memory/memory.usage_in_bytes": 7 * GIB,
        }
    )
    assert limits.memory() == limits.Memory(GIB, 3 * GIB // 4)


def test_in_a_container_the_path_is_the_hosts(machine):
    machine(
        {
            "proc/self/cgroup": "0::/docker/0123\n",
            "cgroup/memory.max": GIB,
            "cgroup/memory.current": 2 * GIB,
        }
    )
    assert limits.memory() == limits.Memory(GIB, 0)


def test_a_group_that_says_nothing_of_use(machine):
    machine({"proc/self/cgroup": "0::/mine\n", "cgroup/mine/memory.max": "what?", "cgroup/mine/memory.current": "1"})
    assert limits.memory() == limits.Memory(8 * GIB, 6 * GIB)


def test_without_proc(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PROC", tmp_path / "nothing")
    found = limits.memory()
    assert found.total > found.free > 0


CPUS = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/self/cgroup": "0::/mine\n", "cgroup/mine/cpu.max": "max 100000"}, CPUS),
        ({"proc/self/cgroup": "0::/mine\n", "cgroup/mine/cpu.max": "50000 100000"}, 1),
        ({"proc/self/cgroup": "0::/mine\n", "cgroup/mine/cpu.max": "", "cgroup/cpu.max": "100000 100000"}, 1),
        ({"proc/self/cgroup": "0::/mine\n", "cgroup/mine/cpu.max": "99900000 100000"}, CPUS),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/mine\n",
                "cgroup/cpu/mine/cpu.cfs_quota_us": "20000",
                "cgroup/cpu/mine/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/mine\n",
                "cgroup/cpu/mine/cpu.cfs_quota_us": "-1",
                "cgroup/cpu/mine/cpu.cfs_period_us": "100000",
            },
            CPUS,
        ),
    ],
)
def test_cpus(machine, files, expected):
    machine(files)
    assert limits.cpus() == expected


def test_cpus_that_this_process_may_run_on(machine):
    machine({})
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert limits.cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
