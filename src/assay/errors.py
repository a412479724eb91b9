"""The error tree, with data on it. Messages are written for the reader's next action.

    AssayError
      ConfigError            a file or setting is wrong         (PromptError, DatasetError)
      RequestError           the caller's to mend               (AuthError > Forbidden, BudgetExceeded,
                             GuardRejected, UnsupportedFeature, NotFound, Conflict, DeadlineExceeded,
                             ContextExceeded)
      ProviderError          the upstream's                     (RateLimited > LimitReached, ProviderTimeout,
                             ProviderUnavailable, BadResponse)
      StorageError           the store's
      ToolError              a tool's

Retry reads `retryable` and `retry_after_s`; the server reads `status`; nobody walks a chain of types.
"""

from __future__ import annotations


class AssayError(Exception):
    """The root. `status` is the HTTP status that a server answers with; `code` a stable word for programs."""

    status: int = 500
    code: str = "internal_error"
    retryable: bool = False
    retry_after_s: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigError(AssayError):
    """A setting or file is wrong: says where, what, and what is allowed."""

    code = "config_error"


class PromptError(ConfigError):
    """A `.prompt` file does not parse, or a prompt cannot be rendered with these variables."""

    status = 400
    code = "prompt_error"


class DatasetError(ConfigError):
    """A dataset does not parse: file and line are named."""

    status = 400
    code = "dataset_error"


class RequestError(AssayError):
    """The caller can mend it. `param` names the field, where one is to blame."""

    status = 400
    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        if code is not None:
            self.code = code


class AuthError(RequestError):
    """The caller is not known."""

    status = 401
    code = "invalid_api_key"


class Forbidden(AuthError):
    """The caller may not do this: use that model, or call from a web page of another site."""

    status = 403
    code = "forbidden"


class NotFound(RequestError):
    """A model, prompt, dataset, trace or experiment that is not there."""

    status = 404
    code = "not_found"


class Conflict(RequestError):
    """Somebody else holds it, or changed it first: says who."""

    status = 409
    code = "conflict"


class BudgetExceeded(RequestError):
    """The call would cost more than is left to spend."""

    status = 402
    code = "budget_exceeded"


class GuardRejected(RequestError):
    """A rule on content refused the request or its reply."""

    code = "content_filter"


class UnsupportedFeature(RequestError):
    """The chosen model or provider cannot carry a part of the request."""

    code = "unsupported_feature"


class ContextExceeded(RequestError):
    """The request is longer than the model's context window."""

    code = "context_length_exceeded"


class DeadlineExceeded(RequestError):
    """The call's own deadline passed."""

    status = 504
    code = "deadline_exceeded"


class ProviderError(AssayError):
    """The upstream failed: `upstream_status` is its HTTP status, if any; `body` its words, cut short."""

    status = 502
    code = "provider_error"

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        upstream_status: int | None = None,
        retryable: bool | None = None,
        retry_after_s: float | None = None,
        body: str | None = None,
    ) -> None:
        super().__init__(message)
        self.provider = provider
        self.upstream_status = upstream_status
        self.body = body
        self.retry_after_s = retry_after_s
        if retryable is not None:
            self.retryable = retryable


class RateLimited(ProviderError):
    """Too many calls: `retry_after_s` says when to come again, where the upstream told it."""

    status = 429
    code = "rate_limit_exceeded"
    retryable = True


class LimitReached(RateLimited):
    """A limit that was set here, of a model or a key; no upstream was asked."""


class ProviderTimeout(ProviderError):
    """The upstream did not answer in time."""

    status = 504
    code = "provider_timeout"
    retryable = True


class ProviderUnavailable(ProviderError):
    """Cannot be reached, or says that it is overloaded or broken."""

    status = 503
    code = "provider_unavailable"
    retryable = True


class BadResponse(ProviderError):
    """The upstream answered with what its dialect does not allow, or stopped in the middle."""

    code = "bad_response"
    retryable = True


class StorageError(AssayError):
    """The store cannot be read or written."""

    status = 503
    code = "storage_error"


class ToolError(AssayError):
    """A tool failed."""

    code = "tool_error"
