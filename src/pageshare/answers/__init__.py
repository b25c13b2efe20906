"""Questions that an operator or a developer asks of a scan: one module each, with frozen dataclasses of plain numbers.

They are computed from an ``Inventory`` (which content is where), some from the pages' bytes too. Page counts are in
pages of the scan's ``page_size``. ``render/answers/`` has a module of the same name for each: its tables and charts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pageshare.answers.isolation import Isolation
    from pageshare.answers.joining import Joining
    from pageshare.answers.matrix import Matrix
    from pageshare.answers.placement import Placement


@dataclass(frozen=True)
class Answers:
    """What was asked, and is answered: None is what was not. Fields are named as the keys of JSON."""

    matrix: Matrix | None = None
    joining: Joining | None = None
    isolation: Isolation | None = None
    placement: Placement | None = None

    def to_dict(self) -> dict[str, Any]:
        """Those that are there, as JSON has them."""
        answers = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: asdict(answer) for name, answer in answers if answer is not None}
