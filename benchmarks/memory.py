"""The most memory that this process has held; of `ru_maxrss` a child inherits its parent's."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> float:
    """Let `peak_mib` begin anew at what is held now, where the system allows it; returns that."""
    with suppress(OSError):
        REFERENCES.write_text("5")
    return peak_mib()


def peak_mib() -> float:
    """The largest resident set of this process in MiB."""
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
