"""Tasks: what an experiment tries, from an example's input to an answer. How outputs are judged: score."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

import anyio
import anyio.to_thread
import msgspec

from assay.errors import PromptError
from assay.evals.calling import ask
from assay.evals.code import code_identity, short_name
from assay.evals.dataset import plain
from assay.prompts import PromptTemplate
from assay.types import JSON, Context, Cost, Handler, Request, Response, Sampling, Usage, Value, replace

TaskFunction: TypeAlias = Callable[..., Any | Awaitable[Any]]
UNREPORTED = Cost("unknown", None, "the task does not report what its calls cost")


class Answer(Value):
    """What a task gave for one input. `output` is text or JSON; `finish` why the model stopped."""

    output: JSON
    usage: Usage | None = None
    cost: Cost | None = None
    finish: str | None = None


@runtime_checkable
class Task(Protocol):
    """`identity` is all that an answer depends on, as JSON: an experiment resumes only with the same."""

    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> JSON: ...

    async def run(self, input: JSON, context: Context) -> Answer:  # noqa: A002  (the example's own word)
        """The answer to one input; calls that it makes carry `context`.

        May raise anything: that is then this example's result.
        """
        ...


@dataclass(frozen=True)
class PromptTask:
    """A prompt at one version, rendered with each input and sent to a model.

    `model` and the fields set in `sampling` go before what the prompt asks for. An input that is an object
    gives the variables; those that the prompt does not take stay unused, so that versions with different
    variables can share a dataset. Any other input is the value of the prompt's only variable.
    """

    prompt: PromptTemplate
    call: Handler = field(repr=False, compare=False)
    model: str | None = None
    sampling: Sampling = Sampling()

    def __post_init__(self) -> None:
        if self._model is None:
            raise PromptError(
                f"{self.prompt.ref} names no model; add 'model:' to its front matter, or pass one"
            )

    @property
    def name(self) -> str:
        return self.prompt.ref

    @property
    def identity(self) -> JSON:
        return {
            "task": "prompt",
            "prompt": self.prompt.name,
            "digest": self.prompt.digest,
            "model": self._model,
            "sampling": msgspec.to_builtins(self._sampling),
        }

    async def run(self, input: JSON, context: Context) -> Answer:  # noqa: A002
        request = self.request(input)
        response = await ask(self.call, replace(request, context=replace(context, prompt=self.prompt.ref)))
        return answer_of(response)

    def request(self, input: JSON) -> Request:  # noqa: A002
        """The call for one input. Raises PromptError for an input that the prompt cannot be rendered with."""
        asked = self.prompt.request(self._variables(input), model=self._model)
        return replace(asked, sampling=self._sampling)

    @property
    def _model(self) -> str | None:
        return self.model or self.prompt.model

    @property
    def _sampling(self) -> Sampling:
        return replace(self.prompt.sampling, **_set_fields(self.sampling))

    def _variables(self, given: JSON) -> Mapping[str, JSON]:
        inputs = self.prompt.inputs
        if isinstance(given, dict):
            return given if inputs.open else {name: given[name] for name in given if name in inputs.known}
        names = inputs.required or inputs.known
        if len(names) != 1:
            wanted = ", ".join(names) or "no variables"
            raise PromptError(
                f"{self.prompt.ref} takes {wanted}; give the example's input as an object with these names"
            )
        return {names[0]: given}


@dataclass(frozen=True)
class FunctionTask:
    """A Python function as a task; see `function_task`."""

    name: str
    identity: JSON
    call: TaskFunction = field(repr=False, compare=False)
    takes_context: bool = False

    async def run(self, input: JSON, context: Context) -> Answer:  # noqa: A002
        more = {"context": context} if self.takes_context else {}
        if inspect.iscoroutinefunction(self.call):
            found = await self.call(input, **more)
        else:
            # A limiter of its own: the experiment bounds how many run at once.
            found = await anyio.to_thread.run_sync(
                lambda: self.call(input, **more), abandon_on_cancel=True, limiter=anyio.CapacityLimiter(1)
            )
            if inspect.isawaitable(found):
                found = await found
        match found:
            case Answer():
                return replace(found, output=plain(found.output, "output"))
            case Response():
                return answer_of(found)
            case _:
                return Answer(plain(found, "output"), cost=UNREPORTED)


def function_task(call: TaskFunction, *, name: str | None = None, identity: JSON = None) -> FunctionTask:
    """Any function of an input as a task; if it has a parameter `context`, it is given the calls' Context.

    It may be async; a plain one runs in a thread. It gives text or JSON, a Response, or an Answer, which can
    report usage and cost. `identity` says what its answers depend on where the function's source and the
    values that it carries do not: the version of a service, the digest of an index.
    """
    parameters = inspect.signature(call).parameters
    return FunctionTask(
        name or short_name(call),
        {"task": "python", **code_identity(call), **({} if identity is None else {"identity": identity})},
        call,
        "context" in parameters,
    )


def answer_of(response: Response) -> Answer:
    """The first choice's text, with usage, cost and the reason why the model stopped."""
    cost = response.cost or Cost("unknown", None, "the call reported no cost")
    return Answer(response.text, response.usage, cost, response.choices[0].finish.reason)


def _set_fields(sampling: Sampling) -> dict[str, Any]:
    unset = Sampling()
    fields = msgspec.structs.asdict(sampling)
    return {name: value for name, value in fields.items() if value != getattr(unset, name)}
