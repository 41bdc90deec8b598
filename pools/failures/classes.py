"""The failure classes: an attempt ends in an answer or in exactly one of them.

    SluiceError
    └── AttemptFailed       one attempt ended without an answer; carries its class and evidence

This module holds the words and, in `classify.py` beside it, stands the one place that maps drivers' exceptions and
engines' bodies into them. What each class means for the next candidate, the breaker and the bill is one table in
`policies/fallback.py`.
"""

from __future__ import annotations

from enum import StrEnum

from pricing.errors import SluiceError


class FailureClass(StrEnum):
    CONTEXT_OVERFLOW = "context_overflow"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    COLD = "cold"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    MISCONFIGURED = "misconfigured"
    BAD_OUTPUT = "bad_output"
    CLIENT_ERROR = "client_error"
    CLIENT_GONE = "client_gone"


class AttemptFailed(SluiceError):
    """One attempt failed.

    `detail` is a short text for operators, free of prompt text. `status` is the upstream's HTTP status or None,
    `body` the upstream's error body where it is passed on to the client (`client_error` that an engine gave words to),
    `retry_after_s` what the upstream asked for, `by_client_deadline` is True where a timeout was the client's
    own shorter deadline (which never opens a breaker), `feature` names what a misconfigured pool lacks,
    `engine_died` is True where the engine's process ended under this request (a strike on the largest shape in flight).
    """

    def __init__(
        self,
        failure: FailureClass,
        detail: str,
        *,
        status: int | None = None,
        body: bytes | None = None,
        retry_after_s: float | None = None,
        by_client_deadline: bool = False,
        certain: bool = True,
        feature: str | None = None,
        engine_died: bool = False,
    ) -> None:
        super().__init__(f"{failure}: {detail}")
        self.failure = failure
        self.detail = detail
        self.status = status
        self.body = body
        self.retry_after_s = retry_after_s
        self.by_client_deadline = by_client_deadline
        self.certain = certain
        self.feature = feature
        self.engine_died = engine_died

    @property
    def never_ran(self) -> bool:
        """An error status came instead of an answer, or no connection: whoever bills by what was done bills nothing."""
        if self.status is not None:
            return self.status >= 400
        return self.failure in (FailureClass.UNAVAILABLE, FailureClass.MISCONFIGURED) and not self.engine_died

    @property
    def pool_at_fault(self) -> bool:
        """Nothing that a request asks for makes a pool fail so: its engine died, or there was no answer at all. An
        error status and a timeout may be of the request's own making.
        """
        return self.failure is FailureClass.UNAVAILABLE and (self.engine_died or self.status is None)
