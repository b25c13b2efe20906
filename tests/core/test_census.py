"""The census, in place and streamed, against a dict of page bytes: contents made to be hard, any number of threads."""

import threading
import time

import numpy as np
import pytest

import pageshare
from oracle import census as oracle
from pageshare import core
from pageshare.space import PageSpace

SIZES = (256, 320, 512, 4096)


@pytest.fixture(autouse=True)
def _threads_at_any_size(monkeypatch):
    monkeypatch.setattr("pageshare.core._census.SMALLEST_SHARE", 1)


def lowest(owners, domains, page_size):
    """For each page the first one of its domain with the same bytes, and for each domain its first page of zeros."""
    first, canonical, zeros = {}, [], {}
    for pages, domain in zip(owners, domains, strict=True):
        for page in pages.reshape(-1, page_size):
            canonical.append(first.setdefault((domain, page.tobytes()), len(canonical)))
            if not page.any():
                zeros.setdefault(domain, canonical[-1])
    return canonical, [zeros.get(domain, core.NO_PAGE) for domain in sorted(set(domains))]


def check(owners, page_size=4096, domains=None, **options):
    """A census of these owners (uint8 arrays) finds what the dict does; gives the census."""
    domains = domains or [0] * len(owners)
    images = [(str(i), [pageshare.images.image_of_buffer(pages, str(i))]) for i, pages in enumerate(owners)]
    space = PageSpace(images, page_size=page_size, domains=[str(domain) for domain in domains])
    found = pageshare.census(space, **options)
    canonical, zeros = lowest(owners, domains, page_size)
    assert found.canonical.tolist() == canonical
    assert found.zeros.tolist() == zeros
    named = {str(i): [page.tobytes() for page in pages.reshape(-1, page_size)] for i, pages in enumerate(owners)}
    truth = oracle(named, {str(i): domain for i, domain in enumerate(domains)}, page_size)
    tally = found.tally
    assert tally.zero == truth["pages"]["zero"]
    assert (tally.shared, tally.kept) == (truth["nonzero"]["shared"], truth["nonzero"]["kept"])
    for mine, expected in zip(tally.owners, truth["owners"], strict=True):
        assert (mine.zero, mine.alone_shared) == (expected["pages"]["zero"], expected["nonzero"]["shared"])
        assert mine.alone_kept == expected["nonzero"]["kept"]
        assert mine.unique + mine.shared == expected["pages"]["known"] - mine.zero
    return found


def hard_pages(rng, page_size, count):
    """Pages of few contents, many alike in all but a few bytes, some zero or nearly so."""
    contents = rng.integers(0, 256, (int(rng.integers(1, 200)), page_size), dtype=np.uint8)
    alike = int(rng.integers(0, len(contents) + 1))
    contents[:alike] = contents[0]
    contents[np.arange(alike), rng.integers(0, page_size, alike)] += 1
    nearly = int(rng.integers(0, len(contents) + 1))
    contents[-nearly:] *= rng.random((len(contents[-nearly:]), page_size)) < 1 / page_size
    return contents[rng.integers(0, len(contents), count)]


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("how", ["in place", "streamed", "streamed in little memory"])
def test_any_pages(seed, how):
    rng = np.random.default_rng(seed)
    page_size = SIZES[seed % len(SIZES)]
    pages = hard_pages(rng, page_size, int(rng.integers(1, 2500)))
    cuts = np.sort(rng.integers(0, len(pages) + 1, rng.integers(0, 4)))
    owners = [part for part in np.split(pages, cuts) if len(part)]
    domains = rng.integers(0, 3, len(owners)).tolist() if seed % 3 == 0 else [0] * len(owners)
    domains = [sorted(set(domains)).index(domain) for domain in domains]
    # Names of domains are numbered as they appear.
    domains = [list(dict.fromkeys(domains)).index(domain) for domain in domains]
    check(
        owners,
        page_size,
        domains,
        seed=seed,
        threads=int(rng.integers(1, 5)),
        hash_bits=int(rng.choice([0, 1, 3, 20, 64, 64])),
        hold_bytes={"in place": None, "streamed": 1 << 30}.get(how, page_size * int(rng.integers(0, 9))),
    )


