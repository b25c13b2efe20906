"""The independent count: identical pages by a plain Python dict of page bytes."""

from collections import Counter


def census(owners, domains=None, page_size=4096):
    """What a full scan of ``owners`` (name -> list of page bytes) must find; keys as in the scan's JSON.

    ``domains`` maps owner names to domain names; those left out share one.
    """
    domains = domains or {}
    held = {
        name: Counter((domains.get(name, "default"), bytes(page)) for page in pages)
        for name, pages in owners.items()
    }
    for contents in held.values():
        assert all(len(page) == page_size for _, page in contents)
    together = sum(held.values(), Counter())
    alone = {name: _figures(contents) for name, contents in held.items()}
    result = _figures(together)
    intra = sum(figures["nonzero"]["reclaimed"] for figures in alone.values())
    result["nonzero"]["reclaimed_intra"] = intra
    result["nonzero"]["reclaimed_inter"] = result["nonzero"]["reclaimed"] - intra
    result["owners"] = [
        {
            "name": name,
            **alone[name],
            "with_others": {
                "shared": sum(n for content, n in contents.items() if together[content] > 1),
                "unique": sum(n for content, n in contents.items() if together[content] == 1),
            },
        }
        for name, contents in held.items()
    ]
    return result


def _figures(contents):
    pages = _groups(contents.values())
    return {
        "pages": {
            "known": sum(contents.values()),
            "zero": sum(n for (_, page), n in contents.items() if not any(page)),
            "unique": sum(n == 1 for n in contents.values()),
            **pages,
        },
        "nonzero": _groups([n for (_, page), n in contents.items() if any(page)]),
    }


def _groups(counts):
    groups = [n for n in counts if n > 1]
    return {"shared": sum(groups), "kept": len(groups), "reclaimed": sum(groups) - len(groups)}


def agrees(document, truth):
    """Whether the scan's JSON has every figure of the truth; AssertionError with both where it has not."""
    for part in ("pages", "nonzero"):
        assert {key: document[part][key] for key in truth[part]} == truth[part]
    assert len(document["owners"]) == len(truth["owners"])
    for owner, expected in zip(document["owners"], truth["owners"], strict=True):
        assert owner["name"] == expected["name"]
        for part in ("pages", "nonzero", "with_others"):
            assert {key: owner[part][key] for key in expected[part]} == expected[part], owner["name"]
    return True
