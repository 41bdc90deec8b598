"""What a Redis server would lose in a crash, by its own settings, against what the policy promises.

`always`: no answered step is lost, not even by a power cut. `everysec`: a crash loses the last second of answered
steps; two at worst, since Redis puts off writing to a file that is still being flushed for up to two seconds (aof.c,
flushAppendOnlyFile). `none`: everything may be lost. A failover to a replica is another way to lose what was answered:
replication does not wait. docs/redis.md has each setting with its bound.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pricing.redis.client import RedisClient
from pricing.redis.replies import RedisReplyError

Promise = Literal["always", "everysec", "none"]
# What `everysec` may lose; a replica that may lag longer than this promises less.
EVERYSEC_WORST_S: Final = 2
_SETTINGS: Final = (
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "save",
    "min-replicas-to-write",
    "min-replicas-max-lag",
)
_SECTIONS: Final = ("persistence", "replication", "memory")


@dataclass(frozen=True, slots=True)
class Server:
    """What a server says of itself: `info` by field; `settings` by name, None where it refuses CONFIG."""

    info: Mapping[str, str]
    settings: Mapping[str, str] | None


async def durability_warnings(client: RedisClient, promise: Promise) -> list[str]:
    """What is weaker than promised, a sentence each with its remedy. Raises StoreUnavailable."""
    return weaknesses(await ask(client), promise)


async def ask(client: RedisClient) -> Server:
    """Raises StoreUnavailable where the server cannot be reached."""
    sections = await asyncio.gather(*(client.command("INFO", section) for section in _SECTIONS))
    lines = b"".join(sections).decode(errors="replace").splitlines()
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    return Server(info, await _settings(client))


async def _settings(client: RedisClient) -> dict[str, str] | None:
    replies = await asyncio.gather(
        *(client.command("CONFIG", "GET", name) for name in _SETTINGS), return_exceptions=True
    )
    settings: dict[str, str] = {}
    for reply in replies:
        if isinstance(reply, BaseException):
            if isinstance(reply, RedisReplyError) or isinstance(reply.__cause__, RedisReplyError):
                return None  # it has answered, and refused
            raise reply
        words = [word.decode(errors="replace") for word in reply]
        settings.update(zip(words[::2], words[1::2], strict=True))
    return settings


def weaknesses(server: Server, promise: Promise) -> list[str]:
    """The warnings, gravest first. What is evicted is lost whatever was promised."""
    found = [_eviction(server)]
    if promise != "none":
        found += [_file(server, promise), _rewrite(server), _failing(server), _failover(server, promise)]
    return [warning for warning in found if warning is not None]


def _eviction(server: Server) -> str | None:
    policy = server.info.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        return None
    return (
        f"Redis's maxmemory-policy is {policy}: when its memory is full it may drop keys, and with them what tenants "
        "have spent; set maxmemory-policy noeviction (a full server then refuses, and on_store_down decides)"
    )


def _file(server: Server, promise: Promise) -> str | None:
    """The append-only file: is there one, and when does it reach the disk?"""
    if server.info.get("aof_enabled") != "1":
        return (
            f"Redis has appendonly no: a crash loses {_since_snapshot(server)}, though `durability: {promise}` is "
            f"promised; set appendonly yes and appendfsync {promise}"
        )
    if server.settings is None:
        return (
            f"Redis refuses CONFIG GET, so nobody can tell here whether its appendfsync keeps `durability: {promise}`; "
            "look it up with its provider"
        )
    fsync = server.settings.get("appendfsync", "unknown")
    if fsync in ("always", promise):
        return None
    loses = (
        "the last second of it, at worst two" if fsync == "everysec" else "what the system had not flushed, often 30 s"
    )
    return (
        f"Redis has appendfsync {fsync}: a crash loses {loses}, though `durability: {promise}` is promised; "
        f"set appendfsync {promise}"
    )


def _since_snapshot(server: Server) -> str:
    if server.settings is None:
        return "everything since its last snapshot, if it takes any"
    save = server.settings.get("save", "")
    return f"everything since its last snapshot (save {save})" if save else "everything"


def _rewrite(server: Server) -> str | None:
    if server.settings is None or server.settings.get("no-appendfsync-on-rewrite") != "yes":
        return None
    return (
        "Redis has no-appendfsync-on-rewrite yes: while it rewrites its file it does not flush, and a crash then loses "
        "what the system had not, often 30 s; set it to no"
    )


def _failing(server: Server) -> str | None:
    if server.info.get("aof_last_write_status", "ok") == "ok":
        return None
    return (
        "Redis cannot write its append-only file just now (aof_last_write_status); its log says why, often a full disk"
    )


def _failover(server: Server, promise: Promise) -> str | None:
    """What a replica that takes over has not received is lost."""
    if server.info.get("role") == "slave":
        return (
            "Redis is a replica here: its primary's settings count, and writes are refused; use the primary's address"
        )
    replicas = int(server.info.get("connected_slaves", "0"))
    settings = server.settings or {}
    lag = settings.get("min-replicas-max-lag", "0")
    bounded = settings.get("min-replicas-to-write", "0") != "0" and lag != "0"
    if replicas == 0 or (bounded and promise == "everysec" and int(lag) <= EVERYSEC_WORST_S):
        return None
    loses = (
        f"up to {lag} s of what was answered" if bounded else "whatever had not reached the replica, without a bound"
    )
    remedy = (
        f"min-replicas-to-write 1 with min-replicas-max-lag {EVERYSEC_WORST_S} bounds it"
        if promise == "everysec"
        else "no setting prevents it: restart the primary rather than fail over, or promise everysec"
    )
    return (
        f"Redis has {replicas} replica{'s' if replicas > 1 else ''}: a failover to one loses {loses}, though "
        f"`durability: {promise}` is promised; {remedy}"
    )
