"""Random memories of some owners, as named lists of pages, and what dicts make of them."""

import random
from collections import Counter

import pageshare

PAGE = 4096
ZEROS = bytes(PAGE)


def memories(seed, owners, *, contents=40, most=60):
    """Owner to its pages, of few contents, so that many are equal."""
    draw = random.Random(seed)
    pool = [ZEROS, *(draw.randbytes(PAGE) for _ in range(contents))]
    weights = [3, *(1 for _ in range(contents))]
    named = {}
    for i in range(owners):
        few = draw.sample(range(len(pool)), draw.randrange(1, len(pool)))  # so that pairs differ
        count = draw.randrange(1, most)
        named[f"o{i}"] = [pool[n] for n in draw.choices(few, [weights[n] for n in few], k=count)]
    return named


def domains_of(seed, named, domains):
    """Owner to the name of its domain."""
    draw = random.Random(seed)
    return {name: f"d{draw.randrange(domains)}" for name in named}


def grouped(domains):
    """The same as ``scan`` takes it."""
    groups = {}
    for name, domain in domains.items():
        groups.setdefault(domain, []).append(name)
    return groups


def scanned(named, domains=None):
    """The report of a scan."""
    given = grouped(domains) if domains else None
    return pageshare.scan({name: b"".join(pages) for name, pages in named.items()}, domains=given)


def reclaimed(named, domains=None):
    """Pages that sharing saves, and those of them that are zero."""
    held = Counter(((domains or {}).get(name), page) for name, pages in named.items() for page in pages)
    zero = sum(count - 1 for (_, page), count in held.items() if not any(page))
    return sum(held.values()) - len(held), zero
