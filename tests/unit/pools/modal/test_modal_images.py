"""What a pool's image is built from: commits and releases, all of them pinned."""

from __future__ import annotations

import re

import pytest

from pools.catalog.load import load_catalog
from pools.modal.image import SEEDVR2_COMMITS, image_recipe
from pricing.errors import FileProblem
from support.repository import ROOT
from support.values import replace

POOLS = load_catalog().pools


def test_a_release_of_the_restoring_program_is_a_commit_that_is_known() -> None:
    """Its image has the commit of the row's release; one that nobody knows is refused with the row's place."""
    pool = POOLS["seedvr2-3b-fp16-l40s"]
    commit = SEEDVR2_COMMITS[pool.engine_version]
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert [commit in command for command in image_recipe(pool).commands] == [False, True, True]
    with pytest.raises(FileProblem, match=r"pools\.yaml:\d+: .*no commit is known of seedvr2 2\.6; engine_version can"):
        image_recipe(replace(pool, engine_version="2.6"))


def test_a_release_of_diffusers_that_the_worker_does_not_know_is_refused() -> None:
    """With the row's place, before an image is built."""
    with pytest.raises(FileProblem, match=r"pools\.yaml:\d+: .* needs diffusers 0\.42 or later, not 0\.35\.0"):
        image_recipe(replace(POOLS["sdxl-lora-fp16-t4"], engine_version="0.35.0"))


def test_the_worker_s_image_has_the_releases_that_were_tested() -> None:
    """diffusers, transformers and torch are those of the environment in which InstantID's parts are run."""
    root = ROOT / "requirements"
    tested = dict(re.findall(r"^([\w-]+)==([^\s;\\]+)", (root / "vllm.txt").read_text(encoding="utf-8"), re.MULTILINE))
    tested |= re.findall(r"(torch)==(\S+)", (root / "install-vllm").read_text(encoding="utf-8"))
    deployed = dict(package.split("==") for package in image_recipe(POOLS["instantid-fp16-t4"]).packages)
    names = ("diffusers", "transformers", "torch")
    assert {name: deployed[name] for name in names} == {name: tested[name] for name in names}
