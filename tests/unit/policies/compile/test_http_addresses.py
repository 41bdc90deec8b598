"""Addresses in policies: only such as can be called."""

from __future__ import annotations

import pytest

from policies.compile.endpoints import is_http_url


@pytest.mark.parametrize(
    "url",
    ["https://hooks..example/x", f"http://{'a' * 70}.example/", "http://[::1/x", "http://a b/", "http://a:99999/"],
)
def test_a_host_that_cannot_be_one_is_refused(url: str) -> None:
    """Empty and overlong labels, spaces, and ports that do not exist are found when the file is read."""
    assert not is_http_url(url)


@pytest.mark.parametrize("url", ["https://hooks.example/x", "http://[::1]:80/x", "http://bücher.example", "http://a:1"])
def test_a_host_that_can_be_one_is_taken(url: str) -> None:
    """Names, addresses and names beyond ASCII."""
    assert is_http_url(url)
