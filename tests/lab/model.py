"""A host page by page in dicts and sets: the oracle for where each page is, what it holds, what is counted, and how
long a touch takes.

Written from the paper's rules (Waldspurger, OSDI 2002) and the docstrings. What the engine draws (victims, the pages
that a scan looks at and which partner they get, what a guest pages out) the model takes from it by listening at the
host's and the guests' calls, checks that it was a choice that the rules allow, and works out every consequence by
itself.
"""

import math
from functools import partial

from pageshare.lab import host as engine
from pageshare.lab.frames import Place
from pageshare.lab.guest import NOWHERE
from pageshare.lab.programs import READ, RELEASED, WRITTEN, ZERO
from pageshare.lab.shares import Client, revoke
from pageshare.lab.thresholds import State

FAULT = 3.0 + 0.5
GUESTS = (
    *("_run", "_parts", "_bring_in_and_use", "_release", "_bring_in", "_reclaim", "_look"),
    *("allocate", "give_back", "restart"),
)
"""What is listened to at guests."""


class Frame:
    """A machine page that somebody uses."""

    def __init__(self, content):
        self.content, self.users, self.read_only = content, set(), False


class OnDisk:
    def __init__(self, content):
        self.content = content


class Queue:
    """A disk's queue."""

    def __init__(self, disk):
        self.disk, self.free_at, self.read, self.written = disk, 0.0, 0, 0

    def wait(self, lasts, after):
        now = self.disk.clock.now
        self.free_at = max(self.free_at, now) + lasts
        return max(self.free_at - now - after, lasts)

    def reads(self, count, after):
        self.read += count
        return self.wait(count * (self.disk.latency + 1e6 / self.disk.bandwidth), after) if count else 0.0

    def writes(self, count, after):
        self.written += count
        return self.wait(self.disk.latency + count * 1e6 / self.disk.bandwidth, after) if count else 0.0


