"""SLUICE_REDIS_URL: what it may say, what is refused, and that its password is never shown."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pricing.redis.address import RedisAddress


@pytest.mark.parametrize(
    ("url", "host", "port", "path", "database", "username", "password"),
    [
        ("redis://", "127.0.0.1", 6379, None, 0, None, None),
        ("redis://cache", "cache", 6379, None, 0, None, None),
        ("redis://cache:7000/3", "cache", 7000, None, 3, None, None),
        ("redis://cache/?db=2", "cache", 6379, None, 2, None, None),
        ("redis://:pass@cache", "cache", 6379, None, 0, None, "pass"),
        ("redis://me:p%40s%2Fs%25@cache", "cache", 6379, None, 0, "me", "p@s/s%"),
        ("redis://[::1]:7000", "::1", 7000, None, 0, None, None),
        ("unix:///run/redis%20one.sock?db=1", "127.0.0.1", 6379, "/run/redis one.sock", 1, None, None),
        ("unix://me:pass@/run/redis.sock", "127.0.0.1", 6379, "/run/redis.sock", 0, "me", "pass"),
    ],
)
def test_urls_are_read(
    url: str, host: str, port: int, path: str | None, database: int, username: str | None, password: str | None
) -> None:
    """Each form of the URL gives the parts it names, decoded."""
    expected = RedisAddress(host, port, path, database, username, password)
    assert RedisAddress.from_url(url) == expected


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("localhost:6379", "does not begin with redis://"),
        ("http://localhost", "does not begin with redis://"),
        ("redis://host:port", "has no port from 1 to 65535"),
        ("redis://host:99999", "has no port from 1 to 65535"),
        ("redis://host:0", "has port 0"),
        ("redis://host/one", "a database that is no number"),
        ("redis://host/1?db=2", "names the database twice"),
        ("redis://host?db=1&db=2", "gives an option twice"),
        ("redis://host?timeout=3", "an option that is not known here; redis:// has db"),
        ("redis://host?ssl_ca_certs=/a.pem", "an option that is not known here"),
        ("redis://secret@host", "names a user without a password"),
        ("redis://me:secret#1@host", "holds a '#'"),
        ("redis://[::1", "is no URL"),
        (f"redis://{'x' * 70}", "has no valid host name"),
        ("unix://", "has no path of a socket"),
        ("unix://run/redis.sock", "has no path of a socket"),
        ("rediss://host?ssl_cert_reqs=maybe", "neither 'required' nor 'none'"),
        ("rediss://host?ssl_ca_certs=/nowhere.pem", "names certificates that cannot be loaded"),
    ],
)
def test_what_is_wrong_is_named_with_the_setting(url: str, says: str) -> None:
    """A URL that cannot be meant is refused with the setting's name and what is wrong with it."""
    with pytest.raises(ValueError, match=r"^SLUICE_REDIS_URL") as error:
        RedisAddress.from_url(url)
    assert says in str(error.value)


@given(
    st.text(st.sampled_from("ZJQ:/@#?%[]&= \\"), min_size=4, max_size=12).filter(lambda word: set(word) & set("ZJQ")),
    st.sampled_from(["redis", "rediss", "unix"]),
)
def test_no_part_of_a_password_is_shown(password: str, scheme: str) -> None:
    """Whether the URL is understood or not, what is printed of it holds no letter of the password."""
    try:
        address = RedisAddress.from_url(f"{scheme}://user:{password}@/path")
        shown = f"{address} {address!r}"
    except ValueError as error:
        shown = str(error)
    assert not set("ZJQ") & set(shown)


def test_tls_checks_the_server_unless_told_not_to() -> None:
    """rediss:// verifies certificate and name; ssl_cert_reqs=none trusts whoever answers; redis:// has no TLS."""
    checked = RedisAddress.from_url("rediss://cache").tls
    assert checked is not None
    assert checked.check_hostname
    assert checked.verify_mode is ssl.CERT_REQUIRED
    trusting = RedisAddress.from_url("rediss://cache?ssl_cert_reqs=none").tls
    assert trusting is not None
    assert trusting.verify_mode is ssl.CERT_NONE
    assert RedisAddress.from_url("redis://cache").tls is None


def test_other_nodes_of_a_cluster_share_the_login() -> None:
    """A node that a cluster names is reached with the same user and password."""
    address = RedisAddress.from_url("redis://me:pass@cache:7000")
    other = address.at("10.0.0.7", 7001)
    assert (str(other), other.username, other.password) == ("10.0.0.7:7001", "me", "pass")
    assert str(address.at("::1", 7001)) == "[::1]:7001"
