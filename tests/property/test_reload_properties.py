"""A bad policy file never replaces a good one, whatever is done to the files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.compile.load import load_policy
from policies.compile.reload import Reloader
from pricing.clock import ManualClock
from pricing.errors import FileProblem
from support.choosing import NOW_US

GOOD = {
    "classes.yaml": (
        "version: 1\nprice_book: modal-2026-10\n"
        "classes:\n  chat:\n    ladder:\n      economy: [qwen3-4b-fp16-t4]\n      premium: [qwen3-4b-bf16-a10]\n"
    ),
    "names.yaml": "version: 1\naliases: {gpt: chat, mini: 'chat:economy'}\ndrained: [qwen3-4b-bf16-a10]\n",
}
names = st.sampled_from(sorted(GOOD))
cuts = st.tuples(st.just("cut"), names, st.integers(0, 200))
swaps = st.tuples(
    st.just("replace"),
    names,
    st.sampled_from(
        [("t4", "t5"), ("chat", "chta"), ("version: 1", "version: 2"), ("premium", "standard"), ("mini", "min")]
    ),
)
restored = st.tuples(st.just("restore"), names, st.none())
deleted = st.tuples(st.just("delete"), names, st.none())


def edit(folder: Path, what: str, name: str, how: object) -> None:
    path = folder / name
    text = path.read_text(encoding="utf-8") if path.exists() else GOOD[name]
    if what == "delete":
        path.unlink(missing_ok=True)
    elif what == "restore":
        path.write_text(GOOD[name], encoding="utf-8")
    elif isinstance(how, int):
        path.write_text(text[:how], encoding="utf-8")
    elif isinstance(how, tuple):
        path.write_text(text.replace(*how), encoding="utf-8")


@given(st.lists(cuts | swaps | restored | deleted, min_size=1, max_size=6))
@settings(max_examples=40)
def test_the_policy_in_force_is_always_the_last_good_set(edits: list[tuple[str, str, object]]) -> None:
    """After every edit the version in force is that of the files if they are right, and unchanged if they are not."""
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        for name, text in GOOD.items():
            (folder / name).write_text(text, encoding="utf-8")
        policies = Reloader([folder], ManualClock(NOW_US), environ={})
        for step in edits:
            before = policies.policy
            edit(folder, *step)
            policies.check_once()
            try:
                fresh = load_policy([folder], environ={}, now_us=NOW_US)
            except FileProblem:
                assert policies.policy is before
                assert policies.state().last_error
            else:
                assert policies.policy.version == fresh.version
                assert not policies.state().last_error
