"""What one would write in five minutes: count equal pages by their XXH3-64, unverified. Prints pages and reclaimed."""

import sys

import xxhash

PAGE = 4096
seen: dict[int, int] = {}
for path in sys.argv[1:]:
    with open(path, "rb", buffering=1 << 20) as file:  # noqa: PTH123
        while page := file.read(PAGE):
            digest = xxhash.xxh3_64_intdigest(page)
            seen[digest] = seen.get(digest, 0) + 1
pages = sum(seen.values())
print(pages, pages - len(seen))
