"""What one request is expected to cost: the provider's bill, the tenant's charge, and what both are made of.

Two numbers, not one. The *bill* is what the provider's invoice grows by: a request may cause a boot, and it keeps a
container alive for its service and for the scale-down window after it. The *charge* is what its tenant pays: its share
of the busy time, by the meter's rule. `decide` sorts by the first and sizes holds by the second.

    expected bill = rate × (P(boot) × boot seconds + added alive seconds), each second as far as it is billed

    cold T4, $0.59/h; 4 s of service, window 60 s, boot 40 s:   40 + 4 + 60        = 104 s, $0.0170
    warm L40S, $1.95/h, last used 20 s ago; same service:       4 + 60 - (60 - 20) =  24 s, $0.0130

Everything takes plain numbers and runs for every pool of every request, so each function is a few operations.
Rates are nano-dollars per hour, durations seconds, `alive` counts containers ready or booting.
"""

from __future__ import annotations

from pricing.money import S_PER_HOUR

_US_PER_S = 1_000_000
_US_PER_HOUR = S_PER_HOUR * _US_PER_S


def cost_up_nusd(rate_nusd_per_h: int, seconds: float) -> int:
    """Cost of an expected duration at a rate, rounded up: an expectation that sizes a hold must not be too small."""
    return -(-rate_nusd_per_h * int(seconds * _US_PER_S) // _US_PER_HOUR)


def boots_one(alive: int, in_flight: int, target_concurrency: int, max_containers: int) -> bool:
    """Whether one more request makes the autoscaler start a container.

    It does when the pool is asleep, and when every container alive already has `target_concurrency` requests and
    one more container is allowed. A pool that is booting is not asked twice.
    """
    return alive == 0 or (in_flight >= alive * target_concurrency and alive < max_containers)


def added_alive_s(
    service_s: float,
    scaledown_window_s: float,
    *,
    alive: int,
    in_flight: int,
    target_concurrency: int,
    idle_s: float | None = None,
    min_containers: int = 0,
    max_containers: int = 1,
    bills_idle: bool = True,
) -> float:
    """Seconds by which one more request lengthens the pool's billed container time; the boot itself is not in it.

    - A container that it starts lives for the service and the whole window after it.
    - In a container that serves q others it only lengthens the tail: the last of q + 1 equal jobs at random phases
      ends service/(q + 1) later than the last of q; the window after it was to be paid anyway.
    - An idle container would have lived for the rest of its window, which is taken off. `idle_s` is how long it has
      been idle, 0 for one still booting; None where nobody knows, then half the window.
    - Containers that `min_containers` keeps alive are paid for anyway: nothing is added.
    - Where idle time is not billed, nothing is paid for anyway: there is no window, and what is added is service.
    """
    if not bills_idle:
        scaledown_window_s, idle_s, min_containers = 0.0, 0.0, 0
    if boots_one(alive, in_flight, target_concurrency, max_containers):
        return service_s + scaledown_window_s
    if alive <= min_containers:
        return 0.0
    serving = min(alive, -(-in_flight // target_concurrency))
    if serving == alive or in_flight < serving * target_concurrency:
        return service_s * serving / (in_flight + serving)
    idle = scaledown_window_s * 0.5 if idle_s is None else idle_s
    return service_s + (idle if idle < scaledown_window_s else scaledown_window_s)


def expected_bill_nusd(rate_nusd_per_h: int, p_boot: float, boot_s: float, added_s: float) -> int:
    """What the provider's bill is expected to grow by, rounded up to a nano-dollar. `p_boot` is 0 to 1."""
    return cost_up_nusd(rate_nusd_per_h, p_boot * boot_s + added_s)


def share_nusd_per_h(rate_nusd_per_h: int, ready: int, in_flight: int, target_concurrency: int) -> int:
    """The rate one request will pay beside `in_flight` others: the meter's b·r/R, the newcomer counted, rounded up.

    b = min(n, R, ceil(R / target_concurrency)) containers serve R requests. A pool that is asleep counts as one
    container, since that is what will serve.
    """
    running = in_flight + 1
    serving = min(max(ready, 1), running, -(-running // target_concurrency))
    return -(-rate_nusd_per_h * serving // running)


def expected_charge_nusd(share_nusd_per_h: int, service_s: float) -> int:
    """What the tenant is expected to pay at its predicted share, rounded up. Waiting and boots are not in it."""
    return cost_up_nusd(share_nusd_per_h, service_s)
