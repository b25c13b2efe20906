"""Scans in virtual time: memory that changes, paces, a policy, and the course of what it saves.

    dumps, a write model, a trace
      -> history.py    a History: the pages at the start, numbered contents, writes in order of time;
                       model.py and trace.py: writes that are made up, or were recorded
      -> memory.py     a Memory: the history as it goes by, as bytes or as fingerprints, under a frame table
      -> pace.py       how many pages are looked at in how much time; costs.py: what each look costs
      -> course.py     the loop, and what it leaves: saved pages over time, outcomes, copy-on-write breaks
      -> entry.py      all of it in one call, ``run``

>>> import pageshare
>>> course = pageshare.replay.run({"a": b"same" * 1024, "b": b"same" * 1024}, policy="ksm", pages_to_scan=100)
>>> course.last.saved, course.last.possible, course.reached[0.9].visits
(1, 1, 4)
"""

from pageshare.replay.checks import SettingError
from pageshare.replay.costs import Costs, measure
from pageshare.replay.course import Course, PolicyError, Reached, Sample
from pageshare.replay.entry import run
from pageshare.replay.model import WriteModel
from pageshare.replay.trace import TraceError

__all__ = [
    "Costs",
    "Course",
    "PolicyError",
    "Reached",
    "Sample",
    "SettingError",
    "TraceError",
    "WriteModel",
    "measure",
    "run",
]
