"""The gateway: policies around every model call, and their composition."""

from __future__ import annotations

from assay.gateway.attempt import DEFAULT_DEADLINE_S, Route
from assay.gateway.compose import compose, gateway

__all__ = ["DEFAULT_DEADLINE_S", "Route", "compose", "gateway"]
