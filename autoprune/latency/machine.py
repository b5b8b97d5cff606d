"""What this machine gives the process just now: CPU quota, cores, neighbours; and what makes timings false."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

_AT_START = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
"""CPUs that this process may use, read before ``pin_threads`` narrows them for a while."""
_SAMPLE_S = 0.25
_BUSY_CORES = 0.25  # other processes' share of one core from which they count as a load
_STEAL = 0.02


@dataclass(frozen=True)
class CpuFacts:
    """The CPU as this process sees it now.

    Attributes:
        visible: Logical CPUs of the machine.
        allowed: Logical CPUs that the affinity of this process allows.
        physical: Physical cores of the machine, at least 1.
        quota: Cores that the control group grants, or None without a limit.
        busy: Cores that other processes used in the last moments.
        steal: Share of the time that the hypervisor gave to other guests.
    """

    visible: int
    allowed: int
    physical: int
    quota: float | None = None
    busy: float = 0.0
    steal: float = 0.0

    @property
    def usable(self) -> int:
        """Cores that a computation of this process can use: allowed, within the quota, hyper-threads not counted."""
        cores = min(self.allowed, max(1, round(self.allowed * self.physical / max(1, self.visible))))
        return max(1, cores if self.quota is None else min(cores, int(self.quota)))


def cpu_facts(sample_s: float = _SAMPLE_S) -> CpuFacts:
    """Look at the CPU for ``sample_s`` seconds (the caller sleeps meanwhile)."""
    busy, steal = _other_load(sample_s)
    visible = os.cpu_count() or 1
    return CpuFacts(
        visible=visible,
        allowed=visible if _AT_START is None else len(_AT_START),
        physical=psutil.cpu_count(logical=False) or visible,
        quota=cpu_quota(),
        busy=busy,
        steal=steal,
    )


def _other_load(sample_s: float) -> tuple[float, float]:
    """Return the cores that others use, and the share stolen by the hypervisor, over a moment of sleep."""
    before, own = psutil.cpu_times(), time.process_time()
    time.sleep(sample_s)
    after, own = psutil.cpu_times(), time.process_time() - own
    spent = {name: getattr(after, name) - getattr(before, name) for name in after._fields}
    idle = spent.get("idle", 0.0) + spent.get("iowait", 0.0)
    steal = spent.get("steal", 0.0)
    # Linux counts guest time inside user and nice already.
    total = sum(value for name, value in spent.items() if name not in ("guest", "guest_nice"))
    used = max(0.0, total - idle - steal - own)
    return used / sample_s, (steal / total if total else 0.0)


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), self_cgroup: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return the cores that the control groups of this process grant, or None without a limit.

    Args:
        root: Where control groups are mounted (version 2, or version 1 with a ``cpu`` folder).
        self_cgroup: File that names the groups of the process.
    """
    found = [quota for folder in _cgroup_folders(root, self_cgroup) if (quota := _folder_quota(folder)) is not None]
    return min(found, default=None)


def _cgroup_folders(root: Path, self_cgroup: Path) -> list[Path]:
    folders = {root, root / "cpu", root / "cpu,cpuacct"}
    try:
        lines = self_cgroup.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        bases = [root] if not controllers else [root / controllers] if "cpu" in controllers.split(",") else []
        for base in bases:
            place = base / path.strip("/")
            folders |= {place, *(parent for parent in place.parents if parent.is_relative_to(root))}
    return sorted(folders)


def _folder_quota(folder: Path) -> float | None:
    """Return one control group's limit in cores, or None: version 2 ``cpu.max``, version 1 ``cpu.cfs_*``."""
    try:
        if (folder / "cpu.max").is_file():
            limit, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            limit = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        return float(limit) / float(period) if limit != "max" and float(limit) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def governor(root: Path = Path("/sys/devices/system/cpu")) -> str | None:
    """Return the frequency governor of the first CPU, or None where it cannot be read."""
    try:
        return (root / "cpu0" / "cpufreq" / "scaling_governor").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def machine_warnings(
    facts: CpuFacts | None = None, threads: int | None = None, governor_of: Callable[[], str | None] = governor
) -> list[str]:
    """Say in words what can make latency figures false on this machine now.

    Args:
        facts: What the CPU looks like; None looks now.
        threads: CPU threads that will be used; None takes ``OMP_NUM_THREADS``, if set.
        governor_of: Reads the frequency governor.
    """
    facts = facts or cpu_facts()
    wanted = threads or _environment_threads()
    found = []
    if facts.quota is not None and facts.quota < facts.visible:
        found.append(
            f"The CPU quota is {facts.quota:g} of {facts.visible} cores: more threads than that are stopped "
            "in the middle of a forward, which shows as a long tail."
        )
    if facts.allowed < facts.visible:
        found.append(f"This process may use only {facts.allowed} of {facts.visible} CPUs (affinity).")
    if wanted and wanted > facts.usable:
        found.append(
            f"{wanted} threads on {facts.usable} usable core{'s' if facts.usable > 1 else ''} wait for each other: "
            f"use --threads {facts.usable} or auto."
        )
    if facts.busy >= _BUSY_CORES:
        found.append(f"Other processes use {facts.busy:.1f} of {facts.visible} cores now: latencies will be noisy.")
    if facts.steal >= _STEAL:
        found.append(f"The hypervisor gives {facts.steal:.0%} of the time to other guests (steal).")
    return found + _power_warnings(governor_of())


def _power_warnings(name: str | None) -> list[str]:
    found = []
    if name in ("powersave", "conservative", "ondemand", "schedutil"):
        found.append(f"The frequency governor is {name!r}: the clock rate changes with the load.")
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    if battery is not None and not battery.power_plugged:
        found.append("The machine runs on battery, which lowers the clock rate.")
    return found


def _environment_threads() -> int | None:
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() and int(text) > 0 else None
