"""The policy of keys: a call that was made with one reaches only the models that it may use.

Who the caller is was settled before (assay.server); calls from this process have no key and may all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from assay.errors import Forbidden
from assay.keys import Key
from assay.types import Event, Handler, Policy, Request

_SHOWN = 20


def keys(find: Callable[[str], Key]) -> Policy:
    """`find` gives the key of an id, and raises AuthError for one that ended meanwhile."""

    def policy(handler: Handler) -> Handler:
        def allowed(request: Request) -> AsyncIterator[Event]:
            key_id = request.context.key_id
            if key_id is not None:
                check_model(find(key_id), request.model)
            return handler(request)

        return allowed

    return policy


def check_model(key: Key, model: str) -> None:
    """Raises Forbidden, naming what the key may use, also for a model that there is not."""
    if key.allows(model):
        return
    may = ", ".join(key.models[:_SHOWN]) + (", ..." if len(key.models) > _SHOWN else "")
    raise Forbidden(
        f"The key {key.name!r} may not use the model {model[:100]!r}; it may use: {may}",
        param="model",
        code="model_not_allowed",
    )
