"""Failures in a row: a mistake in the set-up, or results? Nothing is run or stored here."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from assay.errors import AssayError, ConfigError, ProviderError

Step = TypeVar("Step")


class Streak(Generic[Step]):
    """Holds failures back until it is clear what they are.

    A model that is not configured, weights that are missing, a function with a typo: the first `limit`
    results are all the same error. A provider that is down: `limit` in a row are the same retryable error,
    at any time. Neither says anything about the system on trial, so none of them becomes a result: `check`
    raises the error, and the same run goes on later. As soon as anything else happens, what was held is a
    result.
    """

    LIMIT: Final = 5

    def __init__(self, source: str, limit: int = LIMIT) -> None:
        self.source = source
        self.limit = limit
        self._held: list[Step] = []
        self._error: Exception | None = None
        self._varied = False
        self._stopped = False

    def admit(self, step: Step, error: Exception | None) -> list[Step]:
        """Takes one result, with its error if it failed; gives back the results that can be stored now."""
        if error is not None and self._goes_on(error):
            self._held.append(step)
            self._error = error
            self._stopped = self._stopped or len(self._held) >= self.limit
            return []
        if self._stopped:
            return [step]
        self._varied = True
        released = self.release()
        if error is None or not _retryable(error):
            return [*released, step]
        self._held, self._error = [step], error
        return released

    def release(self) -> list[Step]:
        """What is still held, as results; nothing when the run was stopped because of it."""
        if self._stopped:
            return []
        released, self._held, self._error = self._held, [], None
        return released

    def check(self) -> None:
        """Raises the error once it came `limit` times in a row."""
        if not self._stopped or self._error is None:
            return
        if isinstance(self._error, AssayError):
            raise self._error
        raise ConfigError(
            f"{self.source} failed alike on {len(self._held)} examples in a row, so this is not about the "
            f"examples: {type(self._error).__name__}: {self._error}"
        ) from self._error

    def _goes_on(self, error: Exception) -> bool:
        if self._varied and not _retryable(error):
            return False
        return self._error is None or _alike(error, self._error)


def _retryable(error: Exception) -> bool:
    return isinstance(error, AssayError) and error.retryable


def _alike(one: Exception, other: Exception) -> bool:
    """The same mistake: messages of providers may differ by an id or a time."""
    return type(one) is type(other) and (isinstance(one, ProviderError) or str(one) == str(other))
