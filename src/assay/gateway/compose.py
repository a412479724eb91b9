"""The way of every call, composed in one place, read top to bottom."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import reduce

from assay.errors import NotFound
from assay.gateway.attempt import attempt
from assay.gateway.budgets import budgets, further_tries
from assay.gateway.cache import Alike, Cache, cached
from assay.gateway.ceiling import Counting
from assay.gateway.guards.guard import Posts, Tally, guards, hides
from assay.gateway.keys import keys
from assay.gateway.limits import LimitsOf, Meters, of_keys, of_model
from assay.gateway.route import Healths, Route
from assay.gateway.shadow import Shadows, shadow
from assay.gateway.spending import Purses
from assay.gateway.tracing import failed_tries, trace
from assay.gateway.tries import Again, tries
from assay.keys import Keyring
from assay.trace import Tracer
from assay.types import Event, Handler, Policy, Request


def compose(rules: Sequence[Policy], end: Handler) -> Handler:
    """The rules around `end`, the first one outermost."""
    return reduce(lambda handler, rule: rule(handler), reversed(rules), end)


def gateway(
    routes: Mapping[str, Route],
    tracer: Tracer,
    *,
    capture_content: bool = True,
    healths: Healths | None = None,
    meters: Meters | None = None,
    keyring: Keyring | None = None,
    purses: Purses | None = None,
    counting: Counting | None = None,
    cache: Cache | None = None,
    posts: Posts | None = None,
    tally: Tally | None = None,
    shadows: Shadows | None = None,
) -> Handler:
    """The one Handler that the server, the SDK and every evaluation call."""

    def whole(request: Request) -> AsyncIterator[Event]:
        return composed(request)

    posted = {} if posts is None else posts(whole)
    counted = tally or Tally()
    known = healths or Healths()
    metered = Meters(known.clock) if meters is None else meters
    hidden = {name for name, found in posted.items() if hides(found)}
    rules = [trace(tracer, capture_content=capture_content, guarded=hidden)]
    again: Again | None = None
    if keyring is not None:
        rules.append(keys(keyring.find))
        if purses is not None:
            rules.append(budgets(purses, keyring.find, routes, counting or Counting()))
            again = further_tries(purses, keyring.find)
        rules.append(of_keys(_limits_by(keyring), metered))
    note = failed_tries(tracer, capture_content=capture_content)

    def guarded(route: Route) -> Handler:
        found = posted.get(route.name)
        return guards(found, counted)(followed(route)) if found else followed(route)

    def followed(route: Route) -> Handler:
        if shadows is None or route.shadow is None:
            return answered(route)
        return shadow(route.shadow, route.name, shadows, whole)(answered(route))

    def answered(route: Route) -> Handler:
        if cache is None or route.cache is None:
            return end(route)
        return cached(route.name, route.cache, cache, _alike(route, cache, whole))(end(route))

    def end(route: Route) -> Handler:
        # A model alone is called once and its errors are its caller's: streams would feel a further layer.
        if len(route.targets) == 1 and not route.retries:
            target = route.targets[0]
            return of_model(target.name, target.limits, metered, attempt(target))
        return tries(route, known, note=note, clock_ns=tracer.clock_ns, meters=metered, again=again)

    composed = compose(rules, by_model({name: guarded(route) for name, route in routes.items()}))
    return composed


def _alike(route: Route, cache: Cache, whole: Handler) -> Alike | None:
    """Where replies to questions that are alike are looked for; its embeddings are calls of the gateway."""
    if route.cache is None or route.cache.semantic is None:
        return None
    # numpy takes memory that other gateways need not spend.
    from assay.gateway.semantic import Semantic

    return Semantic(route.name, route.cache.semantic, cache.replies, whole)


def _limits_by(keyring: Keyring) -> LimitsOf:
    return lambda key_id: keyring.find(key_id).limits


def by_model(handlers: Mapping[str, Handler]) -> Handler:
    """Finds the handler by the request's model. Raises NotFound naming the nearest."""

    def routed(request: Request) -> AsyncIterator[Event]:
        handler = handlers.get(request.model)
        if handler is not None:
            return handler(request)
        asked = request.model[:100]
        near = difflib.get_close_matches(asked, handlers, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise NotFound(
            f"Model {asked!r} is not configured; {hint}add it under [models] in assay.toml, "
            f"or run 'assay models' to see what there is",
            param="model",
            code="model_not_found",
        )

    return routed
