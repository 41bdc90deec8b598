"""What files say of Kubernetes, checked against the pools and endpoints that they name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from policies.compile.endpoints import Environment, is_http_url
from policies.files.fileset import FileSet, Placed
from policies.files.schema import KubernetesShape, PlatformShape
from policies.policy import PoolEndpoint
from pools.kubernetes.settings import ACCOUNT, IN_CLUSTER_URL, DeploymentRef, KubernetesSettings
from pools.spec import PoolSpec
from pricing.nearest import nearest

SECTION = "kubernetes"


def compile_kubernetes(
    files: FileSet,
    pools: Mapping[str, PoolSpec],
    endpoints: Mapping[str, PoolEndpoint],
    environment: Environment,
    problems: list[str],
) -> KubernetesSettings | None:
    """The cluster and its Deployments; None where no pool is one. `pools` are those of the catalogue."""
    placed: Placed[PlatformShape] | None = files.single("platform")
    if placed is None or placed.value.kubernetes is None:
        return None
    shape = placed.value.kubernetes
    problems += _pool_problems(placed, shape, pools, endpoints)
    if placed.value.url is None and placed.value.modal is None:
        problems += _left_alone(placed, shape, pools, endpoints)
    return KubernetesSettings(
        deployments={
            pool: DeploymentRef(one.namespace or shape.namespace, one.name, one.scale_to_zero, one.metrics_port)
            for pool, one in shape.deployments.items()
        },
        url=_url(placed, shape, environment, problems),
        token=None if shape.token is None else environment.fill(placed, shape.token, problems, SECTION, "token"),
        token_file=ACCOUNT / "token" if shape.token_file is None else Path(shape.token_file),
        ca_file=_ca_file(placed, shape),
    )


def _url(placed: Placed[PlatformShape], shape: KubernetesShape, environment: Environment, problems: list[str]) -> str:
    if shape.url is None:
        return IN_CLUSTER_URL
    url = environment.fill(placed, shape.url, problems, SECTION, "url").rstrip("/")
    if environment.complete(shape.url) and not is_http_url(url):
        problems.append(placed.problem("url must begin with https:// or http:// and name a host", SECTION, "url"))
    return url


def _ca_file(placed: Placed[PlatformShape], shape: KubernetesShape) -> Path | None:
    """This cluster's own is mounted; another one is trusted as the system says, unless a file is named."""
    if shape.ca_file is not None:
        return placed.document.path.parent / shape.ca_file
    return ACCOUNT / "ca.crt" if shape.url is None else None


def _pool_problems(
    placed: Placed[PlatformShape],
    shape: KubernetesShape,
    pools: Mapping[str, PoolSpec],
    endpoints: Mapping[str, PoolEndpoint],
) -> list[str]:
    """Deployments of pools that are none, that are billed by the token, or that are said to be always there."""
    problems = []
    owners: dict[tuple[str, str], str] = {}
    for pool, one in shape.deployments.items():
        where = (SECTION, "deployments", pool)
        if pool not in pools:
            hint = nearest(pool, pools) or "; add its row under pools:"
            problems.append(placed.problem(f"Deployment of pool '{pool}', which is in no catalogue{hint}", *where))
        elif pools[pool].terms is not None:
            problems.append(
                placed.problem(f"pool '{pool}' is billed by the token; it is no Deployment of ours", *where)
            )
        if pool in endpoints and endpoints[pool].always_on:
            text = f"pool '{pool}' is always_on under endpoints:; take that out, Kubernetes says what is there"
            problems.append(placed.problem(text, *where))
        key = (one.namespace or shape.namespace, one.name)
        if key in owners:
            text = f"Deployment '{one.name}' is that of pool '{owners[key]}' already; each pool has its own"
            problems.append(placed.problem(text, *where))
        owners.setdefault(key, pool)
    return problems


def _left_alone(
    placed: Placed[PlatformShape],
    shape: KubernetesShape,
    pools: Mapping[str, PoolSpec],
    endpoints: Mapping[str, PoolEndpoint],
) -> list[str]:
    """Pools that nobody would list or wake, since there is no other platform."""
    lost = [
        name
        for name, endpoint in endpoints.items()
        if not endpoint.always_on and name not in shape.deployments and name in pools and pools[name].terms is None
    ]
    return [
        placed.problem(
            f"pool '{name}' has an endpoint and nobody to run it; add its Deployment, or always_on: 1 to its endpoint",
            SECTION,
            "deployments",
        )
        for name in lost
    ]
