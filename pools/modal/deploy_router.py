"""Deploying, finding and stopping the router's App, through Modal's SDK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import modal
from modal.exception import ConflictError, InvalidError, NotFoundError

from pools.modal.app import make_app
from pools.modal.deploy import existing_secrets, listed_apps, publish, told
from pools.modal.errors import ModalTrouble
from pools.modal.plan import Deployed
from pools.modal.router import PACKAGES, RouterDeclaration, is_router, router_app
from pools.modal.settings import ModalSettings, RouterSettings

_HASHED: Final = "--require-hashes --only-binary :all:"


def build_router(declaration: RouterDeclaration, settings: ModalSettings) -> tuple[modal.App, modal.Server]:
    """The App of the router, made in memory; nothing is asked of Modal yet."""
    return make_app(
        declaration,
        _image(declaration),
        [_secret(name, keys, settings) for name, keys in declaration.secrets.items()],
        nonpreemptible=declaration.nonpreemptible,
    )


def deploy_router(
    declaration: RouterDeclaration, settings: ModalSettings, client: modal.Client | None = None
) -> str | None:
    """Deploy it, in place of what was deployed under its name; returns its address. Raises ModalTrouble."""
    return publish(*build_router(declaration, settings), settings, client)


def deployed_router(settings: ModalSettings, client: modal.Client | None = None) -> Deployed | None:
    """The router's App, None where it is not deployed. Raises ModalTrouble, also for another App of its name."""
    with told("listing Apps"):
        found = [each for each in listed_apps(settings, client) if each.app == router_app(settings)]
    for each in found:
        if not is_router(each.tags, settings):
            raise ModalTrouble(f"an App '{each.app}' is deployed and is no router of ours; choose another app_prefix")
    return found[0] if found else None


def router_secret_problems(
    router: RouterSettings, settings: ModalSettings, client: modal.Client | None = None
) -> Iterator[str]:
    """Secrets that Modal does not have, and those that lack a variable they are said to hold. Values are never asked
    for. Raises ModalTrouble.
    """
    existing = existing_secrets(router.secrets, settings, client)
    for name, keys in router.secrets.items():
        if name not in existing:
            values = " ".join(f"{key}=…" for key in keys)
            yield f"{router.place}: Modal has no Secret '{name}'; make it: modal secret create {name} {values}"
        elif (lack := _lack(name, keys, settings, client)) is not None:
            yield f"{router.place}: Secret '{name}' does not hold {', '.join(keys)}: {lack}"


def _lack(name: str, keys: tuple[str, ...], settings: ModalSettings, client: modal.Client | None) -> str | None:
    """What Modal says where a Secret lacks one of its variables: it compares their names itself."""
    with told(f"looking at Secret '{name}'"):
        try:
            _secret(name, keys, settings, client).hydrate(client)
        except (NotFoundError, InvalidError, ConflictError) as error:
            return str(error)
    return None


def _secret(
    name: str, keys: tuple[str, ...], settings: ModalSettings, client: modal.Client | None = None
) -> modal.Secret:
    return modal.Secret.from_name(name, required_keys=list(keys), environment_name=settings.environment, client=client)


def _image(declaration: RouterDeclaration) -> modal.Image:
    """The release's hashed requirements, then its sources and the policy, which are mounted and so need no build."""
    image = modal.Image.debian_slim(python_version=declaration.python).uv_pip_install(
        requirements=[str(declaration.release.requirements)], extra_options=_HASHED
    )
    image = image.add_local_python_source(*PACKAGES, ignore=["**/__pycache__"])  # with their YAML, Lua and other data
    for file in declaration.files:
        image = image.add_local_file(file.local, file.remote)
    return image
