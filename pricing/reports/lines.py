"""The lines of a report: sums of one group, and the figures that follow from them. Money is nano-dollars."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

from pricing.ledger.rows import House

CONTAINER_ACCOUNTS: Final = (House.BOOT, House.IDLE, House.ADJUSTMENT)
"""What no request caused, in the order in which reports show it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One group. `key` has one value per grouping, "-" where there is none.

    `house_nusd` is what the house paid for the group's requests, of which `overrun_nusd` beyond holds that were cut;
    `boot_nusd`, `idle_nusd` and `adjustment_nusd` its share of container time, in the views that share it, else 0.
    `baseline_nusd` is what the baseline would have been expected to charge. Attempts that `failed` did not answer;
    requests that `fell_back` had more than one attempt. `observed_nusd` of busy, boot and idle rests on container time
    that live signals saw, `estimated_nusd` of busy on no meter. `images`, `clips` and `video_us`, how long the clips
    play, are what came. `schema_kept`, `schema_broken` and `schema_cut` count answers to requests with a JSON schema.
    """

    key: tuple[str, ...]
    requests: int = 0
    served: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0
    charged_nusd: int = 0
    house_nusd: int = 0
    overrun_nusd: int = 0
    boot_nusd: int = 0
    idle_nusd: int = 0
    adjustment_nusd: int = 0
    baseline_nusd: int = 0
    attempts: int = 0
    failed: int = 0
    failed_charged_nusd: int = 0
    failed_house_nusd: int = 0
    fell_back: int = 0
    continued: int = 0
    estimated_nusd: int = 0
    observed_nusd: int = 0
    schema_kept: int = 0
    schema_broken: int = 0
    schema_cut: int = 0
    images: int = 0
    clips: int = 0
    video_us: int = 0

    @property
    def busy_nusd(self) -> int:
        return self.charged_nusd + self.house_nusd

    @property
    def total_nusd(self) -> int:
        """All that the view puts on this line; the lines and what stands apart are the ledger."""
        return self.busy_nusd + self.boot_nusd + self.idle_nusd + self.adjustment_nusd

    @property
    def saving_nusd(self) -> int | None:
        """Baseline minus busy cost; None where nothing was served, so that there is nothing to compare."""
        return self.baseline_nusd - self.busy_nusd if self.baseline_nusd else None

    @property
    def saving_share(self) -> float | None:
        """The saving as a share of the baseline."""
        return None if self.saving_nusd is None else self.saving_nusd / self.baseline_nusd

    @property
    def request_nusd(self) -> float | None:
        """Total cost of one request that was served, what failed ones cost included; None where none was."""
        return self.total_nusd / self.served if self.served else None

    @property
    def thousand_requests_nusd(self) -> float | None:
        """Total cost of 1,000 requests that were served."""
        return None if self.request_nusd is None else 1_000 * self.request_nusd

    @property
    def million_tokens_nusd(self) -> float | None:
        """Total cost of a million output tokens; None where there are none, or where the group made other things."""
        alone = self.completion_tokens and not (self.images or self.clips)
        return 1e6 * self.total_nusd / self.completion_tokens if alone else None

    @property
    def image_nusd(self) -> float | None:
        """Busy cost of one picture; None where there is none, or where the group made other things too."""
        return self.busy_nusd / self.images if self.images and not (self.clips or self.completion_tokens) else None

    @property
    def video_s_nusd(self) -> float | None:
        """Busy cost of one second of video; None as for pictures."""
        alone = self.video_us and not (self.images or self.completion_tokens)
        return self.busy_nusd * 1e6 / self.video_us if alone else None

    @property
    def schema_compliance(self) -> float | None:
        """Share of the answers that could be judged which kept to their schema; None where there was none."""
        judged = self.schema_kept + self.schema_broken
        return self.schema_kept / judged if judged else None

    @property
    def fell_back_share(self) -> float | None:
        """Share of requests with more than one attempt."""
        return self.fell_back / self.requests if self.requests else None

    @property
    def observed_share(self) -> float | None:
        """Share of busy, boot and idle that rests on observed container time; None where nothing was spent.

        Adjustments, of either sign, correct what the others say, and are in neither part.
        """
        whole_nusd = self.busy_nusd + self.boot_nusd + self.idle_nusd
        return min(1.0, self.observed_nusd / whole_nusd) if whole_nusd else None  # shares are whole nano-dollars

    @property
    def estimated_share(self) -> float | None:
        """Share of the busy cost that no meter measured; None where nothing was spent."""
        return self.estimated_nusd / self.busy_nusd if self.busy_nusd else None

    def plus(self, other: Line) -> Line:
        """The sum of both, under this one's key."""
        return Line(self.key, *(getattr(self, name) + getattr(other, name) for name in SUMMED))

    def with_share(self, account: str, amount_nusd: int, observed_nusd: int) -> Line:
        """With more of a container account's time, of which so much was observed."""
        name = _SHARES[House(account)]
        seen_nusd = 0 if account == House.ADJUSTMENT else observed_nusd
        shares = {name: getattr(self, name) + amount_nusd, "observed_nusd": self.observed_nusd + seen_nusd}
        return replace(self, **shares)


def saving_word(saving: float) -> str:
    """What a saving is called wherever one is shown, beside its absolute value: below zero it is none."""
    return "Saved" if saving >= 0 else "Lost"


SUMMED: Final = tuple(field.name for field in fields(Line) if field.name != "key")
_SHARES: Final = {House.BOOT: "boot_nusd", House.IDLE: "idle_nusd", House.ADJUSTMENT: "adjustment_nusd"}


@dataclass(frozen=True, slots=True)
class HouseLine:
    """Container time that stands apart, by house account and the groupings that apply to it.

    `observed_nusd` of the amount is of rows that rest on containers that the platform listed, and on nothing else.
    """

    account: str
    key: tuple[str, ...]
    amount_nusd: int
    duration_us: int
    observed_nusd: int = 0

    @property
    def observed_share(self) -> float | None:
        """Share of the amount that was observed; None where the amount is 0, or is of both signs."""
        within = 0 <= self.observed_nusd <= self.amount_nusd or self.amount_nusd <= self.observed_nusd <= 0
        return self.observed_nusd / self.amount_nusd if self.amount_nusd and within else None
