"""What a policy says of the Kubernetes cluster whose Deployments are pools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

POLL_S: Final = 5.0
"""Seconds between two looks at the API server, one list of Pods a pool."""

IN_CLUSTER_URL: Final = "https://kubernetes.default.svc"
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts the token of a Pod's service account, and the certificate of its API server."""


@dataclass(frozen=True, slots=True)
class DeploymentRef:
    """One pool's Deployment. `scale_to_zero`: the router starts its first Pod and ends its last one. `metrics_port` is
    where each Pod's engine tells its metrics; None: no Pod is asked by itself.
    """

    namespace: str
    name: str
    scale_to_zero: bool = False
    metrics_port: int | None = None


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """`deployments` by pool. A `token` that is given is sent as it is; else it is read from `token_file`, again and
    again, since Kubernetes renews it. `ca_file` is what the API server's certificate is checked against; None: what the
    system trusts.
    """

    deployments: Mapping[str, DeploymentRef]
    url: str = IN_CLUSTER_URL
    token: str | None = field(default=None, repr=False)
    token_file: Path = ACCOUNT / "token"
    ca_file: Path | None = ACCOUNT / "ca.crt"
