"""Memory images of any size with an exactly known truth beside them.

    spec.py      what is to be made: sizes, fractions, popularity, runs
    plan.py      which content each page of each image gets, as a number
    content.py   the bytes of a content number
    truth.py     what a full scan must count, from the numbers alone
    make.py      the files

>>> import tempfile
>>> from pageshare import scan, synth
>>> with tempfile.TemporaryDirectory() as folder:
...     truth = synth.make(synth.Spec(images=2, size=1 << 20), folder)
...     report = scan([str(path) for path in truth.paths])
>>> report.pages.reclaimed == truth.pages.reclaimed
True
"""

from pageshare.synth.content import Contents
from pageshare.synth.make import make
from pageshare.synth.plan import Plan
from pageshare.synth.spec import Alike, Common, Counts, Runs, Spec, SpecError, Zipf, parse_size
from pageshare.synth.truth import Truth, truth_of

__all__ = [
    "Alike",
    "Common",
    "Contents",
    "Counts",
    "Plan",
    "Runs",
    "Spec",
    "SpecError",
    "Truth",
    "Zipf",
    "make",
    "parse_size",
    "truth_of",
]
