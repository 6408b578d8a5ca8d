"""The most memory that this process has held. `ru_maxrss` would not do: a child begins with its parent's."""

from __future__ import annotations

import resource
from pathlib import Path

STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> float:
    """Start anew, where the system allows it: what `peak_mib` says from now on begins at what is held now.
    Returns that.
    """
    try:
        REFERENCES.write_text("5")
    except OSError:
        pass
    return peak_mib()


def peak_mib() -> float:
    """The largest resident set of this process in MiB."""
    if STATUS.exists():
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
