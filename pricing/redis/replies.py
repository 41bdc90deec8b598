"""Error replies of Redis: the few that say that the server cannot serve just now, and all others."""

from __future__ import annotations

import re
from typing import Final

from pricing.errors import PricingError, StoreUnavailable

# What is wrong with the server itself, by the reply's code word (Redis 6.2 and 7.0: `shared.*err` in server.c), and
# what to do. The command has not been run.
_REMEDIES: Final = {
    "LOADING": "it is reading its data after a start and answers when that is done",
    "READONLY": "it is a replica; point SLUICE_REDIS_URL at the primary",
    "MASTERDOWN": "it is a replica without its primary; point SLUICE_REDIS_URL at the primary",
    "CLUSTERDOWN": "slots of the cluster are not served; look at `CLUSTER INFO` and start the nodes that are missing",
    "ASK": "the slot of our keys is being moved to another node, and budgets wait until that is done, since a script "
    "would find half of its keys on either side; `CLUSTER NODES` shows how far it is",
    "TRYAGAIN": "the slot of our keys is being moved to another node, and budgets wait until that is done",
    "BUSY": "a script runs for too long; `SCRIPT KILL` ends one that has not written yet",
    "OOM": "it has reached maxmemory; raise that, or see with `MEMORY STATS` what else it holds",
    "MISCONF": "it cannot write its data to disk and refuses changes; its log says why (a full disk?)",
    "NOREPLICAS": "fewer replicas are in step than min-replicas-to-write asks for; start those that are missing",
    "NOAUTH": "it asks for a password; put it into SLUICE_REDIS_URL, as redis://:password@host",
    "WRONGPASS": "it refuses the user or the password of SLUICE_REDIS_URL",
    "NOPERM": "the user of SLUICE_REDIS_URL may not do this; it needs `+@all ~{sluice}:*` in the server's ACL",
}
# Up to 6.2 a script's error hides the code of the command that failed: "ERR Error running script (call to f_…):
# @user_script:1: @user_script: 1: -OOM command not allowed …".
_INSIDE_SCRIPT: Final = re.compile(r"^Error running script .*: -([A-Z]+) ")


class RedisReplyError(PricingError):
    """An error reply. `code` is its first word (`ERR`, `WRONGTYPE`, `NOSCRIPT`), `text` the rest."""

    def __init__(self, line: str) -> None:
        self.code, _, self.text = line.partition(" ")
        if self.code == "ERR" and (inside := _INSIDE_SCRIPT.match(self.text)):
            self.code = inside[1]
        super().__init__(line)


def unavailable(error: RedisReplyError, server: str) -> StoreUnavailable | None:
    """What an error reply means for the store where the server is at fault; None where the command is."""
    remedy = _REMEDIES.get(error.code)
    return None if remedy is None else StoreUnavailable(f"Redis at {server} answers {error.code}: {remedy}")
