"""One model call, from a Request to a whole Response. Policies around the call are the gateway's."""

from __future__ import annotations

from assay.errors import BadResponse
from assay.types import Assembly, Handler, Request, Response, closing


async def ask(call: Handler, request: Request) -> Response:
    """The whole reply. Raises what the call raises, and BadResponse for a reply that is cut off or empty."""
    assembly = Assembly()
    async with closing(call(request)) as events:
        async for event in events:
            try:
                assembly.add(event)
            except ValueError as error:
                raise BadResponse(
                    f"The reply of {request.model} breaks the order of events: {error}"
                ) from error
    response = assembly.response()
    if not assembly.complete or (request.operation == "chat" and not response.choices):
        raise BadResponse(f"The reply of {request.model} stopped before it was complete")
    return response
