"""Spending: what keys and teams may spend, have spent and have reserved. The policy is .budgets, above."""

from __future__ import annotations

from assay.gateway.spending.ledger import Ledger
from assay.gateway.spending.purses import Purses
from assay.gateway.spending.terms import Account, Budget, Exceeded, Per, Standing

__all__ = ["Account", "Budget", "Exceeded", "Ledger", "Per", "Purses", "Standing"]
