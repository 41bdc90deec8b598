"""Changing one cap in the file where people keep it: comments stay, and a change that does not load is not made."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.util import load_yaml_guess_indent

from policies.fileset import set_files
from policies.load import load_policy
from policies.policy import Policy
from pricing.budgets.caps import Cap, CapTable
from pricing.clock import US_PER_S
from pricing.errors import FileProblem
from pricing.yamlfile import nearest

Edit = Callable[[CommentedMap], None]


@dataclass(frozen=True, slots=True)
class PolicyFiles:
    """The policy that is edited: its paths as given, and what its variables are replaced from."""

    paths: tuple[Path, ...]
    environ: Mapping[str, str]
    now_us: int

    def cap_table(self) -> CapTable:
        """Raises FileProblem when the files are wrong already."""
        return self._load(self.paths).caps

    def find(self, label: str) -> Cap:
        """The cap that people call `label`. Raises ValueError with the nearest names."""
        caps = {cap.label: cap for cap in self.cap_table().caps}
        if label not in caps:
            known = nearest(label, caps) or (f"; there are: {', '.join(caps)}" if caps else "; the policy has none")
            raise ValueError(f"there is no cap '{label}'{known}")
        return caps[label]

    def change(self, cap: Cap, edit: Edit) -> Path:
        """Edit the cap's entry, check the whole set with the new file in place of the old, then swap the two.

        Returns the file. Raises FileProblem, and leaves the old file, when the new set would be wrong.
        """
        named, _, line = cap.place.rpartition(":")
        shown, target = Path(named), Path(named).resolve()
        text = _edited(target.read_text(encoding="utf-8"), int(line), edit)
        draft = target.with_name(f".{target.name}.draft{target.suffix}")
        try:
            draft.write_text(text, encoding="utf-8")
            shutil.copymode(target, draft)
            self._check(shown, draft)
            os.replace(draft, target)  # noqa: PTH105 - the name says that it is the atomic one
        finally:
            draft.unlink(missing_ok=True)
        return shown

    def _check(self, shown: Path, draft: Path) -> None:
        files = [file for path in self.paths for file in (set_files(path) if path.is_dir() else [path])]
        try:
            self._load([draft if file.resolve() == shown.resolve() else file for file in files])
        except FileProblem as error:
            raise FileProblem([problem.replace(str(draft), str(shown)) for problem in error.problems]) from None

    def _load(self, paths: Sequence[Path]) -> Policy:
        return load_policy(paths, environ=self.environ, now_us=self.now_us, assume_deployed=True)


def set_amount(amount: Decimal | str) -> Edit:
    """Give a cap another amount, in dollars, or the word `unlimited`."""

    def edit(entry: CommentedMap) -> None:
        entry["amount_usd"] = _scalar(amount)

    return edit


def add_raise(amount: Decimal, until_us: int) -> Edit:
    """Raise a cap to `amount` dollars until an instant."""

    def edit(entry: CommentedMap) -> None:
        until = datetime.fromtimestamp(until_us // US_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        entry.setdefault("raises", CommentedSeq()).append(CommentedMap(amount_usd=_scalar(amount), until=until))

    return edit


def _scalar(amount: Decimal | str) -> int | float | str:
    """A number as people write it; text where a float would not print all of its digits."""
    if isinstance(amount, str):
        return amount
    if amount == amount.to_integral_value():
        return int(amount)
    plain = f"{amount:f}"
    return float(plain) if repr(float(plain)) == plain else plain


def _edited(text: str, line: int, edit: Edit) -> str:
    _, indent, offset = load_yaml_guess_indent(text)
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=indent or 2, offset=offset or 0)
    tree = yaml.load(text)
    edit(_entry_at(tree, line))
    out = io.StringIO()
    yaml.dump(tree, out)
    return out.getvalue()


def _entry_at(tree: CommentedMap, line: int) -> CommentedMap:
    """The cap that begins on a line, counted from 1."""
    lists = [tenant.get("caps") for tenant in (tree.get("tenants") or {}).values()]
    for caps in [*lists, tree.get("caps")]:
        for index, entry in enumerate(caps or ()):
            if caps.lc.item(index)[0] + 1 == line:
                return entry  # type: ignore[no-any-return]  # ruamel types no items
    raise ValueError(f"no cap begins on line {line}; the file has changed meanwhile, try again")
