"""Policies: rules around a call, functions from Handler to Handler. assay.gateway.compose owns their order.

Every policy reads its inner iterator inside `closing`, so that a consumer who goes away ends the call all the
way down, and never yields inside a cancel scope.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from assay.errors import AssayError, BadResponse, DeadlineExceeded
from assay.prices import Pricing
from assay.trace import Span, Tracer, current_span, error_type, new_span_id, new_trace_id
from assay.types import (
    JSON,
    Assembly,
    Completed,
    Cost,
    Ended,
    Event,
    FunctionTool,
    Handler,
    Policy,
    Request,
    Response,
    SchemaOutput,
    Started,
    Usage,
    closing,
    replace,
)


def trace(tracer: Tracer, *, capture_content: bool = True) -> Policy:
    """Records each call as one span, with its messages, whatever its end: answered, failed or abandoned."""

    def policy(handler: Handler) -> Handler:
        async def traced(request: Request) -> AsyncIterator[Event]:
            context = request.context
            trace_id, parent_id = context.trace_id, context.parent_span_id
            if trace_id is None:
                trace_id, parent_id = current_span() or (new_trace_id(), None)
            span_id = new_span_id()
            inner = replace(request, context=replace(context, trace_id=trace_id, parent_span_id=span_id))
            assembly = Assembly()
            first_ns: int | None = None
            failure: BaseException | None = None
            start_ns = tracer.clock_ns()
            try:
                async with closing(handler(inner)) as events:
                    async for event in events:
                        try:
                            assembly.add(event)
                        except ValueError as error:
                            raise BadResponse(f"The provider broke the order of a reply: {error}") from error
                        if first_ns is None and not isinstance(event, Started):
                            first_ns = tracer.clock_ns()
                        yield event
            except BaseException as error:
                failure = error
                raise
            finally:
                response = assembly.response()
                tracer.record(
                    Span(
                        trace_id,
                        span_id,
                        f"chat {request.model}",
                        "chat",
                        start_ns,
                        tracer.clock_ns(),
                        parent_id,
                        "ok" if failure is None else "error",
                        None if failure is None else _error_type(failure),
                        None if failure is None else _error_message(failure),
                        response.provider or None,
                        request.model,
                        context.purpose,
                        context.prompt,
                        context.key_id,
                        response.usage,
                        response.cost or _cost_of_failure(failure),
                        request.messages if capture_content else (),
                        tuple(choice.message for choice in response.choices) if capture_content else (),
                        _attributes(request, response, start_ns, first_ns),
                    )
                )

        return traced

    return policy


def _error_type(failure: BaseException) -> str:
    abandoned = isinstance(failure, GeneratorExit | asyncio.CancelledError)
    return "cancelled" if abandoned else error_type(failure)


def _error_message(failure: BaseException) -> str:
    if isinstance(failure, GeneratorExit | asyncio.CancelledError):
        return "The caller went away before the reply was complete."
    return str(failure)[:2000]


def _cost_of_failure(failure: BaseException | None) -> Cost | None:
    """A call that failed before the upstream was asked costs nothing; of any other nobody knows."""
    if failure is None:
        return Cost("unknown", None, "no cost was computed")
    if isinstance(failure, AssayError) and 400 <= failure.status < 500:
        return None
    return Cost("unknown", None, "the call did not complete")


def _attributes(request: Request, response: Response, start_ns: int, first_ns: int | None) -> dict[str, JSON]:
    sampling, context = request.sampling, request.context
    found: dict[str, JSON] = {
        "gen_ai.request.max_tokens": sampling.max_tokens,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k,
        "gen_ai.request.seed": sampling.seed,
        "gen_ai.request.frequency_penalty": sampling.frequency_penalty,
        "gen_ai.request.presence_penalty": sampling.presence_penalty,
        "gen_ai.request.stop_sequences": sampling.stop or None,
        "gen_ai.request.choice.count": request.choices if request.choices != 1 else None,
        "gen_ai.output.type": "json" if isinstance(request.output, SchemaOutput) else None,
        "gen_ai.response.id": response.id or None,
        "gen_ai.response.model": response.model or None,
        "gen_ai.response.finish_reasons": [choice.finish.reason for choice in response.choices] or None,
        "assay.stream": request.stream or None,
        "assay.repeat": context.repeat or None,
        "assay.prompt.variables": context.variables,
        "assay.tags": context.tags or None,
        "assay.time_to_first_token_s": None if first_ns is None else round((first_ns - start_ns) / 1e9, 6),
    }
    if request.tools:
        found["gen_ai.tool.definitions"] = [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in request.tools
            if isinstance(tool, FunctionTool)
        ]
    return {name: value for name, value in found.items() if value is not None}


def deadline(default_s: float) -> Policy:
    """Ends a call that takes longer than its context's `deadline_s`, or `default_s`, in all."""

    def policy(handler: Handler) -> Handler:
        async def bounded(request: Request) -> AsyncIterator[Event]:
            allowed_s = request.context.deadline_s or default_s
            alarm = _Alarm()
            timer = asyncio.get_running_loop().call_later(allowed_s, alarm.ring)
            try:
                async with closing(handler(request)) as events:
                    while (event := await alarm.guard(events)) is not None:
                        yield event
            except _Rang:
                raise DeadlineExceeded(
                    f"The call took longer than its deadline of {allowed_s:g} s; "
                    f"ask for fewer tokens, or raise deadline_s of the model in assay.toml"
                ) from None
            finally:
                timer.cancel()

        return bounded

    return policy


