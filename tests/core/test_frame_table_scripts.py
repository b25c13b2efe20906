"""Random scripts of scans and writes, outcome for outcome against the plain Python model."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from oracle import census
from pageshare.core import FrameTable, hash_pages
from pageshare.space import PageSpace
from table_model import Model

OWNER_PAGES = (7, 5, 4)
PAGES = sum(OWNER_PAGES)
PAGE_SIZE = 256
CONTENTS = 5  # content 0 is the zero page

page = st.integers(0, PAGES - 1)


def content(number):
    """Few contents, that agree in most of their bytes."""
    data = np.full(PAGE_SIZE, 0xCC if number else 0, np.uint8)
    data[-1] = number
    return data


class Scripts(RuleBasedStateMachine):
    @initialize(
        contents=st.lists(st.integers(0, CONTENTS - 1), min_size=PAGES, max_size=PAGES),
        domains=st.lists(st.sampled_from(["red", "blue"]), min_size=3, max_size=3),
        hash_bits=st.sampled_from([0, 1, 3, 32, 64]),
        max_refs=st.sampled_from([0, 0, 2, 3]),
        checksum=st.booleans(),
        zero_ordinary=st.booleans(),
        seed=st.integers(0, 2**64 - 1),
    )
    def begin(self, contents, domains, hash_bits, max_refs, checksum, zero_ordinary, seed):
        self.memory = np.stack([content(number) for number in contents])
        ends = np.cumsum(OWNER_PAGES)
        self.parts = [self.memory[end - n : end] for n, end in zip(OWNER_PAGES, ends, strict=True)]
        self.names = domains
        space = PageSpace.of(self.parts, page_size=PAGE_SIZE, domains=domains)
        numbers = [space.domains.index(name) for name in domains]
        per_page = [numbers[i] for i, n in enumerate(OWNER_PAGES) for _ in range(n)]
        options = {
            "seed": seed,
            "hash_bits": hash_bits,
            "max_refs": max_refs,
            "checksum": checksum,
            "zero_ordinary": zero_ordinary,
        }
        self.exact = not max_refs and not checksum and not zero_ordinary
        self.table = FrameTable(space, **options)
        self.model = Model(self.memory, per_page, **options)
        # Beside it: the same by fingerprints, which must go the same way in everything, partners included.
        zero = int(hash_pages(bytes(PAGE_SIZE), PAGE_SIZE, seed=seed)[0])
        self.fingerprints = hash_pages(self.memory, PAGE_SIZE, seed=seed)
        self.twin = FrameTable(space.as_fingerprints(self.fingerprints, zero), **options)

    @rule(pages=st.lists(page, min_size=1, max_size=2 * PAGES))
    def scan(self, pages):
        result = self.table.scan(np.array(pages, np.uint32))
        twin = self.twin.scan(np.array(pages, np.uint32))
        assert (result.outcomes == twin.outcomes).all()
        assert (result.partners == twin.partners).all()
        for number, outcome, partner in zip(pages, result.outcomes, result.partners, strict=True):
            expected, partners = self.model.visit(number)
            assert outcome == expected
            assert int(partner) in partners

    @rule(number=page, to=st.integers(0, CONTENTS - 1))
    def write(self, number, to):
        assert self.table.write(number)[0] == self.twin.write(number)[0] == self.model.write(number)
        self.change(number, to)

    @rule(pages=st.lists(page, min_size=2, max_size=PAGES, unique=True), to=st.integers(0, CONTENTS - 1))
    def write_many(self, pages, to):
        broken = self.table.write(np.array(pages, np.uint32))
        assert broken.tolist() == [self.model.write(number) for number in pages]
        assert broken.tolist() == self.twin.write(np.array(pages, np.uint32)).tolist()
        self.change(pages, to)

    def change(self, pages, to):
        self.memory[pages] = content(to)
        self.fingerprints[pages] = hash_pages(content(to), PAGE_SIZE, seed=self.table.seed)[0]

    @rule()
    def drop_hints(self):
        self.table.drop_hints()
        self.twin.drop_hints()
        self.model.drop_hints()

    @rule(first=st.integers(0, 2**32 - 1), last=st.integers(0, 2**32 - 1), everything=st.booleans())
    def accept(self, first, last, everything):
        first, last = (0, 2**32 - 1) if everything else sorted((first, last))
        self.table.accept(first, last)
        self.twin.accept(first, last)
        self.model.accepted = range(first, last + 1)

    @rule()
    def counts_after_a_full_pass_are_the_census(self):
        """Whatever happened before: look at each page once more, in any order, and all is found."""
        if not self.exact:
            return
        self.accept(0, 0, True)
        self.scan(list(range(PAGES)))
        owners = {f"owner{i}": [row.tobytes() for row in part] for i, part in enumerate(self.parts)}
        domains = {f"owner{i}": name for i, name in enumerate(self.names)}
        truth = census(owners, domains, PAGE_SIZE)
        tally = self.table.tally()
        assert tally.zero == truth["pages"]["zero"]
        assert tally.shared == truth["nonzero"]["shared"]
        assert tally.kept == truth["nonzero"]["kept"]
        assert sum(o.alone_shared - o.alone_kept for o in tally.owners) == truth["nonzero"]["reclaimed_intra"]
        for mine, owner in zip(tally.owners, truth["owners"], strict=True):
            assert mine.alone_shared == owner["nonzero"]["shared"]
            assert mine.alone_kept == owner["nonzero"]["kept"]

    @invariant()
    def sound_and_of_one_mind(self):
        if not hasattr(self, "table"):
            return
        self.table.check()
        self.twin.check()
        stats = self.table.stats()
        expected = self.model.counts()
        assert {name: getattr(stats, name) for name in expected} == expected
        tally = self.table.tally()
        assert tally.stale == len(self.model.stale)
        seen = stats.hints + stats.members + tally.stale
        assert sum(mine.zero + mine.unique + mine.shared for mine in tally.owners) == seen
        assert sum(mine.zero + mine.alone_unique + mine.alone_shared for mine in tally.owners) == seen


Scripts.TestCase.settings = settings(max_examples=2000, stateful_step_count=25, deadline=None)
TestScripts = Scripts.TestCase
