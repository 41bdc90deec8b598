"""Deploying, looking at and stopping the Apps of pools, through Modal's SDK.

Each call takes a `modal.Client`, None for the one of the environment's token. What the SDK raises becomes ModalTrouble.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

import modal
from modal.config import config
from modal.exception import AuthError, NotFoundError, ResourceExhaustedError

from pools.modal.app import make_app
from pools.modal.declare import Declaration, app_name
from pools.modal.errors import ModalTrouble
from pools.modal.image import ImageRecipe
from pools.modal.plan import Deployed
from pools.modal.router import RouterDeclaration
from pools.modal.sdk import FAILED
from pools.modal.settings import ModalSettings


def has_token() -> bool:
    """Whether this machine has a token of Modal's, from the environment or Modal's own file."""
    return bool(config.get("token_id") and config.get("token_secret"))


def build(declaration: Declaration) -> tuple[modal.App, modal.Server]:
    """The App of one pool, made in memory; nothing is asked of Modal yet."""
    volumes = declaration.volumes.items()
    return make_app(
        declaration,
        _image(declaration.image),
        [modal.Secret.from_name(name) for name in declaration.secrets],
        gpu=declaration.gpu,
        volumes={mount: modal.Volume.from_name(name, create_if_missing=True) for mount, name in volumes},
    )


def deploy(declaration: Declaration, settings: ModalSettings, client: modal.Client | None = None) -> str | None:
    """Deploy one pool, in place of what was deployed under its name; returns its address. Raises ModalTrouble."""
    with told(f"deploying '{declaration.app}'"):
        app, server = build(declaration)
    return publish(app, server, settings, client)


def publish(
    app: modal.App, server: modal.Server, settings: ModalSettings, client: modal.Client | None = None
) -> str | None:
    """Deploy an App that was made in memory; returns its server's address. Raises ModalTrouble."""
    with told(f"deploying '{app.name}'"):
        app.deploy(client=client, environment_name=settings.environment)
        address: str | None = server.get_url()
        return address


def address(
    declaration: Declaration | RouterDeclaration, settings: ModalSettings, client: modal.Client | None = None
) -> str | None:
    """Where a deployed pool, or the router, answers. Raises ModalTrouble."""
    with told(f"looking up '{declaration.app}'"):
        found: str | None = modal.Server.from_name(
            declaration.app, declaration.server, environment_name=settings.environment, client=client
        ).get_url()
        return found


def deployed(
    settings: ModalSettings, client: modal.Client | None = None, wanted: Collection[str] = ()
) -> tuple[Deployed, ...]:
    """The deployed Apps that carry this prefix's tag, by name.

    Raises ModalTrouble, also where an App of a name that is `wanted` is somebody else's: deploying would replace it.
    """
    with told("listing Apps"):
        listed = sorted(listed_apps(settings, client), key=lambda each: each.app)
    ours = tuple(each for each in listed if _is_ours(each, settings))
    others = [each.app for each in listed if each.app in wanted and each not in ours]
    if others:
        raise ModalTrouble(f"an App '{others[0]}' is deployed and is no pool of ours; choose another app_prefix")
    return ours


def existing_secrets(names: Iterable[str], settings: ModalSettings, client: modal.Client | None = None) -> list[str]:
    """Those of `names` that the Environment has as Secrets. Raises ModalTrouble."""
    with told("looking for Secrets"):
        return [name for name in names if _has_secret(name, settings, client)]


def stop(app: Deployed, settings: ModalSettings, client: modal.Client | None = None) -> None:
    """Stop an App: its containers end and nothing of it bills. Stopping one that has stopped is no error."""
    with told(f"stopping '{app.app}'"):
        try:
            modal.App.lookup(app.app, client=client, environment_name=settings.environment).stop(client=client)
        except NotFoundError:
            return


def delete_volumes(settings: ModalSettings, client: modal.Client | None = None) -> tuple[str, ...]:
    """Delete the Volumes of weights and compiled kernels; the next boot downloads again. Returns their names."""
    names = (settings.weights_volume, settings.cache_volume)
    with told("deleting Volumes"):
        for name in names:
            modal.Volume.objects.delete(name, allow_missing=True, environment_name=settings.environment, client=client)
    return names


def _is_ours(app: Deployed, settings: ModalSettings) -> bool:
    return app.tags.get("sluice") == settings.app_prefix and "pool" in app.tags


def listed_apps(settings: ModalSettings, client: modal.Client | None) -> Iterator[Deployed]:
    """The deployed Apps whose names begin with this prefix, whoever deployed them."""
    prefix = f"{app_name('', settings)}-"
    for app in _environment(settings, client).apps.list():
        if app.name is not None and app.name.startswith(prefix):
            yield Deployed(app.name, app.app_id or "", app.get_tags(client=client))


def _environment(settings: ModalSettings, client: modal.Client | None) -> modal.Environment:
    if settings.environment is None:
        return modal.Environment.from_context(client=client)
    return modal.Environment.from_name(settings.environment, client=client)


def _has_secret(name: str, settings: ModalSettings, client: modal.Client | None) -> bool:
    try:
        modal.Secret.from_name(name, environment_name=settings.environment, client=client).hydrate(client)
    except NotFoundError:
        return False
    return True


def _image(recipe: ImageRecipe) -> modal.Image:
    image = modal.Image.from_registry(recipe.base, add_python=recipe.python).entrypoint([])
    if recipe.system:
        image = image.apt_install(*recipe.system)
    if recipe.commands:
        image = image.run_commands(*recipe.commands)
    return image.uv_pip_install(*recipe.packages).env(dict(recipe.env))


@contextmanager
def told(doing: str) -> Iterator[None]:
    """What the SDK raises, in our words. Its messages hold no tokens; its exceptions' causes are left out."""
    try:
        yield
    except AuthError:
        raise ModalTrouble(
            f"{doing}: Modal knows no token here; set MODAL_TOKEN_ID and MODAL_TOKEN_SECRET, or run `modal token new`"
        ) from None
    except ResourceExhaustedError as error:
        raise ModalTrouble(
            f"{doing}: a limit of the account is reached ({_first_line(error)}); try again later"
        ) from None
    except FAILED as error:
        raise ModalTrouble(f"{doing}: {_first_line(error) or type(error).__name__}") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else ""
