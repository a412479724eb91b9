"""Assay: gateway, prompts, evaluation, traces and cost control. One record, one loop.

    import assay

    with assay.Client() as client:                       # or: async with assay.open() as app:
        print(client.call("local", "What is an assay?").text)

Everything here is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.app import App
    from assay.app import open_app as open  # noqa: A004
    from assay.client import Client
    from assay.errors import AssayError
    from assay.types import Message, Request, Response, Sampling, assistant, system, user

__version__ = "0.1.0"

_PUBLIC = {
    "App": "assay.app",
    "AssayError": "assay.errors",
    "Client": "assay.client",
    "Message": "assay.types",
    "Request": "assay.types",
    "Response": "assay.types",
    "Sampling": "assay.types",
    "assistant": "assay.types",
    "open": "assay.app",
    "system": "assay.types",
    "user": "assay.types",
}

__all__ = [
    "App",
    "AssayError",
    "Client",
    "Message",
    "Request",
    "Response",
    "Sampling",
    "assistant",
    "open",
    "system",
    "user",
]


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module 'assay' has no attribute {name!r}")
    value = getattr(import_module(module), "open_app" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
