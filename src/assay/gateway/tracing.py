"""The policy that records: each call becomes one span. Spans and their storing live in assay.trace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from time import perf_counter
from typing import NamedTuple

import msgspec

from assay.errors import AssayError, BadResponse, ProviderError
from assay.gateway.cache import NOTHING_PAID
from assay.gateway.tries import Failed
from assay.trace import Span, Tracer, current_span, error_type, new_span_id, new_trace_id
from assay.types import (
    JSON,
    Assembly,
    Completed,
    Context,
    Cost,
    Event,
    FunctionTool,
    Handler,
    Notes,
    Policy,
    Request,
    Response,
    SchemaOutput,
    Started,
    Usage,
    WireData,
    closing,
    replace,
)
from assay.types.timing import Timing, ongoing


def trace(tracer: Tracer, *, capture_content: bool = True, guarded: Collection[str] = ()) -> Policy:
    """Records each call as one span, with its messages, whatever its end: answered, failed or abandoned.

    Of a call to one of the models in `guarded` nothing is recorded that a guard has not let pass.
    """

    def policy(handler: Handler) -> Handler:
        async def traced(request: Request) -> AsyncIterator[Event]:
            context = request.context
            trace_id, parent_id = context.trace_id, context.parent_span_id
            if trace_id is None:
                trace_id, parent_id = current_span() or (new_trace_id(), None)
            span_id = new_span_id()
            notes = context.notes or Notes(_withheld(request) if request.model in guarded else None)
            inner = replace(
                request,
                context=replace(context, trace_id=trace_id, parent_span_id=span_id, notes=notes),
            )
            assembly = Assembly()
            began = passed = False
            first_ns: int | None = None
            failure: BaseException | None = None
            times = ongoing()
            start_ns = tracer.clock_ns()
            try:
                async with closing(handler(inner)) as events:
                    async for event in events:
                        if not began:
                            began, passed = True, type(event) is WireData
                        try:
                            assembly.add(event)
                        except ValueError as error:
                            raise BadResponse(f"The provider broke the order of a reply: {error}") from error
                        if first_ns is None and _says_something(event):
                            first_ns = tracer.clock_ns()
                        yield event
            except BaseException as error:
                # Who leaves after the end of the reply has had all of it.
                failure = None if _left(error) and assembly.complete else error
                raise
            finally:
                times.over = True
                end_ns = tracer.clock_ns()
                seen = _Seen(assembly.response(), failure, start_ns, first_ns, end_ns, began, passed)
                tracer.record(_span(inner, seen, times, capture_content and not notes.silent, parent_id))

        return traced

    return policy


class _Seen(NamedTuple):
    """One call as it went: its reply as far as it came, how it ended, and when what was (ns since 1970).

    `passed`: the upstream's own bytes went to the caller.
    """

    response: Response
    failure: BaseException | None
    start_ns: int
    first_ns: int | None
    end_ns: int
    began: bool
    passed: bool


def _span(request: Request, seen: _Seen, times: Timing, content: bool, parent_id: str | None) -> Span:
    """The span of a call; `content` says whether what was said is recorded."""
    context, response, failure = request.context, seen.response, seen.failure
    assert context.notes is not None  # see `trace`
    assert context.trace_id is not None
    assert context.parent_span_id is not None  # the span itself, above whatever is called within
    notes, shown = context.notes, context.notes.shown or request
    attributes = _attributes(shown, response, seen.start_ns, seen.first_ns, content) | notes.attributes
    for phase, seconds in times.phases(perf_counter()).items():
        attributes[f"assay.time.{phase}_s"] = round(seconds, 6)
    known = response.cost or notes.cost
    asked = times.asked is not None
    return Span(
        context.trace_id,
        context.parent_span_id,
        f"{request.operation} {request.model[:200]}",
        request.operation,
        seen.start_ns,
        seen.end_ns,
        parent_id,
        "ok" if failure is None else "error",
        None if failure is None else _error_type(failure),
        None if failure is None else _error_message(failure, content),
        response.provider or None,
        request.model[:200],
        context.purpose,
        context.prompt,
        context.key_id,
        _usage(request, response) or notes.usage,
        known or _cost_of_failure(failure, begun=seen.began, asked=asked),
        shown.messages if content else (),
        tuple(choice.message for choice in response.choices) if content else (),
        attributes,
        _told_id(context, response.id, passed=seen.passed),
    )


def failed_tries(tracer: Tracer, *, capture_content: bool = True) -> Callable[[Failed], None]:
    """Records each try that another one followed as a span below the call's: it may have been billed, too."""

    def record(failed: Failed) -> None:
        context, target, error = failed.request.context, failed.target, failed.error
        tracer.record(
            Span(
                context.trace_id or new_trace_id(),
                new_span_id(),
                f"try {target.name}",
                "try",
                failed.start_ns,
                failed.end_ns,
                context.parent_span_id,
                "error",
                error_type(error),
                _error_message(error, capture_content),
                target.upstream.name,
                target.name,
                context.purpose,
                context.prompt,
                context.key_id,
                None,
                (context.notes and context.notes.cost) or _cost_of_failure(error, begun=False, asked=True),
            )
        )

    return record


