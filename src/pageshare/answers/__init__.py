"""Questions that an operator or a developer asks of a scan: one module each, with frozen dataclasses of plain numbers.

They are computed from an ``Inventory`` (which content is where), some from the pages' bytes too. Page counts are in
pages of the scan's ``page_size``. ``render/answers/`` has a module of the same name for each: its tables and charts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pageshare.answers.contents import Contents
    from pageshare.answers.groups import Groups
    from pageshare.answers.isolation import Isolation
    from pageshare.answers.joining import Joining
    from pageshare.answers.ksm import Ksm
    from pageshare.answers.matrix import Matrix
    from pageshare.answers.memory_map import MemoryMap
    from pageshare.answers.page_sizes import PageSizes
    from pageshare.answers.placement import Placement
    from pageshare.answers.runs import Runs
    from pageshare.answers.similar import Similar


@dataclass(frozen=True)
class Answers:
    """What was asked, and is answered: None is what was not. Fields are named as the keys of JSON, in the order of
    views: what an operator asks before what a developer does."""

    joining: Joining | None = None
    ksm: Ksm | None = None
    isolation: Isolation | None = None
    page_sizes: PageSizes | None = None
    placement: Placement | None = None
    similar: Similar | None = None
    matrix: Matrix | None = None
    contents: Contents | None = None
    memory_map: MemoryMap | None = None
    groups: Groups | None = None
    runs: Runs | None = None

    def to_dict(self) -> dict[str, Any]:
        """Those that are there, as JSON has them."""
        answers = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: asdict(answer) for name, answer in answers if answer is not None}
