"""What other programs read from the same dump: page by page, to be held against what is read here."""

import warnings
from importlib import import_module

import pytest

from dumps import PAGE
from pageshare.images.blocks import decoded
from pageshare.images.ranges import State, first_wins, paginate


def volatility_pages(path, kind="", **others):
    """What volatility3's layer ``kind`` (``lime.LimeLayer``) has of a file: page frame number to bytes, of whole pages.

    Without a kind the file itself. ``others`` are further files that the layer needs, by name, such as ``meta``. Skips
    the test where it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("volatility3", reason="no volatility3: pip install volatility3")
        from volatility3.framework import contexts
        from volatility3.framework.layers import physical

        layers = import_module(f"volatility3.framework.layers.{kind.partition('.')[0]}") if kind else None
    if not getattr(layers, "HAS_SNAPPY", True):
        pytest.skip("volatility3 finds no libsnappy: apt-get install libsnappy1v5")
    context = contexts.Context()
    for name, each in {"base": path, **others}.items():
        context.config[f"{name}.location"] = each.as_uri()
        context.add_layer(physical.FileLayer(context, name, name))
        context.config[f"memory.{name}_layer"] = name
    file = context.layers["base"]
    layer, spans = file, [[0, file.maximum_address + 1]]
    if layers:
        layer, spans = getattr(layers, kind.rpartition(".")[2])(context, "memory", "memory"), []
        context.add_layer(layer)
        end = layer.maximum_address + 1
        for address, length, *_ in layer.mapping(layer.minimum_address, end, ignore_errors=True):
            if spans and spans[-1][1] == address:
                spans[-1][1] += length
            else:
                spans.append([address, address + length])
    pages = {
        pfn: layer.read(pfn * PAGE, PAGE)
        for first, end in spans
        for pfn in range(-(-first // PAGE), end // PAGE)
    }
    for name in ("base", *others):
        context.layers[name].destroy()  # which closes its file
    return pages


def our_pages(image, states=(State.DATA,)):
    """Of an image: page frame number to bytes, of all pages of these states, those of devices too."""
    held = {}
    with decoded(image) as image:
        paged = paginate(first_wins(image.ranges)[0], PAGE)
        for pfn, pages, offset, file, state, _ in paged.extents.tolist():
            if state in states:
                length = pages * PAGE
                payload = image.payload[file].read(offset, length) if state == State.DATA else bytes(length)
                held.update({pfn + page: payload[page * PAGE : (page + 1) * PAGE] for page in range(pages)})
        for stitch in paged.stitches:
            held[stitch.pfn] = b"".join(
                image.payload[piece.file].read(piece.offset, piece.bytes)
                if piece.state == State.DATA
                else bytes(piece.bytes)
                for piece in stitch.pieces
            )
    return held