@pytest.mark.parametrize("kernel", core.kernels())
def test_every_kernel(kernel):
    rng = np.random.default_rng(1)
    for page_size in SIZES:
        assert check([hard_pages(rng, page_size, 700)], page_size, kernel=kernel).kernel == kernel


def all_agree_in_the_samples(count):
    """All distinct, but alike in the first line and the last quarter."""
    pages = np.full((count, 4096), 7, np.uint8)
    pages[:, 1000:1004] = np.arange(count, dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    return pages


def differ_in_the_last_bytes(count):
    pages = np.full((count, 4096), 7, np.uint8)
    pages[:, -4:] = np.arange(count, dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    return pages


def nearly_zero(count):
    pages = differ_in_the_last_bytes(count)
    pages[:, :-4] = 0
    return pages


WORST = {
    "all agree in the samples": all_agree_in_the_samples,
    "distinct in the last bytes": differ_in_the_last_bytes,
    "distinct in the last bytes, each twice": lambda count: differ_in_the_last_bytes(count // 2)[np.arange(count) // 2],
    "agreeing, a hundred contents": lambda count: all_agree_in_the_samples(100)[np.arange(count) % 100],
    "zero but for the last bytes": nearly_zero,
    "every page the same": lambda count: np.full((count, 4096), 7, np.uint8),
    "every second page the same": lambda count: all_agree_in_the_samples(count) * (np.arange(count) % 2)[:, None]
    + (1 - np.arange(count, dtype=np.uint8) % 2)[:, None],
    "all zero": lambda count: np.zeros((count, 4096), np.uint8),
    "all unique": lambda count: np.random.default_rng(1).integers(0, 256, (count, 4096), dtype=np.uint8),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", WORST)
def test_contents_made_to_be_slow(name, threads):
    """Exact; and no page is hashed more than once, nor compared more often than by the sample and by the hash."""
    pages = WORST[name](6000).astype(np.uint8)
    stats = check([pages], threads=threads).stats
    assert stats.rounds <= 2
    assert stats.hashes <= len(pages)
    assert stats.compares <= 2.2 * len(pages)
    assert stats.zero_tests <= len(pages)


def test_the_result_depends_on_neither_seed_nor_threads_nor_kernel():
    pages = hard_pages(np.random.default_rng(5), 4096, 5000)
    found = [
        pageshare.census(pages, seed=seed, threads=threads, kernel=kernel).canonical
        for seed, threads, kernel in [(1, 1, None), (2, 4, None), (3, 2, "scalar"), (None, 3, None)]
    ]
    assert all((each == found[0]).all() for each in found)


def test_few_pages_are_looked_at_by_one_thread(monkeypatch):
    monkeypatch.setattr("pageshare.core._census.SMALLEST_SHARE", 100 * 4096)
    pages = np.ones((299, 4096), np.uint8)
    assert [pageshare.census(pages[:n], threads=8).stats.threads for n in (1, 199, 200, 299)] == [1, 1, 2, 2]


def test_no_pages():
    found = pageshare.census({})
    assert (found.canonical.size, found.tally.shared, found.tally.owners) == (0, 0, ())


def test_memory_is_within_the_budget():
    pages = np.zeros((1 << 17, 256), np.uint8)
    pages[:, :4] = np.arange(len(pages), dtype=np.uint32).view(np.uint8).reshape(-1, 4)
    space = PageSpace.of(pages, page_size=256)
    assert pageshare.census(space).stats.bytes <= 16 * len(pages)
    held = 1 << 20
    assert pageshare.census(space, hold_bytes=held).stats.bytes <= 16 * len(pages) + held + (1 << 19)


def readings_needed(canonical, slots):
    """How often a file must be read by the rule of csrc/stream.c: hold what comes first while there is room."""
    size = {head: canonical.count(head) for head in set(canonical)}
    left = {head for head, pages in size.items() if pages > 1}
    back, readings = True, 1
    while left:
        held, skipped = {}, set()
        for page in range(len(canonical) - 1, -1, -1) if back else range(len(canonical)):
            head = canonical[page]
            if head not in left or head in skipped:
                continue
            if head not in held and len(held) >= slots:
                skipped.add(head)
                continue
            held[head] = held.get(head, size[head]) - 1
            if not held[head]:
                del held[head]
                left.remove(head)
        back, readings = not back, readings + 1
    return readings


@pytest.mark.parametrize("slots", [1, 2, 7, 40, 1000])
def test_how_often_a_file_is_read(slots):
    rng = np.random.default_rng(slots)
    pages = rng.integers(1, 256, (120, 512), dtype=np.uint8)[rng.integers(0, 120, 1000)]
    control = core.Control()
    space = PageSpace.of(pages, page_size=512)
    found = pageshare.census(space, hold_bytes=slots * 512, control=control)
    assert found.stats.readings == readings_needed(found.canonical.tolist(), slots)
    assert control.reading == (found.stats.readings, found.stats.readings)
    assert control.done == found.stats.readings * 1000


@pytest.mark.parametrize("hold_bytes", [None, 256, 1 << 20])
def test_equal_pages_of_two_domains_whose_keys_collide(hold_bytes):
    owners = [np.full((1, 256), 7, np.uint8) for _ in range(5)]
    for domains in ([0, 1], [0, 1, 1, 0], [0, 0, 1], [0, 1, 2, 0, 1]):
        check(owners[: len(domains)], 256, domains, hash_bits=0, hold_bytes=hold_bytes)


def test_it_can_be_stopped():
    control = core.Control()
    control.stop()
    pages = np.ones((1000, 4096), np.uint8)
    for options in ({"threads": 1}, {"threads": 3}, {"hold_bytes": 4096}):
        with pytest.raises(core.Stopped):
            pageshare.census(pages, control=control, **options)


def test_it_can_be_stopped_while_it_finds_out_how_many_readings_it_takes():
    """A hundred thousand readings, for a content at a time, are more than can be gone through."""
    pages = np.zeros((200_000, 256), np.uint8)
    pages[:, :4] = (np.arange(200_000, dtype=np.uint32) % 100_000 + 1).view(np.uint8).reshape(-1, 4)
    control = core.Control()
    watch = threading.Thread(target=lambda: (time.sleep(0.5), control.stop()))
    watch.start()
    started = time.monotonic()
    with pytest.raises(core.Stopped):
        pageshare.census(PageSpace.of(pages, page_size=256), hold_bytes=256, control=control)
    watch.join()
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("hold_bytes", [None, 1 << 20])
def test_stopped_while_it_counts_it_gives_no_figures(hold_bytes):
    """It is stopped when all that is counted for progress is done; which may be too late, but is never half."""
    pages = np.full((500_000, 256), 7, np.uint8)
    space = PageSpace.of(pages, page_size=256)
    for _ in range(5):
        control, over = core.Control(), threading.Event()

        def stop(control=control, over=over):
            times = 1 if hold_bytes is None else 2
            while control.done < len(pages) * times and not over.is_set():
                time.sleep(0)
            control.stop()

        watch = threading.Thread(target=stop)
        watch.start()
        try:
            tally = pageshare.census(space, threads=2, hold_bytes=hold_bytes, control=control).tally
        except core.Stopped:
            pass
        else:
            assert (tally.shared, tally.kept, tally.owners[0].alone_shared) == (len(pages), 1, len(pages))
        finally:
            over.set()
            watch.join()


def test_progress_is_counted_to_the_end():
    control = core.Control()
    pages = hard_pages(np.random.default_rng(3), 512, 5001)
    pageshare.census(PageSpace.of(pages, page_size=512), threads=2, control=control)
    assert control.done == 5001
