"""The answers: experiments, one module each, which the pages of docs/lab are made of.

Each has ``answer(seeds, quick=, tell=)``, which runs it all, and ``render.lab_answers`` a module of the same name.
"""

from __future__ import annotations

ANSWERS = {
    "figures": "Figures 2, 6, 7 and 8 of the paper: how near does the simulation come to what was published?",
    "give-back": "How do ballooned pages come back, and what goes wrong without each safeguard?",
    "sampling": "Does statistical sampling stand up against marking every page?",
    "polls": "Is a one-second balloon poll too slow?",
    "clearing": "Zeroing and collecting threads: how far is each estimator misled, and what sees through them?",
    "misses": "What would more memory save? Curves of misses by a part of the pages, and what collectors make of them.",
    "together": "Sharing, ballooning and swapping together: what scan rate is worth its CPU?",
}
"""What each is asked."""
