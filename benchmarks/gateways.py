"""How each gateway is started in front of the mock upstream: everything on that its users would have on."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
# Measured beside us, in an environment of its own: no part of this project depends on it.
LITELLM: Final = "litellm[proxy]==1.106.2"
LITELLM_HOME: Final = HERE / ".litellm"
KEY: Final = "sk-bench-" + "0" * 24
POOL: Final = "qwen3-4b-bf16-a10"
READY_S: Final = 60.0

# Key check, decision, hold, meter and ledger row are on: a tenant with a key and a cap, a class, one pool.
SLUICE_POLICY: Final = """\
version: 1
description: one pool that is always on, one tenant with a cap; written by benchmarks/gateways.py
price_book: modal-2026-10
classes:
  bench:
    objective: cheapest
    ladder:
      premium: [{pool}]
endpoints:
  {pool}:
    url: http://127.0.0.1:{upstream}
    always_on: 64
tenants:
  bench:
    keys:
      - id: bench
        sha256: {sha256}
    caps:
      - name: bench-day
        amount_usd: 1000000
        window: 24h
"""

LITELLM_CONFIG: Final = """\
model_list:
  - model_name: bench
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: none
general_settings:
  master_key: {key}
"""


class InstallFailed(RuntimeError):
    """A gateway that is measured beside us cannot be installed."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway under test. `prepare` writes its files into a folder and returns the command; ready at `ready_path`."""

    name: str
    prepare: Callable[[Path, int, int], Sequence[str]]
    ready_path: str
    key: str = KEY
    environment: Mapping[str, str] = field(default_factory=dict)


def _sluice(folder: Path, port: int, upstream: int) -> Sequence[str]:
    policy = folder / "policy.yaml"
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    policy.write_text(SLUICE_POLICY.format(pool=POOL, upstream=upstream, sha256=digest))
    command = str(Path(sys.executable).parent / "sluice")
    ledger = str(folder / "ledger.sqlite")
    return [command, "serve", "--policy", str(policy), "--ledger", ledger, "--port", str(port)]


def _litellm(folder: Path, port: int, upstream: int) -> Sequence[str]:
    config = folder / "litellm.yaml"
    config.write_text(LITELLM_CONFIG.format(upstream=upstream, key=KEY))
    command = str(LITELLM_HOME / "bin" / "litellm")
    return [command, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]


SLUICE: Final = Gateway("sluice", _sluice, "/health/readiness")
# Its price map is read from the installed package, so that nothing is fetched while it is measured.
BESIDE_US: Final = Gateway(
    "litellm", _litellm, "/health/liveliness", environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
)


def install_litellm() -> None:
    """Install LiteLLM into its own environment, once for each pinned version.

    Raises InstallFailed with the end of pip's output.
    """
    stamp = LITELLM_HOME / LITELLM.replace("[", "-").replace("]", "")
    if stamp.exists():
        return
    print(f"Installing {LITELLM} into {LITELLM_HOME.relative_to(HERE.parent)} …", file=sys.stderr)
    venv.create(LITELLM_HOME, clear=True, with_pip=True, symlinks=True)
    pip = [str(LITELLM_HOME / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, LITELLM],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InstallFailed(f"cannot install {LITELLM}; `--only sluice` measures without it:\n{done.stdout[-2000:]}")
    stamp.touch()
