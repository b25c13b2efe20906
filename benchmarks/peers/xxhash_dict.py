"""What one would write in five minutes: count equal pages by their XXH3-64, unverified. Prints pages and contents."""

import sys

import xxhash

PAGE = 4096
seen: dict[int, int] = {}
pages = 0
for path in sys.argv[1:]:
    with open(path, "rb", buffering=1 << 20) as file:  # noqa: PTH123
        while page := file.read(PAGE):
            pages += 1
            digest = xxhash.xxh3_64_intdigest(page)
            seen[digest] = seen.get(digest, 0) + 1
shared = sum(count for count in seen.values() if count > 1)
kept = sum(count > 1 for count in seen.values())
print(pages, len(seen), shared - kept)
