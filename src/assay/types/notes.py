"""What the policies of one call tell about it, for whoever records it. The one value here that changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assay.types.calls import Cost, Request, Usage
    from assay.types.content import JSON


class Notes:
    """One call's notes, made by the policy that records and carried by the call's context.

    `shown` is recorded in the place of what the caller wrote. `usage` and `cost` are what a reply took that
    was refused, so that its caller never gets it. `attributes` go into the span. A `silent` call is recorded
    without content.
    """

    __slots__ = ("attributes", "cost", "shown", "silent", "usage")

    def __init__(self, shown: Request | None = None, *, silent: bool = False) -> None:
        self.shown = shown
        self.silent = silent
        self.attributes: dict[str, JSON] = {}
        self.usage: Usage | None = None
        self.cost: Cost | None = None
