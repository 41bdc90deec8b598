"""What would cost too much or take too long: filters that judge a candidate by its expected money and times."""

from __future__ import annotations

from policies.choose.ask import Ask
from policies.choose.decision import Candidate, Numbers, Reason
from pricing.budgets.store import Room


class OverBudget:
    """A cap has less left than the request's expected charge.

    Example: `caps: [{name: day, amount_usd: 5, window: 24h, scope: "tag:x"}]` with $0.0010 left, and an expected charge
    of $0.0024.
    """

    reason = Reason.BUDGET

    def applies(self, ask: Ask) -> bool:
        return ask.room.left_nusd is not None or bool(ask.pool_rooms)

    def refuse(self, ask: Ask, candidate: Candidate) -> Numbers | None:
        charge = candidate.expected_charge_nusd
        if ask.room.left_nusd is not None and charge > ask.room.left_nusd:
            return _short(charge, ask.room)
        if not ask.pool_rooms:
            return None
        own = ask.pool_rooms.get(candidate.pool.name)
        return _short(charge, own) if own and own.left_nusd is not None and charge > own.left_nusd else None


def _short(charge_nusd: int, room: Room) -> Numbers:
    return {"needed_nusd": charge_nusd, "left_nusd": room.left_nusd or 0, "cap": room.cap or ""}


class ChainCost:
    """The attempts of this request would cost more than its limit, counting the boot that this pool would cause.

    Example: `chain_cost_limit_usd: 0.05`, $0.03 spent on a first attempt, and a cold pool whose boot costs $0.04.
    """

    reason = Reason.CHAIN_COST

    def applies(self, ask: Ask) -> bool:
        return ask.chain_left_nusd is not None

    def refuse(self, ask: Ask, candidate: Candidate) -> Numbers | None:
        needed = candidate.expected_charge_nusd + candidate.boot_nusd
        left = ask.chain_left_nusd
        if left is None or needed <= left:
            return None
        if candidate.pool.name == ask.booting and candidate.expected_charge_nusd <= left:  # its boot is paid already
            return None
        return {"needed_nusd": needed, "boot_nusd": candidate.boot_nusd, "left_nusd": left}


class TooLate:
    """The first token cannot come before the deadline.

    Example: `first_byte_deadline_s: 30`, and a cold pool that boots in 40 s. Last, so that what it refuses could serve
    if it were warm.
    """

    reason = Reason.DEADLINE

    def applies(self, ask: Ask) -> bool:
        return True

    def refuse(self, ask: Ask, candidate: Candidate) -> Numbers | None:
        if candidate.wait_s + candidate.ttft_s <= ask.requirements.deadline_s:
            return None
        return {
            "wait_s": round(candidate.wait_s, 3),
            "ttft_s": round(candidate.ttft_s, 3),
            "deadline_s": round(ask.requirements.deadline_s, 3),
        }
