"""Changing one cap in the file where people keep it: comments stay, and a change that does not load is not made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policies.compile.load import load_policy
from policies.files.fileset import set_files
from policies.policy import Policy
from pricing.budgets.caps import Cap, CapTable
from pricing.errors import FileProblem
from pricing.yamlfile import nearest
from router.cli.cap_text import Edit, edit_cap


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
        text = edit_cap(target.read_text(encoding="utf-8"), int(line), edit)
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
