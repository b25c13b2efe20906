"""What volatility3 reads from a dump, to be held against what is read here."""

from importlib import import_module

import pytest

from dumps import PAGE


def volatility(kind, *, base, **others):
    """Page frame number to bytes, of all pages of the layer ``kind`` (``crash.WindowsCrashDump64Layer``) over the file
    ``base``; of ``others``, such as ``meta``, it has layers too."""
    pytest.importorskip("volatility3", reason="no volatility3: pip install volatility3")
    from volatility3.framework import contexts
    from volatility3.framework.layers import physical

    context = contexts.Context()
    for name, path in {"base": base, **others}.items():
        context.config[f"{name}.location"] = path.as_uri()
        context.add_layer(physical.FileLayer(context, name, name))
        context.config[f"memory.{name}_layer"] = name
    module, name = kind.split(".")
    try:
        layer = getattr(import_module(f"volatility3.framework.layers.{module}"), name)(context, "memory", "memory")
        return {
            (address + at) // PAGE: layer.read(address + at, PAGE)
            for address, length, *_ in layer.mapping(0, layer.maximum_address + 1, ignore_errors=True)
            for at in range(0, length, PAGE)
        }
    finally:
        for each in context.layers.values():
            each.destroy()  # which closes its file
