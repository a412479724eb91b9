"""Sixteen faults of upstreams, and what becomes of the calls that meet them."""
