"""The cores and the memory that a process may use, by the files of Linux as containers and services lay them out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p3m_edge.resources import memory_left, processor_quota, thread_limit, usable_cores

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
GB = 1_000_000_000


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


# --- cores -----------------------------------------------------------------------------------------------------------

V1 = "3:memory:/docker/5f\n2:cpu,cpuacct:/docker/5f\n1:name=systemd:/docker/5f\n"

QUOTAS: dict[str, tuple[dict[str, str], float | None]] = {
    "no files": ({}, None),
    "v2, a container": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
    "v2, without a limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "v2, a service": (
        {
            "proc/self/cgroup": "0::/app.slice/a b.service\n",
            "sys/fs/cgroup/app.slice/a b.service/cpu.max": "50000 100000\n",
        },
        0.5,
    ),
    "v2, the limit is above": (
        {
            "proc/self/cgroup": "0::/app.slice/x.service\n",
            "sys/fs/cgroup/app.slice/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/app.slice/x.service/cpu.max": "300000 100000\n",
        },
        1,
    ),
    "v2, of another group": (
        {"proc/self/cgroup": "0::/mine\n", "sys/fs/cgroup/other/cpu.max": "100000 100000\n"},
        None,
    ),
    "v2, outside the namespace": ({"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/cpu.max": "200000 50000\n"}, 4),
    "v2, no list of groups": ({"sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
    "v1, a container": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "120000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        1.2,
    ),
    "v1, under the controller's own name": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu/docker/5f/cpu.cfs_quota_us": "25000\n",
            "sys/fs/cgroup/cpu/docker/5f/cpu.cfs_period_us": "50000\n",
        },
        0.5,
    ),
    "v1, without a limit": (
        {
            "proc/self/cgroup": V1,
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "v1 and v2 together": (
        {
            "proc/self/cgroup": "1:cpu:/\n0::/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/unified/cpu.max": "200000 100000\n",
        },
        2,
    ),
    "rubbish": ({"proc/self/cgroup": "\n:::\n0\nx", "sys/fs/cgroup/cpu.max": "100000 0\nmax"}, None),
}


@pytest.mark.parametrize(("files", "expected"), QUOTAS.values(), ids=QUOTAS)
def test_the_quota_of_control_groups(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    root = lay_out(tmp_path, files)
    assert processor_quota(root) == expected
    assert usable_cores(root) == (CORES if expected is None else max(1, min(CORES, int(expected))))
    assert thread_limit(root) == (usable_cores(root) if usable_cores(root) < CORES else None)


def test_a_quota_below_the_affinity_decides_and_one_above_does_not(tmp_path: Path) -> None:
    one = lay_out(tmp_path / "one", {"sys/fs/cgroup/cpu.max": "100000 100000\n"})
    many = lay_out(tmp_path / "many", {"sys/fs/cgroup/cpu.max": f"{(CORES + 3) * 100000} 100000\n"})
    assert (usable_cores(one), usable_cores(many)) == (1, CORES)
    assert thread_limit(one) == (1 if CORES > 1 else None)
    assert thread_limit(many) is None


# --- memory ----------------------------------------------------------------------------------------------------------


def test_the_memory_that_control_groups_leave(tmp_path: Path) -> None:
    v2 = {
        "proc/self/cgroup": "0::/app.slice\n",
        "sys/fs/cgroup/memory.max": "max\n",
        "sys/fs/cgroup/memory.current": f"{7 * GB}\n",
        "sys/fs/cgroup/app.slice/memory.max": f"{4 * GB}\n",
        "sys/fs/cgroup/app.slice/memory.current": f"{3 * GB}\n",
        "sys/fs/cgroup/app.slice/memory.stat": f"anon {GB}\ninactive_file {GB // 2}\nactive_file {GB // 4}\n",
    }
    v1 = {
        "proc/self/cgroup": V1,
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GB}\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GB}\n",
        "sys/fs/cgroup/memory/memory.stat": f"inactive_file 5\ntotal_inactive_file {GB // 2}\n",
    }
    own = memory_left(tmp_path / "nothing")  # what ulimit leaves, where the tests run under one
    for name, files, left in (("v2", v2, GB + GB // 2 + GB // 4), ("v1", v1, GB + GB // 2)):
        assert memory_left(lay_out(tmp_path / name, files)) == (left if own is None else min(left, own))
    full = {"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "2000\n"}
    assert memory_left(lay_out(tmp_path / "full", full)) == 0


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="not Linux")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_the_memory_that_a_limit_of_the_process_leaves(limit: str) -> None:
    code = (
        "import resource, sys\n"
        "from p3m_edge.resources import memory_left\n"
        "which = getattr(resource, sys.argv[1])\n"
        "resource.setrlimit(which, (2_000_000_000, resource.getrlimit(which)[1]))\n"
        "before = memory_left()\n"
        "taken = bytearray(1_000_000_000)\n"
        "print(before, memory_left())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, limit], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert GB < before < 2 * GB
    assert abs(before - after - GB) < GB / 50
