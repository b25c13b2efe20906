"""Page hashes into a table, and SQL over it, by duckdb or polars. Prints pages and reclaimed.

    python sql_hashes.py duckdb|polars FILE..
"""

import array
import importlib
import sys

import numpy as np
import xxhash

PAGE = 4096
SQL = "select count(*), count(*) - count(distinct hash) from pages"

engine = importlib.import_module(sys.argv[1])
hashes = array.array("Q")
for path in sys.argv[2:]:
    with open(path, "rb", buffering=1 << 20) as file:  # noqa: PTH123
        while page := file.read(PAGE):
            hashes.append(xxhash.xxh3_64_intdigest(page))
if sys.argv[1] == "polars":
    pages = engine.DataFrame({"hash": engine.Series(hashes, dtype=engine.UInt64)})
    row = engine.SQLContext(pages=pages).execute(SQL, eager=True).row(0)
else:
    pages = {"hash": np.frombuffer(hashes, np.uint64)}
    row = engine.sql(SQL).fetchall()[0]
print(*row)
