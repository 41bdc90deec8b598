"""What changed from the last policy is the same at every replica, whichever of them had it in force."""

from __future__ import annotations

import json
from pathlib import Path

from support.replicas import policy, replicas


async def test_replicas_know_each_other_s_policies(tmp_path: Path, redis_url: str, postgres_url: str) -> None:
    """One replica serves, ends, and another one starts after an edit: it shows the difference and who was before it;
    so does the verb, from the database that they share.
    """
    async with replicas(tmp_path, redis_url, postgres_url, policy(), namespace="policies") as shared:
        await shared.start("a")
        first = (await shared.ask("a", "/v1/policy")).json

        async def is_listed() -> bool:
            listed = json.loads(shared.sluice("policy", "history", "--json").output or "[]")
            return first["version"] in [each["version"] for each in listed]

        await shared.until(is_listed)
        path = shared.folder / "policy.yaml"
        path.write_text(json.dumps({**json.loads(path.read_text()), "aliases": {"helper": "chat"}}), encoding="utf-8")
        await shared.running.pop("a").stop()
        await shared.start("b")
        shown = (await shared.ask("b", "/v1/policy")).json
        assert (shown["previous"]["version"], shown["previous"]["replica"]) == (first["version"], "a")
        [change] = shown["changes"]
        assert "helper" in change["diff"]
        assert (await shared.chat("b")).status == 200
        assert "put in force" in shared.sluice("policy", "show", first["version"]).output
