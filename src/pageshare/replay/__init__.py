"""Scans in virtual time: memory that changes, paces, a policy, and the course of what it saves.

    dumps, a write model, a trace
      -> history.py    a History: the pages at the start, numbered contents, writes in order of time;
                       model.py and trace.py: writes that are made up, or were recorded
      -> memory.py     a Memory: the history as it goes by, as bytes or as fingerprints, under a frame table
      -> pace.py       how many pages are looked at in how much time; costs.py: what each look costs
      -> course.py     the loop, and what it leaves: saved pages over time, outcomes, copy-on-write breaks
"""