def _told_id(context: Context, upstream_id: str, *, passed: bool) -> str | None:
    """The id by which the caller may come back; the upstream's own where its bytes went through."""
    if context.keep is None:
        return None
    return upstream_id or None if passed or context.response_id is None else context.response_id


def _withheld(request: Request) -> Request:
    """The request without what it says."""
    context = replace(request.context, variables=None, keep=None)
    return replace(request, messages=(), tools=(), context=context)


def _says_something(event: Event) -> bool:
    if type(event) is WireData:
        return any(map(_says_something, event.events))
    return not isinstance(event, Started | Completed)


def _left(error: BaseException) -> bool:
    """Whether the caller went away."""
    return isinstance(error, GeneratorExit | asyncio.CancelledError)


def _error_type(failure: BaseException) -> str:
    return "cancelled" if _left(failure) else error_type(failure)


def _error_message(failure: BaseException, capture_content: bool) -> str | None:
    if _left(failure):
        return "The caller went away before the reply was complete."
    # An upstream's error may quote what was said.
    return str(failure)[:2000] if capture_content or not isinstance(failure, ProviderError) else None


def _cost_of_failure(failure: BaseException | None, *, begun: bool, asked: bool) -> Cost | None:
    """A call that was refused before it was answered, or ended before an upstream was asked, costs nothing.

    Of any other nobody knows.
    """
    if failure is None:
        return Cost("unknown", None, "no cost was computed")
    if not begun and not asked:
        return None
    if not begun and isinstance(failure, AssayError) and (400 <= failure.status < 500 or _refused(failure)):
        return None
    return Cost("unknown", None, "the call did not complete")


def _refused(failure: AssayError) -> bool:
    """Whether the provider answered with an error's status: none bills for that."""
    status = failure.upstream_status if isinstance(failure, ProviderError) else None
    return status is not None and status >= 400


def _usage(request: Request, response: Response) -> Usage | None:
    """What was read and written for this call: nothing, where tokens were counted or a cache answered."""
    if request.operation == "count_tokens" or _free(response):
        return None
    return response.usage


def _free(response: Response) -> bool:
    """Whether another call has paid for the reply."""
    cached = response.cached
    return cached is not None and cached.state == "hit" and response.cost == NOTHING_PAID


def _attributes(
    request: Request, response: Response, start_ns: int, first_ns: int | None, capture_content: bool
) -> dict[str, JSON]:
    sampling, context = request.sampling, request.context
    counted = response.usage.tokens_in if request.operation == "count_tokens" and response.usage else None
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
        "assay.counted_tokens": counted,
        "assay.dimensions": request.dimensions,
        "assay.dropped": response.dropped or None,
        "assay.stream": request.stream or None,
        "assay.repeat": context.repeat or None,
        "assay.prompt.variables": context.variables if capture_content else None,
        "assay.response.echo": context.keep if capture_content else None,
        "assay.tags": context.tags or None,
        "assay.cache": None if response.cached is None else response.cached.state,
        "assay.cache.age_s": response.cached.age_s or None if response.cached else None,
        "assay.cache.similarity": response.cached.similarity if response.cached else None,
        "assay.cache.usage": msgspec.to_builtins(response.usage) if _free(response) else None,
        "assay.time_to_first_token_s": None if first_ns is None else round((first_ns - start_ns) / 1e9, 6),
    }
    if request.tools and capture_content:
        found["gen_ai.tool.definitions"] = [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in request.tools
            if isinstance(tool, FunctionTool)
        ]
    return {name: value for name, value in found.items() if value is not None}
