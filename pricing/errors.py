"""The errors of the project start here.

    SluiceError                     everything this project raises on purpose
    ├── FileProblem                 a file that people edit is wrong: says file:line and the remedy
    ├── PricingError
    │   ├── UnknownPrice            no price for a GPU on a date; names the file to edit
    │   ├── UnknownGpu              a name that is no GPU we know, or one that fits several
    │   ├── BudgetExceeded          a cap has no room; carries the cap, what is needed, what is left
    │   ├── RateLimited             a rate limit has no room; carries which, and when to come back
    │   ├── StoreUnavailable        the budget store cannot be reached
    │   └── HoldEnded               a hold was extended or settled after it had ended
    ├── pools.failures.classes.AttemptFailed
    └── policies.errors.PolicyError

Messages say what to do next. They never hold prompt text, keys or secrets.
"""

from __future__ import annotations

from dataclasses import dataclass


class SluiceError(Exception):
    """Base of every error that the project raises on purpose."""


class FileProblem(SluiceError):
    """One or more things wrong in files that people edit, each with its place.

    `problems` holds one line per problem: "path:line: what is wrong; what to do".
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class PricingError(SluiceError):
    """Base of the errors about prices, budgets and the ledger."""


class UnknownPrice(PricingError):
    """A GPU or resource has no price in a book; the message names the file to edit."""


class UnknownGpu(PricingError, ValueError):
    """A GPU's name is not known or fits several; a ValueError too, so that file checks show its message."""


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why one cap refused: amounts in nano-dollars, `frees_at_us` is when enough leaves the window.

    `frees_at_us` is None when waiting does not help (the request alone is larger than the cap).
    """

    cap: str
    scope: str
    window: str
    amount_nusd: int
    spent_nusd: int
    held_nusd: int
    needed_nusd: int
    frees_at_us: int | None

    @property
    def left_nusd(self) -> int:
        return max(0, self.amount_nusd - self.spent_nusd - self.held_nusd)


class BudgetExceeded(PricingError):
    """A hold was refused. Nothing was reserved in any scope (all or nothing)."""

    def __init__(self, shortfall: Shortfall, message: str) -> None:
        self.shortfall = shortfall
        super().__init__(message)


class RateLimited(PricingError):
    """A request was refused by a rate limit. Nothing was reserved or counted (all or nothing).

    `scope` is whose limit (`tenant:acme`), `dimension` one of `requests`, `tokens`, `in_flight`; `limit` is per minute,
    or at once; `remaining` of it are left. `retry_after_s` is when it would fit, None where nobody can tell
    (`in_flight`) or it never will.
    """

    def __init__(
        self, scope: str, dimension: str, limit: int, retry_after_s: float | None, message: str, remaining: int = 0
    ) -> None:
        self.scope = scope
        self.dimension = dimension
        self.limit = limit
        self.remaining = remaining
        self.retry_after_s = retry_after_s
        super().__init__(message)


class StoreUnavailable(PricingError):
    """The budget store cannot be reached; `on_store_down` decides what happens."""


class HoldEnded(PricingError):
    """A hold was touched after it was settled, released or expired."""
