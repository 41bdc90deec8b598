"""Where Redis is: SLUICE_REDIS_URL, read strictly and shown without its password.

    redis://host:6379/0    rediss://user:password@host:6380    unix:///run/redis/redis.sock?db=1

`rediss` is TLS with the system's certificate authorities; the query may name others: `ssl_ca_certs`, a client's
`ssl_certfile` and `ssl_keyfile`, and `ssl_cert_reqs=none` to trust whoever answers. Users, passwords and paths are
percent-decoded.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field, replace
from typing import Final, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

SETTING: Final = "SLUICE_REDIS_URL"
EXAMPLE: Final = f"{SETTING} looks like redis://user:password@host:6379/0, rediss://… with TLS, or unix:///path/to.sock"
_TLS_OPTIONS: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One server, and how to be let in. `path` is set for unix sockets, `host` and `port` otherwise."""

    host: str = "127.0.0.1"
    port: int = 6379
    path: str | None = None
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """For messages: where, and nothing secret."""
        if self.path is not None:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def at(self, host: str, port: int) -> Self:
        """Another node of the same cluster: same user, password and TLS."""
        return replace(self, host=host, port=port, path=None)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Raises ValueError with what is wrong; never with the password, nor with a part that may hold it."""
        parts = _split(url)
        query = _query(parts)
        login = {"username": _text(parts.username), "password": _text(parts.password)}
        if login["username"] and not login["password"]:
            raise ValueError(f"{SETTING} names a user without a password; one alone is written :password@. {EXAMPLE}")
        database = parts.path.strip("/") if parts.scheme != "unix" else ""
        common = cls(database=_database(query.get("db", database)), **login)  # type: ignore[arg-type] # two strings
        if parts.scheme == "unix":
            if parts.path in ("", "/") or (parts.hostname and parts.username is None):
                raise ValueError(f"{SETTING} has no path of a socket. {EXAMPLE}")
            if "@" in parts.path:  # most likely the rest of a password
                raise ValueError(f"{SETTING} has an '@' behind a '/': write them %40 and %2F. {EXAMPLE}")
            return replace(common, path=unquote(parts.path))
        if "db" in query and database:
            raise ValueError(f"{SETTING} names the database twice, as path and as db=. {EXAMPLE}")
        tls = _tls(query) if parts.scheme == "rediss" else None
        return replace(common, host=_host(parts), port=_port(parts), tls=tls)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url.strip())
    except ValueError:  # its message may quote the password
        raise ValueError(f"{SETTING} is no URL. {EXAMPLE}") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(f"{SETTING} does not begin with redis://, rediss:// or unix://. {EXAMPLE}")
    if parts.fragment:
        raise ValueError(f"{SETTING} holds a '#'; in a password it is written %23. {EXAMPLE}")
    return parts


def _query(parts: SplitResult) -> dict[str, str]:
    given = parse_qsl(parts.query, keep_blank_values=True)
    known = ("db", *(_TLS_OPTIONS if parts.scheme == "rediss" else ()))
    for name, _ in given:
        if name not in known:
            raise ValueError(
                f"{SETTING} has an option that is not known here; {parts.scheme}:// has {', '.join(known)}"
            )
    if len(dict(given)) < len(given):
        raise ValueError(f"{SETTING} gives an option twice")
    return dict(given)


def _text(encoded: str | None) -> str | None:
    return unquote(encoded) if encoded else None


def _host(parts: SplitResult) -> str:
    host = parts.hostname or "127.0.0.1"
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError(f"{SETTING} has no valid host name. {EXAMPLE}") from None
    return host


def _port(parts: SplitResult) -> int:
    try:
        port = parts.port
    except ValueError:  # a password with ':' or '/' in it ends up here, in the message too
        raise ValueError(
            f"{SETTING} has no port from 1 to 65535; in a password ':' is written %3A, '/' %2F, '@' %40. {EXAMPLE}"
        ) from None
    if port == 0:
        raise ValueError(f"{SETTING} has port 0. {EXAMPLE}")
    return port or 6379


def _database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{SETTING} has a database that is no number. {EXAMPLE}")
    return int(text)


def _tls(query: dict[str, str]) -> ssl.SSLContext:
    requires = query.get("ssl_cert_reqs", "required")
    if requires not in ("required", "none"):
        raise ValueError(f"{SETTING} has an ssl_cert_reqs that is neither 'required' nor 'none'")
    try:
        context = ssl.create_default_context(cafile=query.get("ssl_ca_certs"))
        if "ssl_certfile" in query:
            context.load_cert_chain(query["ssl_certfile"], query.get("ssl_keyfile"))
    except (OSError, ssl.SSLError) as problem:
        raise ValueError(f"{SETTING} names certificates that cannot be loaded: {problem}") from None
    if requires == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
