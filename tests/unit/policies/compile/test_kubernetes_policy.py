"""`platform: kubernetes:` in policy files: what it means, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pools.kubernetes.settings import ACCOUNT, IN_CLUSTER_URL, DeploymentRef
from pricing.errors import FileProblem
from support.choosing import load, write_policy

POLICY = """\
version: 1
price_book: modal-2026-10
classes: {chat: {ladder: {premium: [one, two]}}}
pools:
  one: {extends: qwen3-4b-bf16-a10}
  two: {extends: qwen3-4b-bf16-a10}
endpoints:
  one: {url: "http://one.models.svc"}
  two: {url: "http://two.models.svc", always_on: 1}
platform:
  kubernetes:
    namespace: models
    deployments:
      one: {name: vllm-one, scale_to_zero: true}
"""


def test_in_the_cluster_nothing_more_is_needed(tmp_path: Path) -> None:
    """Address, token and certificate are where Kubernetes mounts them."""
    settings = load(write_policy(tmp_path, POLICY)).kubernetes
    assert settings is not None
    assert settings.deployments == {"one": DeploymentRef("models", "vllm-one", scale_to_zero=True)}
    assert (settings.url, settings.token, settings.token_file) == (IN_CLUSTER_URL, None, ACCOUNT / "token")
    assert settings.ca_file == ACCOUNT / "ca.crt"


def test_another_cluster_is_named_with_its_token(tmp_path: Path) -> None:
    """The token comes from the environment and shows nowhere; the certificate lies beside the policy."""
    keys = '    url: "https://k8s.example:6443/"\n    token: ${KUBE_TOKEN}\n    ca_file: k8s.crt\n'
    text = POLICY.replace("    namespace: models\n", keys + "    namespace: models\n")
    settings = load(write_policy(tmp_path, text), KUBE_TOKEN="geheim").kubernetes
    assert settings is not None
    assert (settings.url, settings.token) == ("https://k8s.example:6443", "geheim")
    assert settings.ca_file == tmp_path / "k8s.crt"
    assert "geheim" not in repr(settings)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("      one: {name: vllm-one, scale_to_zero: true}", "      oone: {name: x}"),
         r"policy.yaml:14: Deployment of pool 'oone', which is in no catalogue; did you mean 'one'"),
        (("      one: {name: vllm-one, scale_to_zero: true}", "      two: {name: x}\n      one: {name: y}"),
         r"policy.yaml:14: pool 'two' is always_on under endpoints:"),
        (("always_on: 1", "always_on: 0"), r"pool 'two' has an endpoint and nobody to run it"),
        (("name: vllm-one", "name: VLLM"), r"policy.yaml:14"),
        (("always_on: 1}", "always_on: 0}\n"), "nobody to run it"),
        (("    namespace: models\n", "    url: http://k8s.example\n"), "url without token or token_file"),
        (("    namespace: models\n", "    token: geheim\n"), r"token must come from the environment"),
        (("    namespace: models\n", "    token: ${A}\n    token_file: /b\n"), "keep one of them"),
        (("    namespace: models\n", "    token: ${NOBODY_SET_IT}\n"), "NOBODY_SET_IT is not set"),
        (("    namespace: models\n", "    url: k8s\n    token_file: /b\n"), "url must begin with https:// or http://"),
        (("platform:\n", "platform:\n  modal: {}\n  url: http://x.example\n"), "keep one of them"),
    ],
)  # fmt: skip
def test_what_is_wrong_has_its_place(tmp_path: Path, change: tuple[str, str], says: str) -> None:
    """Before anything is asked of a cluster; a token that was written out is not repeated."""
    assert change[0] in POLICY
    with pytest.raises(FileProblem, match=says) as problem:
        load(write_policy(tmp_path, POLICY.replace(*change)))
    assert "geheim" not in str(problem.value)


def test_two_pools_are_not_one_deployment(tmp_path: Path) -> None:
    """Whose its Pods' time is could not be told."""
    both = "      one: {name: vllm-one}\n      two: {name: vllm-one}"
    text = POLICY.replace("      one: {name: vllm-one, scale_to_zero: true}", both).replace(", always_on: 1", "")
    with pytest.raises(FileProblem, match="Deployment 'vllm-one' is that of pool 'one' already"):
        load(write_policy(tmp_path, text))


def test_beside_modal_others_are_modals(tmp_path: Path) -> None:
    """A pool that is neither a Deployment nor always there is then Modal's."""
    text = POLICY.replace(", always_on: 1", "").replace("platform:\n", "platform:\n  modal: {}\n")
    made = load(write_policy(tmp_path, text))
    assert made.modal is not None
    assert made.kubernetes is not None
