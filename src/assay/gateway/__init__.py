"""The gateway: policies around every model call, and their composition."""

from __future__ import annotations

from assay.gateway.attempt import DEFAULT_DEADLINE_S, Target
from assay.gateway.compose import compose, gateway
from assay.gateway.route import Route

__all__ = ["DEFAULT_DEADLINE_S", "Route", "Target", "compose", "gateway"]
