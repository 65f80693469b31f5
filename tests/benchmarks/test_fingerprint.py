"""The machine's fingerprint: what it says, and what it must never say."""

import getpass
import os
import platform
import socket
from dataclasses import replace
from pathlib import Path

import msgspec
import psutil
import pytest

from p3m_edge import __version__
from p3m_edge.benchmarks.fingerprint import Fingerprint, Watch, fingerprint
from p3m_edge.resources import usable_cores


def test_it_describes_this_machine() -> None:
    found = fingerprint()
    assert found.architecture == platform.machine()
    assert 1 <= found.usable_cores <= (found.logical_cores or os.cpu_count() or 1)
    assert found.memory_bytes == psutil.virtual_memory().total
    assert found.python.endswith(platform.python_version())
    assert found.packages["p3m-edge"] == __version__
    assert {"numpy"} <= found.packages.keys()
    assert list(found.features) == sorted(set(found.features))
    assert found == fingerprint()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="not Linux")
def test_features_are_those_of_the_kernel() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    found = fingerprint().features
    for name in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8"):
        assert (name in found) == (name in flags)
    assert ("neon" in found) == ("asimd" in flags or "neon" in flags)


def test_it_names_neither_host_nor_user_nor_folder() -> None:
    text = msgspec.json.encode(fingerprint()).decode().lower()
    values = [str(v).lower() for v in msgspec.to_builtins(fingerprint()).values()]
    assert socket.gethostname().lower() not in values
    assert getpass.getuser().lower() not in values
    assert str(Path.home()).lower() not in text
    assert str(Path.cwd()).lower() not in text


def test_it_survives_json() -> None:
    found = fingerprint()
    assert msgspec.json.decode(msgspec.json.encode(found), type=Fingerprint) == found


def test_usable_cores_follow_the_affinity() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no CPU affinity on this system")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_the_watch_warns_of_what_disturbs() -> None:
    machine = replace(fingerprint(), governor="powersave", physical_cores=4, usable_cores=4)
    warnings = " ".join(Watch().finish(machine, threads=8).warnings)
    assert "powersave" in warnings
    assert "8 threads on 4 usable cores" in warnings
    smt = replace(machine, governor="performance", usable_cores=8)
    found = Watch().finish(smt, threads=8)
    assert "8 threads on 4 physical cores" in " ".join(found.warnings)
    assert "governor" not in " ".join(found.warnings)
    assert 0 <= found.busy_before <= 1
    assert found.load_after is None or found.load_after >= 0
