"""The hardware fingerprint: what decides latency and stays the same from boot to boot."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import psutil

from autoprune.latency.machine import cpu_facts, cpu_quota, governor, machine_warnings

__all__ = ["Hardware", "cpu_facts", "fingerprint", "machine_warnings"]

_FLAGS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_ARM_FLAGS = ("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme")
_NOT_IDENTIFYING = ("os_release", "environment", "python")
_ENVIRONMENT = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "KMP_AFFINITY", "GOMP_CPU_AFFINITY")


@dataclass(frozen=True)
class Hardware:
    """What latencies were measured on.

    Attributes:
        cpu: Model name.
        cores: Physical cores.
        cpus: Logical CPUs.
        caches: Bytes of one cache by level (``L1d``, ``L2``, ``L3``).
        flags: Instruction sets that matter for matrix work.
        memory_gib: Main memory, rounded.
        gpus: Per GPU: name, memory_gib, driver, capability.
        quota: Cores that the control group grants, or None.
        governor: Frequency governor, or None where it cannot be read.
        virtualisation: Hypervisor or container, or None on bare metal (or where it cannot be told).
        os: Operating system and machine type.
        torch: Version, and the libraries that do the work.
        os_release: Kernel (shown, not part of the digest).
        python: Version (shown, not part of the digest).
        environment: Thread variables that are set (shown, not part of the digest; the workload has the threads).
    """

    cpu: str
    cores: int
    cpus: int
    caches: dict[str, int] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    memory_gib: int = 0
    gpus: tuple[dict[str, Any], ...] = ()
    quota: float | None = None
    governor: str | None = None
    virtualisation: str | None = None
    os: str = ""
    torch: str = ""
    os_release: str = ""
    python: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fingerprint as JSON types."""
        return {**asdict(self), "flags": list(self.flags), "gpus": [dict(gpu) for gpu in self.gpus]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Hardware:
        """Read what ``to_dict`` wrote; fields of other versions are left out."""
        known = {f.name for f in fields(cls)}
        kept = {name: value for name, value in data.items() if name in known}
        return cls(**{**kept, "flags": tuple(kept.get("flags", ())), "gpus": tuple(kept.get("gpus", ()))})

    def digest(self) -> str:
        """Return the sha256 (hex) of what decides latency: the same after a restart and under load."""
        data = {name: value for name, value in self.to_dict().items() if name not in _NOT_IDENTIFYING}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()

    def describe(self) -> str:
        """Return the hardware in one line for people."""
        parts = [f"{self.cpu}, {self.cores} core{'s' if self.cores > 1 else ''}"]
        best = [flag for flag in ("amx_bf16", "avx512f", "avx2", "sve", "asimd") if flag in self.flags]
        parts += best[:1]
        if self.quota is not None and self.quota < self.cpus:
            parts.append(f"quota {self.quota:g} cores")
        parts.append(f"{self.memory_gib} GiB")
        parts += [str(gpu["name"]) for gpu in self.gpus]
        if self.virtualisation:
            parts.append(self.virtualisation)
        return ", ".join(parts)


@functools.cache
def fingerprint() -> Hardware:
    """Return this machine's fingerprint. Takes a fraction of a second once per process."""
    cpuinfo = _cpuinfo()
    return Hardware(
        cpu=_cpu_name(cpuinfo),
        cores=psutil.cpu_count(logical=False) or os.cpu_count() or 1,
        cpus=os.cpu_count() or 1,
        caches=_caches(),
        flags=_flags(cpuinfo),
        memory_gib=round(psutil.virtual_memory().total / 2**30),
        gpus=tuple(_gpus()),
        quota=cpu_quota(),
        governor=governor(),
        virtualisation=_virtualisation(cpuinfo),
        os=f"{platform.system()} {platform.machine()}",
        torch=_torch_build(),
        os_release=platform.release(),
        python=platform.python_version(),
        environment={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
    )


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _command(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _cpuinfo() -> dict[str, str]:
    """Return the first CPU's lines of /proc/cpuinfo, names in lower case; empty elsewhere."""
    first = _read("/proc/cpuinfo").split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    return {name.strip().lower(): value.strip() for name, value in pairs}


def _cpu_name(cpuinfo: Mapping[str, str]) -> str:
    name = cpuinfo.get("model name") or cpuinfo.get("hardware") or ""
    if platform.system() == "Darwin":
        name = _command("sysctl", "-n", "machdep.cpu.brand_string")
    name = name or platform.processor() or platform.machine() or "unknown CPU"
    # Some hypervisors hide the name ("Intel(R) Xeon(R) Processor"): family and model tell generations apart.
    numbers = [cpuinfo.get(key, "") for key in ("cpu family", "model", "stepping", "cpu part", "cpu variant")]
    known = "-".join(number for number in numbers if number)
    return " ".join(name.split()) + (f" ({known})" if known else "")


def _flags(cpuinfo: Mapping[str, str]) -> tuple[str, ...]:
    present = set((cpuinfo.get("flags") or cpuinfo.get("features") or "").split())
    return tuple(flag for flag in (*_FLAGS, *_ARM_FLAGS) if flag in present)


def _caches(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, int]:
    """Return bytes by level, instruction caches left out."""
    found = {}
    for index in sorted(root.glob("index*")):
        kind, size = _read(index / "type"), _read(index / "size")
        if kind != "Instruction" and size[:-1].isdecimal():
            level = f"L{_read(index / 'level')}" + ("d" if kind == "Data" else "")
            found[level] = int(size[:-1]) * {"K": 2**10, "M": 2**20}.get(size[-1], 1)
    return found


def _virtualisation(cpuinfo: Mapping[str, str]) -> str | None:
    marks = (("/.dockerenv", "docker"), ("/run/.containerenv", "podman"))
    inside = [name for path, name in marks if Path(path).exists()]
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        inside.append("kubernetes")
    if "hypervisor" in cpuinfo.get("flags", "").split():
        product = _read("/sys/class/dmi/id/product_name") or _read("/sys/hypervisor/type")
        inside.append(f"virtual machine ({product})" if product else "virtual machine")
    if "microsoft" in platform.release().lower():
        inside.append("WSL")
    return " in ".join(inside) or None


def _torch_build() -> str:
    """Return torch's version and the libraries behind it."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    backends: dict[str, Any] = {name: getattr(torch.backends, name) for name in ("mkl", "mkldnn", "openmp")}
    libraries = [name for name, backend in backends.items() if backend.is_available()]
    return f"{torch.__version__} {capability} {' '.join(libraries)}"


def _gpus() -> Iterable[dict[str, Any]]:
    import torch

    if torch.backends.mps.is_available():
        yield {"name": "Apple GPU (mps)", "memory_gib": 0, "driver": platform.mac_ver()[0], "capability": ""}
    if not torch.cuda.is_available():
        return
    driver = _nvidia_driver()
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        yield {
            "name": facts.name,
            "memory_gib": round(facts.total_memory / 2**30),
            "driver": driver,
            "capability": f"{facts.major}.{facts.minor}",
        }


def _nvidia_driver() -> str:
    """Return the driver's version through nvidia-ml-py if it is installed, else through nvidia-smi."""
    try:
        pynvml: Any = importlib.import_module("pynvml")  # package nvidia-ml-py
    except ImportError:
        return _command("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").split("\n")[0]
    try:
        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return ""
    return version.decode() if isinstance(version, bytes) else str(version)
