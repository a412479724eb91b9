"""Durable runs: one append-only log of steps, under a lease. What a step does is its caller's business."""

from __future__ import annotations

from assay.runs.lease import Lease, Owner
from assay.runs.log import Run, RunLog, Status, Step

__all__ = ["Lease", "Owner", "Run", "RunLog", "Status", "Step"]
