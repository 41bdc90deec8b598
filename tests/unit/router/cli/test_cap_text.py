"""Caps are changed in the text of a file, and nothing but what must change does."""

from decimal import Decimal

import pytest

from router.cli.cap_text import add_raise, edit_cap, set_amount

END_US = 1_767_268_800 * 1_000_000  # 2026-01-01 12:00 UTC
RAISE = "{amount_usd: 20, until: 2026-01-01T12:00:00Z}"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("caps:\n  - name: day\n    amount_usd: 5   # five\n", "caps:\n  - name: day\n    amount_usd: 20   # five\n"),
        ("caps:\n- {name: day, amount_usd: 5.50, window: 24h}", "caps:\n- {name: day, amount_usd: 20, window: 24h}"),
        ('caps:\n\n- name: day\n  amount_usd: "5"', "caps:\n\n- name: day\n  amount_usd: 20"),
    ],
)
def test_only_the_amount_changes(before: str, after: str) -> None:
    """Comments, quotes elsewhere, blank lines and a missing last line break stay as they are."""
    line = next(number for number, text in enumerate(before.splitlines(), 1) if "- " in text)
    assert edit_cap(before, line, set_amount(Decimal(20))) == after


@pytest.mark.parametrize(
    ("amount", "text"), [(Decimal("0.000000001"), "0.000000001"), (Decimal("1E+2"), "100"), ("unlimited", "unlimited")]
)
def test_amounts_are_written_without_exponents(amount: Decimal | str, text: str) -> None:
    """YAML readers disagree about what 1e-9 is."""
    assert edit_cap("caps: [{amount_usd: 5}]", 1, set_amount(amount)) == f"caps: [{{amount_usd: {text}}}]"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "caps:\n    - name: day\n      amount_usd: 5 # five\n      window: 24h\n",
            f"caps:\n    - name: day\n      amount_usd: 5 # five\n      raises: [{RAISE}]\n      window: 24h\n",
        ),
        ("caps:\n- amount_usd: 5", f"caps:\n- amount_usd: 5\n  raises: [{RAISE}]"),
        ("caps:\n- {amount_usd: 5, }\n", f"caps:\n- {{amount_usd: 5, raises: [{RAISE}]}}\n".replace("]}", "], }")),
        ("caps:\n- {amount_usd: 5}\n", f"caps:\n- {{amount_usd: 5, raises: [{RAISE}]}}\n"),
        ("caps:\n- amount_usd: 5\n  raises: []\n", f"caps:\n- amount_usd: 5\n  raises: [{RAISE}]\n"),
        ("caps:\n- amount_usd: 5\n  raises: [{a: 1}]\n", f"caps:\n- amount_usd: 5\n  raises: [{{a: 1}}, {RAISE}]\n"),
        (
            "caps:\n- amount_usd: 5\n  raises: # old\n    - a: 1 # x\n      b: 2\n",
            f"caps:\n- amount_usd: 5\n  raises: # old\n    - {RAISE}\n    - a: 1 # x\n      b: 2\n",
        ),
    ],
)
def test_a_raise_is_added_in_the_style_of_the_file(before: str, after: str) -> None:
    """To a block, a flow mapping, an empty list, a flow list and a block list."""
    assert edit_cap(before, 2, add_raise(Decimal(20), END_US)) == after


def test_a_cap_of_a_tenant_is_found_by_its_line() -> None:
    """Tenants' caps and the file's own are looked through alike."""
    text = "tenants:\n  acme:\n    caps:\n      - amount_usd: 5\n      - amount_usd: 6\ncaps:\n  - amount_usd: 7\n"
    assert edit_cap(text, 5, set_amount(Decimal(20))) == text.replace("6", "20")
    assert edit_cap(text, 7, set_amount(Decimal(20))) == text.replace("7", "20")


def test_a_line_where_no_cap_begins_is_refused() -> None:
    """The file changed between looking and editing; nothing is guessed."""
    with pytest.raises(ValueError, match="no cap begins on line 3"):
        edit_cap("caps:\n- amount_usd: 5\n  window: 24h\n", 3, set_amount(Decimal(20)))
