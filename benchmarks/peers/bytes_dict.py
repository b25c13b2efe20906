"""The count by the pages' bytes themselves, in a dict: exact, and as large as the dump. Prints pages and reclaimed."""

import sys

PAGE = 4096
seen: dict[bytes, int] = {}
for path in sys.argv[1:]:
    with open(path, "rb", buffering=1 << 20) as file:  # noqa: PTH123
        while page := file.read(PAGE):
            seen[page] = seen.get(page, 0) + 1
pages = sum(seen.values())
print(pages, pages - len(seen))
