import os
from pathlib import Path

import pytest

from autoprune.latency import hardware
from autoprune.latency.hardware import Hardware, fingerprint
from autoprune.latency.machine import CpuFacts, cpu_facts, cpu_quota, governor, machine_warnings


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [("max 100000", "max 100000", None), ("150000 100000", "max 100000", 1.5), ("max 100000", "50000 100000", 0.5)],
)
def test_quota_of_version_2_is_the_least_on_the_way_up(
    tmp_path: Path, own: str, parent: str, expected: float | None
) -> None:
    write(tmp_path / "cgroup/a/b/cpu.max", own)
    write(tmp_path / "cgroup/a/cpu.max", parent)
    write(tmp_path / "self", "0::/a/b\n")
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "self") == expected


def test_quota_of_version_1(tmp_path: Path) -> None:
    write(tmp_path / "cgroup/cpu/job/cpu.cfs_quota_us", "200000")
    write(tmp_path / "cgroup/cpu/job/cpu.cfs_period_us", "100000")
    write(tmp_path / "self", "3:cpu:/job\n2:memory:/job\n")
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "self") == 2.0
    write(tmp_path / "cgroup/cpu/job/cpu.cfs_quota_us", "-1")
    assert cpu_quota(tmp_path / "cgroup", tmp_path / "self") is None


def test_quota_without_control_groups(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "none", tmp_path / "nothing") is None


def test_usable_cores() -> None:
    assert CpuFacts(visible=8, allowed=8, physical=4).usable == 4
    assert CpuFacts(visible=8, allowed=2, physical=4).usable == 1
    assert CpuFacts(visible=8, allowed=8, physical=8, quota=2.7).usable == 2
    assert CpuFacts(visible=8, allowed=8, physical=8, quota=0.5).usable == 1


def test_this_machine_can_be_looked_at() -> None:
    facts = cpu_facts(0.05)
    assert 1 <= facts.usable <= facts.allowed <= facts.visible == os.cpu_count()
    assert 0 <= facts.busy <= facts.visible + 0.5


@pytest.mark.parametrize(
    ("facts", "threads", "word"),
    [
        (CpuFacts(4, 4, 4, quota=2), 1, "quota"),
        (CpuFacts(4, 2, 4), 1, "affinity"),
        (CpuFacts(4, 4, 4, busy=1.5), 1, "Other processes"),
        (CpuFacts(4, 4, 4, steal=0.1), 1, "hypervisor"),
        (CpuFacts(4, 4, 4), 9, "wait for each other"),
    ],
)
def test_each_disturbance_has_its_warning(facts: CpuFacts, threads: int, word: str) -> None:
    warnings = [w for w in machine_warnings(facts, threads, lambda: "performance") if "battery" not in w]
    assert len(warnings) == 1
    assert word in warnings[0]


def test_quiet_machine_has_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    quiet = CpuFacts(4, 4, 4)
    assert [w for w in machine_warnings(quiet, None, lambda: None) if "battery" not in w] == []
    assert any("powersave" in w for w in machine_warnings(quiet, None, lambda: "powersave"))
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    assert any("64 threads" in w for w in machine_warnings(quiet, None, lambda: None))


def test_governor(tmp_path: Path) -> None:
    write(tmp_path / "cpu0/cpufreq/scaling_governor", "schedutil\n")
    assert governor(tmp_path) == "schedutil"
    assert governor(tmp_path / "none") is None


def test_fingerprint_names_this_machine_and_survives_json() -> None:
    found = fingerprint()
    assert found.cpu
    assert found.cores >= 1
    assert found.memory_gib >= 1
    assert found.torch
    assert Hardware.from_dict(found.to_dict()) == found
    assert found.cpu in found.describe()


def test_digest_ignores_load_kernel_and_environment_but_not_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint().digest()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(hardware.platform, "release", lambda: "99.0")
    fingerprint.cache_clear()
    again = fingerprint()
    assert again.environment["OMP_NUM_THREADS"] == "7"
    assert again.digest() == before
    monkeypatch.setattr(hardware, "cpu_quota", lambda: 0.5)
    fingerprint.cache_clear()
    assert fingerprint().digest() != before
    fingerprint.cache_clear()
