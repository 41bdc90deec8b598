"""Child processes of the demo: what is said when one does not do its part."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.demo.processes import Child, DemoFailed


async def test_a_child_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """The message names the verb and repeats what it said; its log has it too."""
    with pytest.raises(DemoFailed, match="`sluice simulate` ended before it listened; the last it said:") as caught:
        await Child.start("simulate", ["--pool", "no-such-pool"], tmp_path)
    assert "no pool 'no-such-pool'" in str(caught.value)
    assert "no pool 'no-such-pool'" in (tmp_path / "simulate.log").read_text()


async def test_a_child_listens_on_a_free_port_and_stops_when_asked(tmp_path: Path) -> None:
    """Two of them do not meet, and a stop is clean."""
    children = [await Child.start("simulate", ["--pool", "qwen3-4b-bf16-a10", "--port", "0"], tmp_path) for _ in "ab"]
    assert children[0].url != children[1].url
    for child in children:
        await child.stop()
