"""The gateway: policies around every model call, and their composition."""

from __future__ import annotations

from assay.gateway.attempt import DEFAULT_DEADLINE_S, Target
from assay.gateway.compose import compose, gateway
from assay.gateway.limits import Meters
from assay.gateway.route import Healths, Route

__all__ = ["DEFAULT_DEADLINE_S", "Healths", "Meters", "Route", "Target", "compose", "gateway"]
