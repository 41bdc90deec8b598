"""Policy files without what could be a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.files.fileset import SHIPPED_FOLDER
from policies.files.hide import hide_secrets

HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"sha256: {HASH}", "sha256: 9f86d081…hidden…"),
        (f'{{"sha256": "{HASH}"}}', '{"sha256": "9f86d081…hidden…"}'),
        ("url: https://me:pass@pool.example/v1", "url: https://…hidden…@pool.example/v1"),
        ("url: https://pool.example/v1?token=abc", "url: https://pool.example/v1?…hidden…"),
        ('"url": "https:\\/\\/me:pass@pool.example\\/v1"', '"url": "https:\\/\\/…hidden…@pool.example\\/v1"'),
        ("api_key: ${POOL_KEY} # was sk-live-0123456789abcdef", "api_key: ${POOL_KEY} # was sk-…hidden…"),
        ("a: 1 # the password: hunter2hunter2", "a: 1 # the password: …hidden…"),
        ("a: 1 # Authorization: Bearer abcdefgh", "a: 1 # Authorization: Bearer …hidden…"),
        ("a: 1 # api_key: ${POOL_KEY}", "a: 1 # api_key: ${POOL_KEY}"),
    ],
)
def test_what_could_be_a_secret_is_hidden(text: str, shown: str) -> None:
    """Hashes keep their first digits; tokens in addresses and in comments go; names of variables stay."""
    assert hide_secrets(text) == shown


def test_a_webhook_s_path_is_hidden_and_others_stay() -> None:
    """Some services put their token into a webhook's path; a pool's address is no secret."""
    text = (
        "endpoints:\n  mid: {url: https://pool.example/one}\n"
        "webhooks:\n  # tell the team\n  - url: https://hooks.example/T0/B1/token\n    secret: ${HOOK}\n"
        "- url: https://hooks.example/second\n"
        "platform:\n  url: https://control.example/two\n"
    )
    shown = hide_secrets(text)
    assert "https://hooks.example/…hidden…\n    secret: ${HOOK}" in shown
    assert "second" not in shown
    assert "token" not in shown
    assert "https://pool.example/one" in shown
    assert "https://control.example/two" in shown


def test_what_is_known_is_hidden_wherever_it_stands() -> None:
    """Word by word, the longest first, short words never; what is found by its place is found all the same."""
    text = "# was abcd-efgh-1, then abcd-efgh\nwebhooks: [{url: https://hooks.example/T0/B1/webhooks}]\nBearer: short\n"
    shown = hide_secrets(text, ["Bearer abcd-efgh", "abcd-efgh-1", "webhooks", "short"])
    hidden = "…hidden…"
    assert shown == f"# was {hidden}, then {hidden}\n{hidden}: [{{url: https://hooks.example/{hidden}\nBearer: short\n"


def test_shipped_files_show_as_they_are() -> None:
    """Nothing in a file without secrets is touched."""
    for path in SHIPPED_FOLDER.glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        assert hide_secrets(text) == text


@given(st.text(alphabet="ab:# \n\"'/{}[]-@?htps", max_size=200))
def test_lines_stay_lines(text: str) -> None:
    """Whatever a file holds, hiding adds and removes no line, so that differences stay where they are."""
    assert len(hide_secrets(text).splitlines()) == len(text.splitlines())
