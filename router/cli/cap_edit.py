"""Changing one cap in the file where people keep it: comments stay, and a change that does not load is not made."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from policies.compile.load import load_policy
from policies.files.fileset import set_files
from policies.policy import Policy
from pricing.budgets.caps import Cap, CapTable
from pricing.errors import FileProblem
from pricing.nearest import nearest
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

        Returns the file. Raises FileProblem, and leaves the old file, when the new set would be wrong, or cannot be
        written. Two that change caps of one folder at once wait for each other.
        """
        shown = Path(cap.place.rpartition(":")[0])
        target = shown.resolve()
        draft = target.with_name(f".{target.name}.draft{target.suffix}")
        try:
            with _alone_in(target.parent):
                line = self.find(cap.label).place.rpartition(":")[2]  # anew: somebody else may have edited meanwhile
                try:
                    draft.write_bytes(_edited(target.read_bytes().decode(), int(line), edit).encode())
                    shutil.copymode(target, draft)
                    self._check(shown, draft)
                    os.replace(draft, target)  # noqa: PTH105 - the name says that it is the atomic one
                finally:
                    draft.unlink(missing_ok=True)
        except OSError as error:
            raise FileProblem([f"{cap.place}: cannot be changed: {error.strerror}; edit it where it can be"]) from None
        return shown

    def _check(self, shown: Path, draft: Path) -> None:
        files = [file for path in self.paths for file in (set_files(path) if path.is_dir() else [path])]
        try:
            self._load([draft if file.resolve() == shown.resolve() else file for file in files])
        except FileProblem as error:
            raise FileProblem([problem.replace(str(draft), str(shown)) for problem in error.problems]) from None

    def _load(self, paths: Sequence[Path]) -> Policy:
        return load_policy(paths, environ=self.environ, now_us=self.now_us, assume_deployed=True)


def _edited(text: str, line: int, edit: Edit) -> str:
    """With the line breaks that the file has: an editor that ends lines in CR LF would show all of them as changed."""
    if text.count("\r\n") != text.count("\n"):
        return edit_cap(text, line, edit)
    return edit_cap(text.replace("\r\n", "\n"), line, edit).replace("\n", "\r\n")


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Until it ends, others who ask wait. The kernel drops the lock when its process ends, however it ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
