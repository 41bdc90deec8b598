"""Where pools answer, and where events are told.

Secrets and addresses may come from the environment: `${VARIABLE}` or `os.environ/VARIABLE`.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from policies.files.fileset import FileSet, Placed
from policies.files.schema import VARIABLE, EndpointShape, ModalShape, PlatformShape, RouterShape, WebhookShape
from policies.policy import PoolEndpoint, Webhook
from pools.modal.check import settings_problems
from pools.modal.settings import ModalSettings, RouterSettings
from pricing.nearest import nearest


class Environment:
    """Fills variables in. What is not set is a problem, or left as it is written where nothing will be called."""

    def __init__(self, values: Mapping[str, str], *, required: bool) -> None:
        self._values = values
        self._required = required

    def fill(self, placed: Placed[Any], text: str, problems: list[str], *where: str) -> str:
        """`text` with its variables replaced. Values never show in problems, only the variables' names."""
        missing = [name for name in _variables(text) if name not in self._values]
        if missing and self._required:
            names = ", ".join(missing)
            problems.append(
                placed.problem(f"environment variable {names} is not set; export it, or take the key out", *where)
            )
        return VARIABLE.sub(lambda match: self._values.get(match[1] or match[2], match[0]), text)

    def complete(self, text: str) -> bool:
        """Whether every variable of a text is set."""
        return all(name in self._values for name in _variables(text))


def _variables(text: str) -> list[str]:
    return [first or second for first, second in VARIABLE.findall(text)]


def variables_of(files: FileSet) -> dict[str, str]:
    """Every environment variable that the files name, each with the place of the entry that names it first."""
    found: dict[str, str] = {}
    platform: Placed[PlatformShape] | None = files.single("platform")
    entries = [
        *files.mapping("endpoints").values(),
        *files.listing("webhooks"),
        *([] if platform is None else [platform]),
    ]
    for placed in entries:
        for text in _texts(placed.value):
            for name in _variables(text):
                found.setdefault(name, placed.place)
    return found


def _texts(shape: EndpointShape | WebhookShape | PlatformShape) -> tuple[str, ...]:
    """What the environment may fill in."""
    if isinstance(shape, PlatformShape):
        cluster = shape.kubernetes
        return (shape.url or "", *(() if cluster is None else (cluster.url or "", cluster.token or "")))
    if isinstance(shape, WebhookShape):
        return (shape.url, shape.secret)
    return (shape.url, shape.api_key or "", *shape.headers.values())


def compile_endpoints(
    files: FileSet, pools: Iterable[str], environment: Environment, problems: list[str]
) -> dict[str, PoolEndpoint]:
    """Endpoints by pool. A pool that no catalogue has is a problem, and an address that is no http(s) URL."""
    endpoints = {}
    entries: dict[str, Placed[EndpointShape]] = files.mapping("endpoints")
    for pool, placed in entries.items():
        if pool not in pools:
            hint = nearest(pool, pools) or "; add its row under pools:"
            problems.append(placed.problem(f"endpoint for pool '{pool}', which is in no catalogue{hint}"))
            continue
        shape = placed.value
        url = environment.fill(placed, shape.url, problems, "url").rstrip("/")
        if environment.complete(shape.url) and not is_http_url(url):
            problems.append(placed.problem("url must begin with https:// or http:// and name a host", "url"))
        headers = tuple(
            (name, environment.fill(placed, value, problems, "headers", name)) for name, value in shape.headers.items()
        )
        key = environment.fill(placed, shape.api_key, problems, "api_key") if shape.api_key else None
        for name, value in (*headers, ("api_key", key or "")):
            wrong = _no_header(name, value)
            if wrong is not None:
                problems.append(placed.problem(wrong, *(("api_key",) if name == "api_key" else ("headers", name))))
        endpoints[pool] = PoolEndpoint(pool, url, key, headers, shape.always_on)
    return endpoints


def fits_header(text: str) -> bool:
    """Whether an HTTP header can carry it: a secret that was read from a file may end in a line break."""
    return text.isascii() and text.isprintable()


def _no_header(name: str, value: str) -> str | None:
    """What is wrong with a header. Never repeats its value."""
    if re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) is None:
        return f"'{name}' is no name of a header; write letters, digits and hyphens"
    if not fits_header(value):
        return f"{name} has a letter that no header can carry, such as a line break; take it out of the variable"
    return None


def is_http_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host.encode("idna")  # an empty or overlong label is a UnicodeError, which is a ValueError
        named = bool(host) and parts.port != 0  # a port out of range is a ValueError
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and named and not any(letter.isspace() for letter in host)


def compile_platform(files: FileSet, environment: Environment, problems: list[str]) -> str | None:
    """The control plane's address; None where there is none, or it is Modal's."""
    placed = files.single("platform")
    if placed is None or placed.value.url is None:
        return None
    url = environment.fill(placed, placed.value.url, problems, "url").rstrip("/")
    if environment.complete(placed.value.url) and not is_http_url(url):
        problems.append(placed.problem("url must begin with https:// or http:// and name a host", "url"))
    return url


def compile_modal(files: FileSet, problems: list[str]) -> ModalSettings | None:
    """What the files say of Modal; None where pools run elsewhere."""
    placed = files.single("platform")
    if placed is None or placed.value.modal is None:
        return None
    shape: ModalShape = placed.value.modal
    keys = shape.model_dump(exclude={"secrets", "router"})
    place = placed.document.place((*placed.where, "modal"))
    settings = ModalSettings(**keys, secrets=tuple(shape.secrets), place=place, router=_router(placed, shape.router))
    problems += settings_problems(settings)
    return settings


def _router(platform: Placed[Any], shape: RouterShape | None) -> RouterSettings | None:
    if shape is None:
        return None
    secrets = {name: tuple(variables) for name, variables in shape.secrets.items()}
    place = platform.document.place((*platform.where, "modal", "router"))
    return RouterSettings(**shape.model_dump(exclude={"secrets"}), secrets=secrets, place=place)


def compile_webhooks(files: FileSet, environment: Environment, problems: list[str]) -> tuple[Webhook, ...]:
    """Where events are told."""
    webhooks = []
    entries: list[Placed[WebhookShape]] = files.listing("webhooks")
    for placed in entries:
        shape = placed.value
        url = environment.fill(placed, shape.url, problems, "url")
        if environment.complete(shape.url) and not is_http_url(url):
            problems.append(placed.problem("url must begin with https:// or http:// and name a host", "url"))
        secret = environment.fill(placed, shape.secret, problems, "secret")
        if not secret:
            problems.append(placed.problem("secret is empty; whoever receives events could not tell ours", "secret"))
        webhooks.append(Webhook(url, secret, frozenset(shape.events)))
    return tuple(webhooks)


def compile_drained(files: FileSet, pools: Container[str], problems: list[str]) -> frozenset[str]:
    """Pools that operators took out."""
    drained = set()
    for placed in files.listing("drained"):
        if placed.value not in pools:
            problems.append(placed.problem(f"drained pool '{placed.value}' is in no catalogue; correct or delete it"))
        drained.add(placed.value)
    return frozenset(drained)