class Model:
    """Listens to a host, which has its guests and its sharing already, and knows what must come of all that it does.

    ``whole_scans``: whether the frame table finds all that is equal (no limits to a frame, no checksums), so that it
    can be told what a scan has to merge.
    """

    def __init__(self, host, *, whole_scans=True):
        self.host, self.whole_scans = host, whole_scans
        self.count = self.free = host.frames.count
        self.where = [{} for _ in host.guests]
        self.ballooned = [set() for _ in host.guests]
        self.popped = [False for _ in host.guests]
        self.ever = [set() for _ in host.guests]
        self.idle = [set(range(guest.pages)) for guest in host.guests]
        self.holds = [dict.fromkeys(range(len(guest.at)), 0) for guest in host.guests]
        self.paged = [set() for _ in host.guests]
        self.seen = set()
        self.first_touches = self.swapped_out = self.swapped_in = self.copied = self.pops = self.waited = 0
        self.merged = self.broken = self.balances = 0
        self.hints, self.doubtful = {}, set()
        self.state, self.since, self.in_state = State.HIGH, 0, dict.fromkeys(State, 0)
        self.queue = Queue(host.disk)
        self.queues = [Queue(guest.disk) for guest in host.guests]
        self.log = None
        self.waits = [0.0]
        self.daemon_until = 0.0
        self.quiet = 0
        self.targets = list(host.targets)
        self.found_memory = 0.0
        self.due = [None for _ in host.guests]
        self.waited_for = [[] for _ in host.guests]
        self.whole = [None for _ in host.guests]
        self.turns = [[] for _ in host.guests]
        self.paid, self.look = [0.0 for _ in host.guests], 0.0
        self.must_look = False
        self.files = [set(guest.file.nonzero()[0].tolist()) for guest in host.guests]
        for number, guest in enumerate(host.guests):
            for page in self.files[number]:
                self.holds[number][page] = int(guest.held[page])
        self.listen()

    # Listening.

    def listen(self):
        host = self.host
        for name in ("touch", "lock", "unlock", "free_reported", "reset", "leave", "swap_out", "look"):
            self.wrap(host, name)
        self.wrap(host.swap, "reclaim")
        self.wrap(host.swap, "_turn")
        host.changed.append(self.balanced)
        if host.sharing is not None:
            self.wrap(host.sharing, "_scan")
            self.wrap(host.sharing, "_merge")
        for guest in host.guests:
            for name in GUESTS:
                self.wrap(guest, name, "guest_" + name.strip("_"))
            for program in guest.programs:
                self.wrap(program, "run", partial(self.program_run, guest.number))
            self.wrap(guest.in_frames, "use", partial(self.guest_use, guest))

    def wrap(self, of, name, ours=None):
        theirs, model = getattr(of, name), ours
        if not callable(model):
            model = getattr(self, model or "on_" + name.strip("_"))

        def call(*args, **options):
            return model(theirs, of, *args, **options)

        setattr(of, name, call)

    def silently(self, call, *args, **options):
        """What it does by calling others is part of it, and not looked at by itself."""
        self.quiet += 1
        try:
            return call(*args, **options)
        finally:
            self.quiet -= 1

    # Pages.

    def leave(self, number, page):
        lies = self.where[number].pop(page, None)
        if isinstance(lies, Frame):
            lies.users.remove((number, page))
            self.broken += lies.read_only
            self.free += not lies.users
        return lies

    def put(self, number, page, content):
        assert self.free > 0
        self.free -= 1
        frame = Frame(content)
        frame.users.add((number, page))
        self.where[number][page] = frame
        self.ever[number].add(page)
        return frame

    def own(self, number, page):
        lies = self.where[number].get(page)
        return isinstance(lies, Frame) and not lies.read_only

    def ready(self, number, page, write):
        """Whether nothing has to be done for it to be touched."""
        lies = self.where[number].get(page)
        return isinstance(lies, Frame) and not (lies.read_only and write)

    def allocated(self, number):
        return sum(1 / len(lies.users) for lies in self.where[number].values() if isinstance(lies, Frame))

    def excess(self, number):
        return max(0, math.floor(self.allocated(number) + 1e-9) - self.targets[number])

    # The host.

    def on_touch(self, theirs, host, guest, pages, write=None, contents=None, after=0.0):
        number, numbers = guest.number, pages.tolist()
        assert len(set(numbers)) == len(numbers)
        outer, self.log = self.log, []
        assert outer is None
        fast = all(self.ready(number, page, write is not None and write[i]) for i, page in enumerate(numbers))
        self.must_look = False
        self.targets = list(host.targets)
        result = theirs(guest, pages, write, contents, after)
        log, self.log = self.log, None
        stall = 0.0
        for begin in range(0, len(numbers), engine.AT_ONCE) if not fast else ():
            stall += self.map(guest, numbers, begin, write, after + stall, log)
            self.store(number, numbers, begin, write, contents)
        if fast:
            for begin in range(0, len(numbers), engine.AT_ONCE):
                self.store(number, numbers, begin, write, contents)
        assert not log, "room was made that nobody needed"
        assert math.isclose(result, stall, rel_tol=1e-9, abs_tol=1e-3), (result, stall)
        assert self.must_look != fast
        if self.must_look:
            self.looks()
        self.check_pages(number, numbers)
        self.waits[-1] += result
        return result

    def map(self, guest, numbers, begin, write, after, log):
        number, part, stall = guest.number, numbers[begin : begin + engine.AT_ONCE], 0.0
        writes = {page for i, page in enumerate(part) if write is not None and write[begin + i]}
        while True:
            where = {page: self.where[number].get(page) for page in part}
            absent = [page for page in part if where[page] is None]
            swapped = [page for page in part if isinstance(where[page], OnDisk)]
            copies = [p for p in part if isinstance(where[p], Frame) and where[p].read_only and p in writes]
            need = len(absent) + len(swapped) + len(copies)
            if need <= self.free:
                break
            assert log, f"{need} frames are needed, {self.free} are free, and no room was made"
            wanted, exempt, events, result = log.pop(0)
            assert wanted == max(need - self.free, engine.CLUSTER)
            assert exempt == part
            written = self.reclaimed(wanted, number, set(part), events)
            assert written == result
            self.waited += written
            stall += self.queue.writes(written, after + stall)
        stall += FAULT * need
        for page in absent:
            if page in self.ballooned[number]:
                self.ballooned[number].remove(page)
                self.popped[number] = True
                self.pops += 1
            self.put(number, page, 0)
        self.first_touches += len(absent)
        stall += self.queue.reads(len(swapped), after + stall)
        for page in swapped:
            self.put(number, page, self.leave(number, page).content)
        self.swapped_in += len(swapped)
        for page in copies:
            content = where[page].content
            self.leave(number, page)
            self.put(number, page, content)
        self.copied += len(copies)
        return stall

    def store(self, number, numbers, begin, write, contents):
        for i, page in enumerate(numbers[begin : begin + engine.AT_ONCE], begin):
            if write is not None and write[i]:
                assert self.own(number, page)
                self.where[number][page].content = int(contents[i])

    def on_reclaim(self, theirs, _swap, count, guest, but):
        outer, self.log = self.log, []
        result = theirs(count, guest, but)
        events, self.log = self.log, outer
        outer.append((count, but.tolist(), events, result))
        return result

    def reclaimed(self, wanted, toucher, exempt, events):
        """Room was made. The guests with most above their targets give first, those alike in any order; whose pages are
        all gone, or freed enough, is followed by nobody."""
        before, written = self.free, 0
        excess = [self.excess(number) for number in range(len(self.where))]
        rest = set(range(len(excess)))
        while rest and (left := wanted - (self.free - before)) > 0:
            number = next(event[1] for event in events if event[0] == "swap_out")
            rest.remove(number)
            assert all(excess[number] >= excess[other] for other in rest)
            can_give = {
                page
                for page in self.where[number]
                if self.own(number, page) and not (number == toucher and page in exempt)
            }
            tried = None
            if self.host.sharing is not None:
                kind, tried, merges = events.pop(0)
                assert kind == "scan"
                assert {owner for owner, _page in tried} <= {number}
                self.scanned(tried, merges)
                tried = {page for _number, page in tried}
            kind, who, victims = events.pop(0)
            assert (kind, who) == ("swap_out", number)
            victims = set(victims)
            assert victims <= can_give, "what was just touched, or is no page of its own, went to disk"
            given = victims if tried is None else tried
            assert len(given) == min(left, len(can_give))
            assert tried is None or victims == {page for page in tried if self.own(number, page)}
            self.swap(number, victims)
            written += len(victims)
        assert not events
        return written

    def on_swap_out(self, theirs, _host, guest, pages):
        self.silently(theirs, guest, pages)
        if self.log is not None:
            self.log.append(("swap_out", guest.number, pages.tolist()))
        else:
            self.swap(guest.number, pages.tolist())

    def swap(self, number, pages):
        assert len(set(pages)) == len(pages)
        for page in pages:
            assert self.own(number, page)
            self.where[number][page] = OnDisk(self.leave(number, page).content)
        self.swapped_out += len(pages)

    def on_turn(self, theirs, _swap):
        """The daemon's turn: who has more than its target gives in proportion, nobody in the high state, and in the
        soft one only who has no balloon."""
        self.targets = list(self.host.targets)
        excess = {n: self.excess(n) for n in range(len(self.where)) if self.excess(n)}
        if self.state == State.SOFT:
            drivers = {n: self.host.guests[n].driver for n in excess}
            able = {n for n, each in drivers.items() if each and each.answers and each.held < each.guest.most_ballooned}
            excess = {n: pages for n, pages in excess.items() if n not in able}
        if self.state == State.HIGH or self.daemon_until > self.host.clock.now + 10_000:
            excess = {}
        before = self.swapped_out
        most = max(1, round(self.host.disk.bandwidth / 100))
        on_disk = [self.on_disk(number) for number in range(len(self.where))]
        theirs()
        for number, were in enumerate(on_disk):
            share = math.ceil(most * excess.get(number, 0) / max(1, sum(excess.values())))
            assert self.on_disk(number) - were <= min(share, excess.get(number, 0))
        if self.swapped_out > before:
            self.daemon_until = self.host.clock.now + self.queue.writes(self.swapped_out - before, 0.0)

    def on_disk(self, number):
        return sum(isinstance(lies, OnDisk) for lies in self.where[number].values())

    def on_leave(self, theirs, _host, guest, pages, place=Place.ABSENT):
        theirs(guest, pages, place)
        if not self.quiet and self.log is None:
            for page in pages.tolist():
                self.leave(guest.number, page)

    def on_lock(self, theirs, _host, guest, pages):
        self.must_look = False
        self.silently(theirs, guest, pages)
        for page in pages.tolist():
            self.leave(guest.number, page)
            self.ballooned[guest.number].add(page)
        assert self.must_look
        self.looks()

    def on_free_reported(self, theirs, _host, guest, pages):
        self.must_look = False
        self.silently(theirs, guest, pages)
        for page in pages.tolist():
            self.leave(guest.number, page)
            self.ever[guest.number].discard(page)
        assert self.must_look
        self.looks()

    def on_unlock(self, theirs, _host, guest, pages):
        theirs(guest, pages)
        self.ballooned[guest.number] -= set(pages.tolist())

    def on_reset(self, theirs, _host, guest):
        theirs(guest)
        self.ballooned[guest.number].clear()
        self.popped[guest.number] = False

    def on_look(self, theirs, _host):
        self.must_look = True
        theirs()
        if self.log is None and not self.quiet:
            self.looks()

    def looks(self):
        marks, h = self.host.thresholds.marks, self.host.thresholds.hysteresis
        share, before = self.free / self.count, self.state
        below = [state for state in State if state < before and share < marks[state]]
        if below:
            self.state = min(below)
        while self.state < State.HIGH:
            mark, above = marks[self.state], marks[self.state + 1]
            if share < mark + h * (above - mark):
                break
            self.state = State(self.state + 1)
        if self.state != before:
            self.in_state[before] += self.host.clock.now - self.since
            self.since = self.host.clock.now
        assert self.host.state == self.state

    def balanced(self):
        """Targets are what revocation, page by page, leaves each."""
        self.balances += 1
        # What a message that frees pages does is not known yet while it is served.
        if self.balances % 16 or self.log is not None or self.quiet:
            return
        aim, clients = self.host.thresholds.leaves(State.SOFT) * self.count, []
        for number, guest in enumerate(self.host.guests):
            most = len(self.ever[number])
            active = most if guest.estimator is None else min(most, guest.estimator.active * guest.pages)
            clients.append(Client(guest.shares, min(guest.least, most), most, active))
        left = revoke(clients, self.count - math.ceil(aim), tax=self.host.tax)
        for target, pages in zip(self.host.targets, left.tolist(), strict=True):
            assert abs(target - pages) <= 2

    # Sharing.

    def on_scan(self, theirs, sharing, pages):
        outer, self.log = self.log, []
        numbers, own = sharing.whose(pages)
        looked_at = [(int(number), int(page)) for number, page in zip(numbers, own, strict=True)]
        theirs(pages)
        merges, self.log = self.log, outer
        if outer is not None:
            outer.append(("scan", looked_at, merges))
        else:
            self.scanned(looked_at, merges)

    def on_merge(self, theirs, sharing, page, partner):
        theirs(page, partner)
        numbers, own = sharing.whose(engine.np.array([page, partner], engine.np.uint32))
        ids = [(int(number), int(page)) for number, page in zip(numbers, own, strict=True)]
        self.log.append((ids[0], ids[1] if partner < sharing.first[-1] else None))

    def scanned(self, looked_at, merges):
        """Each page with a frame of its own that holds what a read-only frame holds, or what a page held when it was
        last looked at and still holds, joins that; a zero page is made read-only in any case."""
        merges = list(merges)
        joined = dict(merges)
        assert len(joined) == len(merges)
        if not self.whole_scans:
            for page, partner in merges:
                self.join(page, partner)
            return
        done = []
        for page in looked_at:
            number, own = page
            if not self.own(number, own):
                continue
            content = self.where[number][own].content
            frames = content in self.shared_contents()
            hinted = [other for other, was in self.hints.items() if other != page and was == content]
            same = [other for other in hinted if self.own(*other) and self.content(other) == content]
            if page in joined:
                self.join(page, joined[page])
                self.hints.pop(page, None)
                self.hints.pop(joined[page], None)
                assert content == 0 or frames or same
                done.append(page)
            else:
                assert content != 0, "a zero page was left alone"
                assert not frames, "a page was left alone though a frame holds the same"
                assert not set(same) - self.doubtful, "a page was left alone though another holds the same"
                self.hints[page] = content
                self.doubtful.discard(page)
            # A stale hint may have been noticed, and forgotten.
            self.doubtful.update(set(hinted) - set(same))
        assert done == [page for page, _partner in merges]

    def shared_contents(self):
        lying = [lies for where in self.where for lies in where.values()]
        return {lies.content for lies in lying if isinstance(lies, Frame) and lies.read_only}

    def content(self, page):
        return self.where[page[0]][page[1]].content

    def join(self, page, partner):
        number, own = page
        mine = self.where[number][own]
        assert not mine.read_only
        if partner is None:
            assert mine.content == 0
            mine.read_only = True
            return
        frame = self.where[partner[0]][partner[1]]
        assert isinstance(frame, Frame)
        assert frame.content == mine.content, "pages that differ were merged"
        mine.users.remove(page)
        self.free += not mine.users
        frame.users.add(page)
        frame.read_only = True
        self.where[number][own] = frame
        self.merged += 1

    # Guests.

    def guest_run(self, theirs, guest):
        """A guest does what is left of its step until it has waited for longer than a step lasts, and goes on when that
        is over; it looks at the step's end, and waits for that, too."""
        number, clock, counts = guest.number, self.host.clock, guest.counts
        assert self.due[number] in (None, clock.now)
        ran, stalled = counts.ran, counts.stalled
        self.targets = list(self.host.targets)
        blocked = self.state == State.LOW and self.excess(number) > 0
        waited = self.waited_for[number] = []
        theirs()
        self.due[number] = None
        assert guest.blocked == blocked
        if blocked:
            assert not waited
            return
        assert sum(waited[:-1]) <= guest.step
        stall, over = sum(waited), sum(waited) <= guest.step
        assert counts.ran - ran == guest.step * over
        stall += self.look * over
        assert math.isclose(counts.stalled - stalled, stall, rel_tol=1e-9, abs_tol=1e-3)
        self.due[number] = clock.now + guest.step * over + round(counts.stalled - stalled)

    def guest_look(self, theirs, guest):
        """What looks have cost since the last time."""
        self.look, result = 0.0, theirs()
        if guest.view is not None:
            costs = guest.view.costs
            paid = costs.visits * 0.3 + costs.faults * 3 + costs.tests * 0.1 + costs.hypercalls * 2
            self.look, self.paid[guest.number] = paid - self.paid[guest.number], paid
        assert math.isclose(result, self.look, rel_tol=1e-9, abs_tol=1e-3)
        return result

    def program_run(self, number, theirs, _program, *args):
        """Each touch is done before the program says the next one."""
        for touch in theirs(*args):
            yield touch
            assert self.whole[number] is touch

    def guest_parts(self, theirs, guest, touch, offset):
        """All pages of a touch have their turn, in the order in which they are named."""
        number = guest.number
        self.whole[number], self.turns[number] = None, []
        kinds = engine.np.broadcast_to(touch.kinds, touch.pages.shape)
        pages = touch.pages.astype(int) + offset
        last = (kinds & RELEASED) != 0
        # What no process has and is cleared is of the guest's free pages, whichever.
        cleared = (guest.at[pages] == NOWHERE) & ((kinds & (WRITTEN | ZERO)) == (WRITTEN | ZERO))
        cleared &= ~engine.np.broadcast_to(touch.work, pages.shape)
        first = last & (((kinds & (READ | WRITTEN)) == 0) | cleared)
        for part in theirs(touch, offset):
            yield partial(self.part, number, part)
        # What is touched and released is touched before it is.
        turns = [*pages[first].tolist(), *pages[~first].tolist(), *pages[last & ~first].tolist()]
        assert self.turns[number] == turns
        self.whole[number] = touch

    def part(self, number, theirs, after):
        self.waits.append(0.0)
        assert math.isclose(after, sum(self.waited_for[number]), rel_tol=1e-9, abs_tol=1e-3)
        result = theirs(after)
        assert math.isclose(result, self.waits.pop(), rel_tol=1e-9, abs_tol=1e-3)
        self.waited_for[number].append(result)
        return result

    def guest_bring_in_and_use(self, theirs, guest, touch, after):
        lost = guest.counts.out_of_memory
        result = theirs(touch, after)
        self.used(guest, touch.pages.tolist(), touch.kinds, touch.contents, guest.counts.out_of_memory - lost)
        return result

    def used(self, guest, pages, kinds, contents, lost):
        """Pages hold what was written, all but so many that found no memory."""
        holds = self.holds[guest.number]
        self.turns[guest.number] += pages
        for i, page in enumerate(pages):
            is_now = int(guest.held[page])
            if not kinds[i] & WRITTEN:
                continue
            if kinds[i] & ZERO:
                content = 0
            elif contents is not None:
                content = int(contents[i])
            else:
                content = is_now
                assert lost or is_now not in self.seen
                self.seen.add(is_now)
            if is_now != content:
                assert lost
                assert is_now == holds[page]
                lost -= 1
            holds[page] = is_now

    def guest_release(self, theirs, guest, pages):
        theirs(pages)
        number = guest.number
        self.turns[number] += pages.tolist()
        for page in pages.tolist():
            assert guest.at[page] == NOWHERE
            if page not in self.files[number]:
                self.holds[number][page] = 0
                self.paged[number].discard(page)

    def guest_use(self, guest, theirs, _in_frames, now, pages, kinds, *others, offset, contents, fresh):
        """What needs nothing is touched, if that is all of it."""
        number = guest.number
        programs = (pages.astype(int) + offset).tolist()
        own = guest.at[programs].tolist()
        kinds = engine.np.broadcast_to(kinds, pages.shape)
        there = (page != NOWHERE and self.ready(number, page, kinds[i] & WRITTEN) for i, page in enumerate(own))
        done = all(there) and not (kinds & RELEASED).any()
        assert theirs(now, pages, kinds.copy(), *others, offset=offset, contents=contents, fresh=fresh) == done
        if done:
            self.used(guest, programs, kinds, contents, 0)
        for i, page in enumerate(own if done else ()):
            if kinds[i] & WRITTEN:
                self.where[number][page].content = int(guest.held[pages[i] + offset])
        return done

    def guest_bring_in(self, theirs, guest, pages, *args):
        number, after = guest.number, args[-1]
        self.waits.append(0.0)
        paged_in, was_read, reads = guest.counts.paged_in, guest.counts.read, self.queues[number]
        # The disk is asked after memory was found, and before the host is.
        result = theirs(pages, *args)
        brought = [page for page in pages.tolist() if guest.at[page] != NOWHERE]
        paged = [page for page in brought if page in self.paged[number]]
        files = [page for page in brought if page in self.files[number]]
        assert guest.counts.paged_in - paged_in == len(paged)
        assert guest.counts.read - was_read == len(files)
        self.paged[number] -= set(brought)
        waited = self.waits.pop()
        found = self.found_memory
        if paged or files:
            waited += reads.reads(len(paged) + len(files), after + found)
        assert math.isclose(result, waited, rel_tol=1e-9, abs_tol=1e-3), (result, waited)
        self.waits[-1] += result
        return result

    def guest_allocate(self, theirs, guest, count, holder=None, but=None, after=0.0):
        number = guest.number
        self.waits.append(0.0)
        messages = guest.driver.messages if guest.driver is not None else 0
        own, waited = theirs(count, holder, but, after)
        pages = set(own.tolist())
        assert pages <= self.idle[number], "a page was handed out that was not free"
        assert len(pages) == len(own) <= count
        self.idle[number] -= pages
        if len(own) < count:
            assert not self.idle[number]
        pleas = self.waits.pop()
        if guest.driver is None or guest.driver.messages == messages:
            assert math.isclose(waited, pleas, rel_tol=1e-9, abs_tol=1e-3)
        self.found_memory = waited
        if holder is None:
            self.waits[-1] += waited
        return own, waited

    def guest_reclaim(self, theirs, guest, count, but, after):
        number, out, dropped = guest.number, guest.counts.paged_out, guest.counts.dropped
        before = guest.at.copy()
        self.waits.append(0.0)
        got, waited = theirs(count, but, after)
        gone = engine.np.flatnonzero((before != NOWHERE) & (guest.at == NOWHERE)).tolist()
        assert got == len(gone)
        assert but is None or not set(gone) & set(but.tolist()), "a page went that was being touched"
        anonymous = {page for page in gone if page not in self.files[number]}
        assert guest.counts.paged_out - out == len(anonymous)
        assert guest.counts.dropped - dropped == len(gone) - len(anonymous)
        self.paged[number] |= anonymous
        stall = self.waits.pop()
        stall += self.queues[number].writes(len(anonymous), after + stall)
        assert math.isclose(waited, stall, rel_tol=1e-9, abs_tol=1e-3)
        self.waits[-1] += waited
        return got, waited

    def guest_give_back(self, theirs, guest, own):
        pages = set(own.tolist())
        assert len(pages) == len(own)
        assert not pages & self.idle[guest.number], "a page was freed twice"
        self.idle[guest.number] |= pages
        theirs(own)

    def guest_restart(self, theirs, guest, *args):
        theirs(*args)
        number = guest.number
        self.idle[number] = set(range(guest.pages))
        self.paged[number].clear()
        for page in self.holds[number]:
            if page not in self.files[number]:
                self.holds[number][page] = 0

    # Whether the engine agrees.

    def check_pages(self, number, pages):
        guest, frames = self.host.guests[number], self.host.frames
        for page in pages:
            lies, place, frame = self.where[number].get(page), guest.pmap.place[page], guest.pmap.frame[page]
            if lies is None:
                assert (place, frame) == (Place.ABSENT, -1)
            elif isinstance(lies, OnDisk):
                assert (place, frame, guest.pmap.stored[page]) == (Place.SWAPPED, -1, lies.content)
            else:
                assert place == (Place.SHARED if lies.read_only else Place.RESIDENT)
                assert frames.content[frame] == lies.content
                assert frames.users[frame] == len(lies.users)

    def check(self):
        """What costs little, after each event."""
        host, counts = self.host, self.host.counts
        assert host.frames.free == self.free
        assert (counts.first_touches, counts.swapped_out, counts.swapped_in, counts.copied, counts.pops) == (
            self.first_touches, self.swapped_out, self.swapped_in, self.copied, self.pops
        )  # fmt: skip
        assert counts.waited_for_frames == self.waited
        assert [guest.pmap.popped for guest in host.guests] == self.popped
        assert [guest.free for guest in host.guests] == [len(idle) for idle in self.idle]
        assert host.state == self.state
        assert math.isclose(host.disk.busy_until, self.queue.free_at, rel_tol=1e-9, abs_tol=1e-3)
        assert (host.disk.read, host.disk.written) == (self.queue.read, self.queue.written)
        if host.sharing is not None:
            assert (host.sharing.counts.merged, host.sharing.counts.broken) == (self.merged, self.broken)

    def check_all(self):
        """All of it."""
        self.check()
        frames = {}
        for number, guest in enumerate(self.host.guests):
            self.check_pages(number, range(guest.pages))
            assert set(guest.pmap.ballooned.nonzero()[0].tolist()) == self.ballooned[number]
            assert set(guest.free_list[: guest.free].tolist()) == self.idle[number]
            assert set(guest.pmap.ever.nonzero()[0].tolist()) == self.ever[number]
            assert guest.held.tolist() == [self.holds[number][page] for page in range(len(guest.at))]
            assert set(guest.paged_out.nonzero()[0].tolist()) == self.paged[number]
            for page, own in enumerate(guest.at.tolist()):
                if own != NOWHERE:
                    lies = self.where[number].get(own)
                    assert (0 if lies is None else lies.content) == self.holds[number][page]
            assert math.isclose(guest.allocated(), self.allocated(number), abs_tol=1e-6)
            assert math.isclose(guest.disk.busy_until, self.queues[number].free_at, rel_tol=1e-9, abs_tol=1e-3)
            for page, lies in self.where[number].items():
                if isinstance(lies, Frame):
                    frames.setdefault(int(guest.pmap.frame[page]), set()).add(id(lies))
        assert all(len(ids) == 1 for ids in frames.values())
        assert len(frames) == self.count - self.free
