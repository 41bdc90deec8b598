"""`sluice explain`: which pool a request would get, and why; or, with an id, which one a past request got.

Without more, all pools are taken for healthy and deployed, and for cold but where they are always on. `--state FILE`
says how they are, `--url` asks a running endpoint, which knows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec.structs import replace

from policies.choose.decide import decide
from policies.choose.facts import Facts
from policies.choose.names import resolve
from policies.compile.load import load_policy
from policies.errors import PolicyError
from policies.explain.record import as_json
from policies.explain.states_file import cold_and_healthy, read_states
from policies.explain.table import render_json
from policies.policy import Policy
from policies.requirements import Requirements, Tier
from pools.spec import Feature
from pricing.budgets.store import Room
from pricing.clock import SystemClock
from router.cli.options import DEFAULT_LEDGER, WHOSE_FILES, LedgerOption, policy_paths
from router.cli.past import past_from_ledger, past_from_url, render_past
from router.cli.prices_view import console
from router.cli.remote import post_json
from router.inbound.bodies import RouteBody
from router.serving.media import media_requirements, medium_of

UNLIMITED = Room(left_nusd=None, cap=None, lower_tier=False)
DEFAULT_PROMPT_TOKENS = 500

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of a request. Token counts are tokens; None means the class's default. `size` and what
    follows are of one picture or clip.
    """

    model: str
    prompt_tokens: int
    max_tokens: int | None
    tier: Tier | None
    features: tuple[Feature, ...]
    items: int = 1
    size: str | None = None
    steps: int | None = None
    frames: int | None = None
    seconds: float | None = None

    @property
    def media(self) -> dict[str, Any]:
        """The fields of a body that asks for pictures or clips, without those that are not given."""
        given = {
            "n": None if self.items == 1 else self.items,
            "size": self.size,
            "num_inference_steps": self.steps,
            "num_frames": self.frames,
            "seconds": self.seconds,
        }
        return {name: value for name, value in given.items() if value is not None}


@app.command()
def explain(
    request_id: Annotated[str | None, typer.Argument(metavar="ID", help="A past request.")] = None,
    class_: Annotated[str | None, typer.Option("--class", help="Class of the request.")] = None,
    model: Annotated[str | None, typer.Option(help="Instead of --class: what a client sends as `model`.")] = None,
    prompt_tokens: Annotated[int, typer.Option(min=0)] = DEFAULT_PROMPT_TOKENS,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The class's bound where it is not given.")] = None,
    tier: Annotated[Tier | None, typer.Option(help="The class's default where it is not given.")] = None,
    feature: Annotated[list[Feature] | None, typer.Option(help="What the pool must be able to do.")] = None,
    items: Annotated[int, typer.Option(min=1, help="How many pictures or clips.")] = 1,
    size: Annotated[str | None, typer.Option(help="Of a picture or clip, pixels: 1024x768.")] = None,
    steps: Annotated[int | None, typer.Option(help="Of a picture or clip: inference steps.")] = None,
    frames: Annotated[int | None, typer.Option(help="Of a clip.")] = None,
    seconds: Annotated[float | None, typer.Option(help="How long a clip plays; --frames counts first.")] = None,
    policy: Annotated[list[Path] | None, typer.Option(help=WHOSE_FILES)] = None,
    state: Annotated[Path | None, typer.Option(help="YAML or JSON: pool to its state.")] = None,
    url: Annotated[str | None, typer.Option(help="Ask this running endpoint.")] = None,
    key: Annotated[str | None, typer.Option(envvar="SLUICE_KEY", help="API key for --url.")] = None,
    ledger: LedgerOption = DEFAULT_LEDGER,
    print_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which pool a request would get, or with an ID which one a past request got, and why."""
    _check(request_id, class_, model, policy, state, url)
    if request_id is not None:
        past = past_from_url(url, key, request_id) if url is not None else past_from_ledger(ledger, request_id)
        typer.echo(json.dumps(past, indent=2)) if print_json else console().print(render_past(past))
        return
    name, features = str(model if class_ is None else class_), tuple(feature or ())
    asked = Asked(name, prompt_tokens, max_tokens, tier, features, items, size, steps, frames, seconds)
    answer = _from_files(asked, policy_paths(policy), state) if url is None else _from_endpoint(asked, url, key)
    typer.echo(json.dumps(answer, indent=2)) if print_json else console().print(render_json(answer))


def _check(
    request_id: str | None,
    class_: str | None,
    model: str | None,
    policy: list[Path] | None,
    state: Path | None,
    url: str | None,
) -> None:
    """One request, and one source of what is known of pools. Raises BadParameter."""
    if sum(given is not None for given in (request_id, class_, model)) != 1:
        raise typer.BadParameter("say what the request is: --class NAME or --model NAME, or the ID of a past request")
    if (policy or state is not None) and (url is not None or request_id is not None):
        raise typer.BadParameter(
            "--policy and --state are about requests to come, without --url: an endpoint has its own"
        )


def _from_endpoint(asked: Asked, url: str, key: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"model": asked.model, "prompt_tokens": asked.prompt_tokens, **asked.media}
    if asked.max_tokens is not None:
        body["max_tokens"] = asked.max_tokens
    if asked.tier is not None:
        body["tier"] = asked.tier.value
    if asked.features:
        body["features"] = [one.value for one in asked.features]
    decision: dict[str, Any] = post_json(url, "/v1/route", key, body)
    return decision


def _from_files(asked: Asked, paths: tuple[Path, ...], state: Path | None) -> dict[str, Any]:
    """Raises FileProblem for wrong files and UnknownModel for a name that is none."""
    now_us = SystemClock().wall_us()
    policy = load_policy(paths, environ={}, now_us=now_us, assume_deployed=True)
    needs = requirements(policy, asked)
    facts = Facts(
        requirements=needs,
        request_class=policy.classes[needs.request_class],
        states=read_states(state, policy) if state else cold_and_healthy(policy),
        room=UNLIMITED,
        pool_rooms={},
        chain_left_nusd=None,
        policy_version=policy.version,
        price_books=(policy.price_book,),
        now_us=now_us,
    )
    return as_json(decide(facts))


def requirements(policy: Policy, asked: Asked) -> Requirements:
    """What the endpoint would make of such a request. Raises PolicyError, UnknownModel, and ApiError for a size that is
    none, or of text.
    """
    resolved = resolve(policy, asked.model)
    if asked.tier is not None and resolved.tier is not None and asked.tier is not resolved.tier:
        raise PolicyError(f"'{asked.model}' means tier {resolved.tier}, and --tier says {asked.tier}; give one of them")
    request_class = policy.classes[resolved.request_class]
    tier = resolved.tier or asked.tier or request_class.default_tier
    media = RouteBody(asked.model, **asked.media).media(medium_of(request_class))
    if media is not None:
        return replace(media_requirements(request_class, resolved, media, frozenset(asked.features)), tier=tier)
    bound = asked.max_tokens or request_class.limits.output_bound_default
    return Requirements(
        request_class=request_class.name,
        tier=tier,
        prompt_tokens=asked.prompt_tokens,
        output_bound=bound,
        expected_output_tokens=bound,
        deadline_s=request_class.limits.first_byte_deadline_s,
        prompt_exact=True,
        bounded=asked.max_tokens is not None,
        features=frozenset(asked.features),
        pinned_pool=resolved.pinned_pool,
    )
