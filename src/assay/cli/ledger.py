"""`assay doctor --ledger`: does the ledger of spending say what the spans say?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from assay.cli.doctor import Finding
    from assay.gateway.spending.terms import Sums
    from assay.trace.costs import Charged


def check_ledger(stores: Any) -> list[Finding]:
    """Compares, for each key and day, what was settled with the costs of its spans.

    Spans that were deleted, or lost by a crash, are missed by the spans and not by the ledger: that is a
    warning. A ledger that has less than the spans has failed.
    """
    from assay.cli.doctor import Finding
    from assay.gateway.spending.terms import Sums
    from assay.trace.costs import Charged, charged

    written: dict[tuple[str, str], Sums] = {}
    for line, sums in stores.ledger.spent().items():
        written.setdefault((line.key_id, line.day), Sums()).add(sums)
    spans = charged(stores.store)
    findings, agreed = [], 0
    for key_id, day in sorted(written.keys() | spans.keys()):
        ledger, told = written.get((key_id, day), Sums()), spans.get((key_id, day), Charged(0, 0, 0))
        if (ledger.settled, ledger.calls) == (told.pico, told.calls):
            agreed += 1
        else:
            less = ledger.settled < told.pico or ledger.calls < told.calls
            status: Literal["failed", "warning"] = "failed" if less else "warning"
            findings.append(Finding(f"ledger of {key_id} on {day}", status, _told(ledger, told, less=less)))
    if not findings:
        return [Finding("ledger", "ok", f"agrees with the spans; days of keys that were compared: {agreed}")]
    return findings


def _told(ledger: Sums, told: Charged, *, less: bool) -> str:
    from assay.gateway.spending.terms import usd

    why = (
        "calls of a server that runs were stored between two looks (look again), or are older than the ledger"
        if less
        else "spans were deleted, or a crash took them"
    )
    return (
        f"it has ${usd(ledger.settled)} for {ledger.calls} calls, the spans ${usd(told.pico)} for "
        f"{told.calls}: {why}"
    )