class _Rang(Exception):
    """The time is over."""


class _Alarm:
    """One timer for a whole call, where a timeout around each event costs ten times as much.

    When it rings it cancels the task that waits for the next event. Between events, when the consumer has the
    task, it only takes a note: nobody else's work is cancelled.
    """

    __slots__ = ("_rang", "_waiting")

    def __init__(self) -> None:
        self._rang = False
        self._waiting: asyncio.Task[object] | None = None

    def ring(self) -> None:
        self._rang = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def guard(self, events: AsyncGenerator[Event, None]) -> Event | None:
        """The next event, None after the last. Raises _Rang when the alarm rings first."""
        if self._rang:
            raise _Rang
        task = self._waiting = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        try:
            return await anext(events, None)
        except asyncio.CancelledError:
            # Somebody else may have cancelled as well, and goes before.
            if self._rung() and task.uncancel() <= cancelling:
                raise _Rang from None
            raise
        finally:
            self._waiting = None

    def _rung(self) -> bool:
        return self._rang


def cost(pricing: Pricing, model: str) -> Policy:
    """Puts the cost beside the usage, on the event that ends the reply. `model` is the upstream's name."""

    def of(answered_as: str, usage: Usage | None) -> Cost:
        # What answered is dated and exact; what was asked for may be an alias that the price list knows.
        found = pricing(answered_as or model, usage)
        return pricing(model, usage) if found.usd is None and answered_as != model else found

    def policy(handler: Handler) -> Handler:
        async def costed(request: Request) -> AsyncIterator[Event]:
            answered_as = ""
            async with closing(handler(request)) as events:
                async for event in events:
                    if isinstance(event, Started):
                        answered_as = event.model
                    elif isinstance(event, Ended):
                        event = replace(event, cost=of(answered_as, event.usage))
                    elif isinstance(event, Completed):
                        reply = event.response
                        event = Completed(replace(reply, cost=of(reply.model, reply.usage)))
                    yield event

        return costed

    return policy


def whole(provider: str) -> Policy:
    """Holds a provider to its word: a reply that stops before its end is an error, and says whose it is."""

    def policy(handler: Handler) -> Handler:
        async def checked(request: Request) -> AsyncIterator[Event]:
            complete = False
            async with closing(handler(request)) as events:
                async for event in events:
                    if isinstance(event, Started):
                        event = replace(event, provider=provider)
                    elif isinstance(event, Completed):
                        event = Completed(replace(event.response, provider=provider))
                        complete = True
                    elif isinstance(event, Ended):
                        complete = True
                    yield event
            if not complete:
                raise BadResponse(
                    f"The provider {provider} ended its reply in the middle; try again", provider=provider
                )

        return checked

    return policy
