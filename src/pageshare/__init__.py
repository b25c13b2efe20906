"""pageshare: how much memory do identical pages waste, and how would it best be found?

>>> import pageshare
>>> pageshare.scan(bytes(8192)).pages.reclaimed
1

The names below are loaded when first used, so that ``import pageshare`` alone stays quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pageshare import replay, synth
    from pageshare._version import __version__
    from pageshare.core import (
        Census,
        CensusStats,
        ChainStats,
        Control,
        FrameTable,
        MediaError,
        Outcome,
        Scanned,
        Stopped,
        TableStats,
        Tally,
        census,
        hash_pages,
        kernels,
    )
    from pageshare.estimation import Estimate, Estimated, NonzeroEstimates, OwnerCounts, PageEstimates, estimate
    from pageshare.images import Image, ImageError, open_image
    from pageshare.report import (
        FileReport,
        NonzeroCounts,
        NonzeroTotals,
        OwnerReport,
        PageCounts,
        Partial,
        Report,
        Seconds,
        WithOthers,
    )
    from pageshare.scanner import scan
    from pageshare.space import Coverage, PageSpace

_HOME = {
    "pageshare._version": ("__version__",),
    "pageshare.estimation": (
        "Estimate",
        "Estimated",
        "NonzeroEstimates",
        "OwnerCounts",
        "PageEstimates",
        "estimate",
    ),
    "pageshare.core": (
        "Census",
        "CensusStats",
        "ChainStats",
        "Control",
        "FrameTable",
        "MediaError",
        "Outcome",
        "Scanned",
        "Stopped",
        "TableStats",
        "Tally",
        "census",
        "hash_pages",
        "kernels",
    ),
    "pageshare.images": ("Image", "ImageError", "open_image"),
    "pageshare.report": (
        "FileReport",
        "NonzeroCounts",
        "NonzeroTotals",
        "OwnerReport",
        "PageCounts",
        "Partial",
        "Report",
        "Seconds",
        "WithOthers",
    ),
    "pageshare.scanner": ("scan",),
    "pageshare.space": ("Coverage", "PageSpace"),
}

__all__ = [
    "Census",
    "CensusStats",
    "ChainStats",
    "Control",
    "Coverage",
    "Estimate",
    "Estimated",
    "FileReport",
    "FrameTable",
    "Image",
    "ImageError",
    "MediaError",
    "NonzeroCounts",
    "NonzeroEstimates",
    "NonzeroTotals",
    "Outcome",
    "OwnerCounts",
    "OwnerReport",
    "PageCounts",
    "PageEstimates",
    "PageSpace",
    "Partial",
    "Report",
    "Scanned",
    "Seconds",
    "Stopped",
    "TableStats",
    "Tally",
    "WithOthers",
    "__version__",
    "census",
    "estimate",
    "hash_pages",
    "kernels",
    "open_image",
    "replay",
    "scan",
    "synth",
]


def __getattr__(name: str) -> Any:
    if name in ("replay", "synth"):
        return importlib.import_module(f"pageshare.{name}")
    for module, names in _HOME.items():
        if name in names:
            value = getattr(importlib.import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'pageshare' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
