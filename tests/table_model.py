"""The frame table in plain Python: the oracle for every outcome and every count of the native one.

Written from ESX's rules (Waldspurger, OSDI 2002, section 4.2) and docs/concepts.md, with lists and sets where
the native table has chains and links. Which member a frame is read through is left open, so a partner in a
frame is checked to be a member of it.
"""

from pageshare.core import NO_PAGE, Outcome, hash_pages

WORD = 2**64 - 1


def mix(x):
    """splitmix64's finaliser."""
    x = (x + 0x9E3779B97F4A7C15) & WORD
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & WORD
    return x ^ x >> 31


class Entry:
    """A hint (one page) or a frame (its members), under the tag of the key that it was entered with."""

    def __init__(self, page, tag, domain, is_frame):
        self.members, self.tag, self.domain, self.is_frame = {page}, tag, domain, is_frame


class Model:
    """``memory`` is a list-like of pages that may change; ``domains`` has one number a page."""

    def __init__(self, memory, domains, *, seed, hash_bits, max_refs=0, checksum=False, zero_ordinary=False):
        self.memory, self.domains, self.seed = memory, domains, seed
        self.mask, self.max_refs = (1 << hash_bits) - 1, max_refs
        self.checksums = dict.fromkeys(range(len(memory)), 0) if checksum else None
        self.zero_ordinary = zero_ordinary
        self.accepted = range(1 << 32)
        self.chains = {}  # tag -> entries, newest first
        self.entry_of = {}  # page -> entry
        self.zero_frame = {}  # domain -> entry
        self.stale = set()  # pages whose hint was found stale, not looked at since
        self.visits = self.false_matches = self.stale_hints = self.cow_breaks = 0

    def bytes_of(self, page):
        return bytes(self.memory[page])

    def key(self, data, domain):
        salt = mix(self.seed ^ domain << 32)
        return (int(hash_pages(data, len(data), seed=self.seed)[0]) ^ salt) & self.mask

    def remove(self, entry):
        self.chains[entry.tag].remove(entry)
        for page in entry.members:
            del self.entry_of[page]

    def enter(self, page, tag, is_frame):
        entry = Entry(page, tag, self.domains[page], is_frame)
        self.chains.setdefault(tag, []).insert(0, entry)
        self.entry_of[page] = entry
        return entry

    def full(self, entry):
        full = entry.is_frame and self.max_refs and len(entry.members) >= self.max_refs
        return full and self.zero_frame.get(entry.domain) is not entry

    def find(self, page, data, key):
        hint = stale = unlike = None
        for entry in list(self.chains.get(key & 0xFFFFFFFF, [])):
            other = min(entry.members)
            if other == page or entry.domain != self.domains[page] or self.full(entry):
                continue
            theirs = self.bytes_of(other)
            if hint:
                if entry.is_frame and theirs == data:
                    return entry, stale, unlike
                continue
            if theirs == data:
                if entry.is_frame:
                    return entry, stale, unlike
                hint = entry
                continue
            their_key = self.key(theirs, entry.domain)
            if their_key == key:
                self.false_matches += 1
                unlike = other
            elif not entry.is_frame and their_key & 0xFFFFFFFF != key & 0xFFFFFFFF:
                self.stale_hints += 1
                stale = other
                self.remove(entry)
                self.stale.add(other)
        return hint, stale, unlike

    def visit(self, page):
        """(outcome, set of allowed partners)."""
        own = self.entry_of.get(page)
        if own and own.is_frame:
            return Outcome.ALREADY_SHARED, own.members - {page} or {NO_PAGE}
        data, domain = self.bytes_of(page), self.domains[page]
        zero, key = not any(data) and not self.zero_ordinary, self.key(data, domain)
        self.stale.discard(page)
        if own and (own.tag != key & 0xFFFFFFFF or zero):
            self.remove(own)
            own = None
        self.visits += 1
        tag = key & 0xFFFFFFFF
        accepted, calm = zero or tag in self.accepted, True
        if accepted and self.checksums is not None:
            calm = self.checksums[page] == tag
            self.checksums[page] = tag
        if not accepted or not calm:
            if own:
                self.remove(own)
            return Outcome.VOLATILE if accepted else Outcome.PASSED_OVER, {NO_PAGE}
        match, stale, unlike = self.zero_frame.get(domain) if zero else None, None, None
        if not match:
            match, stale, unlike = self.find(page, data, key)
        if match:
            if own:
                self.remove(own)
            outcome = Outcome.ZERO if zero else Outcome.SHARED if match.is_frame else Outcome.SHARED_NEW
            partners = set(match.members)
            match.is_frame = True
            match.members.add(page)
            self.entry_of[page] = match
            if zero:
                self.zero_frame[domain] = match
            return outcome, partners
        if own:
            return Outcome.ALREADY_HINTED, {NO_PAGE}
        entry = self.enter(page, tag, zero)
        if zero:
            self.zero_frame[domain] = entry
            return Outcome.ZERO, {NO_PAGE}
        if stale is not None:
            return Outcome.STALE_HINT, {stale}
        if unlike is not None:
            # Any member may stand for a frame that was compared.
            other = self.entry_of[unlike]
            return Outcome.FALSE_MATCH, other.members if other.is_frame else {unlike}
        return Outcome.HINTED, {NO_PAGE}

    def write(self, page):
        """Whether it was a copy-on-write break."""
        entry = self.entry_of.get(page)
        if not entry or not entry.is_frame:
            return False
        self.cow_breaks += 1
        if self.full(entry):  # it has room again, and is the first to be tried
            self.chains[entry.tag].remove(entry)
            self.chains[entry.tag].insert(0, entry)
        entry.members.remove(page)
        del self.entry_of[page]
        if not entry.members:
            self.chains[entry.tag].remove(entry)
            if self.zero_frame.get(entry.domain) is entry:
                del self.zero_frame[entry.domain]
        return True

    def drop_hints(self):
        for entry in {id(e): e for e in self.entry_of.values() if not e.is_frame}.values():
            self.remove(entry)

    def counts(self):
        entries = {id(e): e for e in self.entry_of.values()}.values()
        frames = [e for e in entries if e.is_frame]
        return {
            "visits": self.visits,
            "false_matches": self.false_matches,
            "stale_hints": self.stale_hints,
            "cow_breaks": self.cow_breaks,
            "hints": sum(not e.is_frame for e in entries),
            "frames": len(frames),
            "lone_frames": sum(len(e.members) == 1 for e in frames),
            "members": sum(len(e.members) for e in frames),
        }
