"""Methods that pretrain a network: one file each, one interface, one registry line.

A method is a module with a `network` (whose features every evaluation reads) and `loss(batch) -> (loss, diagnostics)`.
The loop knows nothing else about it.
"""

from __future__ import annotations

from hgrl.config import Settings
from hgrl.errors import InputError
from hgrl.methods.base import Method
from hgrl.methods.hierarchical import HierarchicalGrouping

REGISTRY: dict[str, type[Method]] = {
    "hierarchical": HierarchicalGrouping,
}

__all__ = ["REGISTRY", "Method", "build_method"]


def build_method(name: str, settings: Settings) -> Method:
    """A method with fresh weights from torch's global random state; InputError for an unknown name."""
    if name not in REGISTRY:
        raise InputError(f"params.yaml: unknown method {name!r}; choose one of: {', '.join(REGISTRY)}")
    return REGISTRY[name](settings)
