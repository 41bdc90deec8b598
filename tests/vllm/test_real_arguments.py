"""What the catalogue knows of vLLM's arguments, held against the parser of the release that is installed."""

from __future__ import annotations

import json
import subprocess

import pytest

from pools.catalog.engine_args import engine_command
from pools.catalog.known_arguments import known_arguments
from pools.catalog.load import load_catalog
from support.real_vllm import ENVIRONMENT, VERSION, VLLM

PARSER = """\
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = make_arg_parser(FlexibleArgumentParser())
actions = [action for action in parser._actions if action.dest != "help"]
taken = {option[2:]: (action.nargs, type(action).__name__) for action in actions
         for option in action.option_strings if option.startswith("--") and not option.startswith("--no-")}
for command in json.loads(sys.argv[1]):
    parser.parse_args(command)
print(json.dumps(taken))
"""
POOLS = [pool for pool in load_catalog().pools.values() if pool.engine == "vllm" and pool.engine_version == VERSION]


@pytest.fixture(scope="module")
def taken() -> dict[str, tuple[int | str | None, str]]:
    """What the parser says of each argument, once it has taken the arguments of every shipped pool."""
    commands = json.dumps([engine_command(pool, 8000)[3:] for pool in POOLS])
    python = VLLM.with_name("python")
    done = subprocess.run(
        [python, "-c", PARSER, commands], env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, tuple[int | str | None, str]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_arguments_of_a_release_are_those_of_its_parser(taken: dict[str, tuple[int | str | None, str]]) -> None:
    """By name, none more and none less; and every shipped pool's command is taken by it."""
    known = known_arguments("vllm")
    assert known is not None
    assert {name for name in known.spans if known.knows(name, VERSION)} == taken.keys()


def test_what_arguments_take_is_what_the_parser_takes(taken: dict[str, tuple[int | str | None, str]]) -> None:
    """Switches nothing, with a --no- form or without one; several any number of words."""
    known = known_arguments("vllm")
    assert known is not None
    bare = {name for name, (_, action) in taken.items() if action == "_StoreTrueAction"}
    assert known.bare == bare
    assert known.switches == {name for name, (words, _) in taken.items() if words == 0} - bare
    assert known.several == {name for name, (words, _) in taken.items() if words == "+"}
