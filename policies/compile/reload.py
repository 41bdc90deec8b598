"""Policy files are looked at every few seconds; when their content changed, the whole set is swapped as one.

Content, not times: a symlink swap (as Kubernetes does with a ConfigMap) changes no file's time, and a touched file is
not a changed one. A set that is wrong, or is still being written while it is read, leaves the old one in force; what is
wrong is in `state().last_error`, and the set is tried again when its content changes once more.

`check_once` is one look, without tasks or sleeping. It is two steps, so that an event loop need not wait for the disk:
`examine` reads files and may run in a thread, `adopt` swaps and calls back and belongs to the loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from policies.compile.load import load_policy
from policies.compile.noted import noted_pools
from policies.compile.premium import premium_of
from policies.files.fileset import SHIPPED_DEFAULT, outside_paths, policy_files
from policies.files.hide import hide_secrets
from policies.policy import Policy
from pricing.clock import Clock
from pricing.errors import FileProblem
from pricing.ledger.policy_history import PolicyFile, PremiumPool
from pricing.ledger.policy_pools import NotedPool

OnSwap = Callable[[Policy, Policy], None]
"""(old, new), called after the swap."""

OnRefused = Callable[[FileProblem], None]

Adapt = Callable[[Policy], Policy]
"""What is made of every policy that was read, before it is put in force."""

SHOWN_BYTES: Final = 2**19  # of a file: nobody reads the differences of larger ones, and finding them takes seconds

TOKEN_AT_LEAST: Final = 16  # characters of an address's end that is taken for a secret

Outcome = Literal["unchanged", "swapped", "refused", "unsettled"]


@dataclass(frozen=True, slots=True)
class ReloadState:
    """For /health. `loaded_us`: when the policy in force was loaded; `last_error`: what is wrong with the files now."""

    version: str
    loaded_us: int
    last_error: tuple[str, ...]
    checked_us: int


@dataclass(frozen=True, slots=True)
class Edition:
    """A policy as it was put in force: when, its files as they may be shown, what its requests are compared with, and
    what its pools cost.
    """

    version: str
    price_book: str
    loaded_us: int
    files: tuple[PolicyFile, ...]
    premium: tuple[PremiumPool, ...]
    pools: tuple[NotedPool, ...] = ()


@dataclass(frozen=True, slots=True)
class Examined:
    """What one look found. `settled` False: the files changed while they were read. Without a `policy` and a
    `problem` nothing has changed. `files` are those of the policy, see `Edition`.
    """

    at_us: int
    fingerprint: str
    outside: tuple[Path, ...]
    settled: bool = True
    policy: Policy | None = None
    problem: FileProblem | None = None
    files: tuple[PolicyFile, ...] = ()

    @property
    def loaded(self) -> bool:
        """Whether files were read to find it, and not only compared."""
        return self.policy is not None or self.problem is not None


class Reloader:
    """Holds the policy in force. One caller looks at a time."""

    def __init__(
        self,
        paths: Sequence[Path],
        clock: Clock,
        *,
        environ: Mapping[str, str],
        assume_deployed: bool = False,
        adapt: Adapt | None = None,
        on_swap: OnSwap | None = None,
        on_refused: OnRefused | None = None,
    ) -> None:
        """Load for the first time. Raises FileProblem: there is no old set to keep."""
        self._paths = tuple(paths) or (SHIPPED_DEFAULT,)
        self._clock = clock
        self._environ = environ
        self._assume_deployed = assume_deployed
        self._adapt = adapt
        self._on_swap = on_swap
        self._on_refused = on_refused
        self._outside = outside_paths(self._paths)
        self._seen = self._fingerprint(self._outside)
        self._policy = self._load()
        self._loaded_us = self._checked_us = clock.wall_us()
        self._problem: FileProblem | None = None
        self._edition = self._edition_of(self._policy, _shown(self._policy))
        self._last: Edition | None = None

    @property
    def policy(self) -> Policy:
        """The policy in force. A request takes it once and keeps it."""
        return self._policy

    def state(self) -> ReloadState:
        problems = tuple(self._problem.problems) if self._problem else ()
        return ReloadState(self._policy.version, self._loaded_us, problems, self._checked_us)

    def editions(self) -> tuple[Edition, Edition | None]:
        """What is in force, and what was before it since this process started."""
        return self._edition, self._last

    def check_once(self) -> Outcome:
        """Look once. `unsettled`: the files changed while they were read; the next look tries again."""
        return self.adopt(self.examine())

    def examine(self) -> Examined:
        """Read the files and, where their content changed, load them. Changes nothing and calls nobody.

        A later price book that has come into force counts as a change.
        """
        at_us = self._clock.wall_us()
        before = self._fingerprint(self._outside)
        if before == self._seen and not self._book_is_due(at_us):
            return Examined(at_us, before, self._outside)
        outside = outside_paths(self._paths) or self._outside
        before = self._fingerprint(outside)
        policy, problem, files = None, None, tuple[PolicyFile, ...]()
        try:
            loaded = self._load()
            policy = replace(loaded, caps=loaded.caps.keeping(self._policy.caps))
            files = _shown(policy)
        except FileProblem as error:
            problem = error
        return Examined(at_us, before, outside, self._fingerprint(outside) == before, policy, problem, files)

    def adopt(self, found: Examined) -> Outcome:
        """Put what was found in force, or keep the old policy and say why."""
        self._checked_us = found.at_us
        if not found.settled:
            return "unsettled"
        self._seen, self._outside = found.fingerprint, found.outside
        if found.problem is not None:
            self._problem = found.problem
            if self._on_refused:
                self._on_refused(found.problem)
            return "refused"
        if found.policy is None:
            return "unchanged"
        self._problem = None
        return self._swap(found.policy, found.files)

    def _swap(self, fresh: Policy, files: tuple[PolicyFile, ...]) -> Outcome:
        old = self._policy
        if fresh.version == old.version:
            return "unchanged"
        self._policy = fresh
        self._loaded_us = self._checked_us
        self._last, self._edition = self._edition, self._edition_of(fresh, files)
        if self._on_swap:
            self._on_swap(old, fresh)
        return "swapped"

    def _edition_of(self, policy: Policy, files: tuple[PolicyFile, ...]) -> Edition:
        premium, pools = premium_of(policy), noted_pools(policy)
        return Edition(policy.version, policy.price_book, self._loaded_us, files, premium, pools)

    def _load(self) -> Policy:
        policy = load_policy(
            self._paths, environ=self._environ, now_us=self._clock.wall_us(), assume_deployed=self._assume_deployed
        )
        return policy if self._adapt is None else self._adapt(policy)

    def _book_is_due(self, now_us: int) -> bool:
        changes = self._policy.rate_changes
        return self._problem is None and bool(changes) and changes[0].at_us <= now_us

    def _fingerprint(self, outside: Sequence[Path]) -> str:
        """A hash over names and content of every file that the policy is made from. A file that cannot be read counts
        as an empty one: loading will say what is wrong with it.
        """
        digest = hashlib.sha256()
        for path in (*_existing(self._paths), *_existing(outside)):
            digest.update(str(path).encode())
            digest.update(hashlib.sha256(_content(path)).digest())
        return digest.hexdigest()


def _shown(policy: Policy) -> tuple[PolicyFile, ...]:
    """A policy's files without secrets, to be compared with the next ones. Neither a model nor a huge file is shown."""
    secrets = _secrets_of(policy)
    return tuple(_shown_file(name, secrets) for name in policy.files)


def _shown_file(name: str, secrets: Collection[str]) -> PolicyFile:
    content = _content(Path(name))
    try:
        text = hide_secrets(content.decode(), secrets) if len(content) <= SHOWN_BYTES else None
    except UnicodeDecodeError:
        text = None
    return PolicyFile(name, text, hashlib.sha256(content).hexdigest())


def _secrets_of(policy: Policy) -> list[str]:
    """What the environment gave it, which stands in no file unless somebody noted it there; and how webhooks' addresses
    end, where that is long enough for a token.
    """
    ends = [webhook.url.rpartition("/")[2] for webhook in policy.webhooks]
    found = [*(webhook.secret for webhook in policy.webhooks), *(end for end in ends if len(end) >= TOKEN_AT_LEAST)]
    for endpoint in policy.endpoints.values():
        found += [endpoint.api_key or "", *(value for _, value in endpoint.headers)]
    return found if policy.kubernetes is None else [*found, policy.kubernetes.token or ""]


def _existing(paths: Sequence[Path]) -> list[Path]:
    try:
        return policy_files(paths)
    except FileProblem:
        return list(paths)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
