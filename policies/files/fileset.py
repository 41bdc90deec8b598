"""The files of a policy, read and added up: one set, in which no key stands twice.

A folder is one set of its `*.yaml` files, without those that say `standalone: true`, which are whole policies of their
own. Everything taken from a file keeps its place, so that what is found wrong later can say where.
"""

from __future__ import annotations

import copy
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from weakref import WeakKeyDictionary

from pydantic import ValidationError

from policies.files.schema import PolicyFile
from policies.predict.expect import OutputTokens
from pricing.errors import FileProblem
from pricing.files.document import Document, is_folder, read_yaml
from pricing.files.validate import validate
from pricing.prices.book import is_book

T = TypeVar("T")

SHIPPED_FOLDER: Final = Path(__file__).parent
SHIPPED_DEFAULT: Final = SHIPPED_FOLDER / "default.yaml"
SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Placed(Generic[T]):
    """A value and where it stands."""

    value: T
    document: Document
    where: tuple[str | int, ...]

    def problem(self, text: str, *deeper: str | int) -> str:
        """`path:line: text`, with the line of this value or of a key inside it."""
        return self.document.problem((*self.where, *deeper), text)

    @property
    def place(self) -> str:
        return self.document.place(self.where)


@dataclass(frozen=True, slots=True)
class FileSet:
    """All files of one policy. `mapping`, `single` and `listing` look a section up over all of them.

    `mistakes` do not keep the rest from being checked: keys that stand in two files (the later one counts), and keys
    that nobody knows (left out).
    """

    files: tuple[tuple[Document, PolicyFile], ...]
    mistakes: tuple[str, ...] = ()

    @property
    def first_place(self) -> str:
        """Where to put a key that is in none of the files."""
        return self.files[0][0].place()

    def mapping(self, section: str) -> dict[str, Placed[Any]]:
        """The entries of a section whose keys are names, in the files' order."""
        return {
            str(name): Placed(value, document, (section, name))
            for document, shape in self.files
            for name, value in _entries(getattr(shape, section))
        }

    def single(self, section: str) -> Placed[Any] | None:
        """A section that one file of the set may have."""
        for document, shape in self.files:
            value = getattr(shape, section)
            if value is not None:
                return Placed(value, document, (section,))
        return None

    def listing(self, section: str) -> list[Placed[Any]]:
        """The items of a section that is a list."""
        return [
            Placed(value, document, (section, index))
            for document, shape in self.files
            for index, value in enumerate(getattr(shape, section))
        ]

    def catalogue_rows(self) -> list[Document]:
        """The catalogue rows of these files, as documents that keep their lines."""
        found = []
        for document, shape in self.files:
            rows = {name: document.data[name] for name in CATALOGUE if name in shape.model_fields_set}
            if rows:
                found.append(Document(document.path, rows, document.lines))
        return found


def _entries(section: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(section, Mapping):
        return section.items()
    return [(name, getattr(section, name)) for name in section.model_fields_set]


CATALOGUE: Final = ("gpus", "models", "pools")
SINGLE: Final = ("price_book", "timezone", "platform", "predict")
MAPPINGS: Final = ("defaults", "aliases", "classes", "tenants", "endpoints", "failed_attempts", "store")


def policy_files(paths: Sequence[Path]) -> list[Path]:
    """The files of these paths, each once: files as they are, folders by name.

    Raises FileProblem for a folder without any, and for what can be read only once, or never to its end.
    """
    found: list[Path] = []
    problems = []
    for path in paths:
        if is_folder(path):
            try:
                inside = [one for one in sorted(path.iterdir()) if _is_policy_file(one)]
            except OSError as error:
                problems.append(f"{path}:1: cannot read this folder: {error.strerror}")
                continue
            if not inside:
                problems.append(f"{path}:1: no policy files here; put *.yaml files into this folder")
            found += inside
        else:
            found.append(path)
    problems += [f"{path}:1: is a pipe or a device; write what it says into a file" for path in found if _flows(path)]
    if problems:
        raise FileProblem(problems)
    return list(dict.fromkeys(found))


def _flows(path: Path) -> bool:
    """Whether it cannot be read again, as every file is. False where it cannot be looked at: reading it says why."""
    try:
        kind = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(kind) and not stat.S_ISDIR(kind)


def _is_policy_file(path: Path) -> bool:
    """By name alone: a link that leads nowhere is a file that cannot be read, not a file that is not there."""
    return path.suffix in SUFFIXES and not path.name.startswith(".") and not is_folder(path)


def read_set(paths: Sequence[Path]) -> FileSet:
    """Read and add up. Raises FileProblem with all that is wrong, but for `FileSet.mistakes`."""
    problems: list[str] = []
    mistakes: list[str] = []
    named = {path for path in paths if not is_folder(path)}
    files: list[tuple[Document, PolicyFile]] = []
    for path in policy_files(paths):
        try:
            document = read_yaml(path)
            shape, unknown = _shape_of(document)
        except FileProblem as error:
            problems += error.problems
            continue
        if path in named or not shape.standalone:
            files.append((document, shape))
            mistakes += unknown
    if not files and not problems:
        problems.append(f"{paths[0]}:1: every file here is `standalone: true`; name the one to use")
    if problems:
        raise FileProblem([*problems, *mistakes])
    return FileSet(tuple(files), (*mistakes, *_repeated(files)))


_shapes: Final[WeakKeyDictionary[Document, tuple[PolicyFile, list[str]]]] = WeakKeyDictionary()
"""Of documents that are still in use: a set is read several times for one look at it."""


def _shape_of(document: Document) -> tuple[PolicyFile, list[str]]:
    """A file's shape, and the problems of its unknown keys. Raises FileProblem where anything else is wrong."""
    if document not in _shapes:
        _shapes[document] = _validated(document)
    return _shapes[document]


def _validated(document: Document) -> tuple[PolicyFile, list[str]]:
    if is_book(document.data):
        text = "this is a price book; put it into a folder of its own, and name that folder under price_books:"
        raise FileProblem([document.problem((), text)])
    try:
        return validate(document, PolicyFile), []
    except FileProblem as error:
        known = copy.deepcopy(document.data)
        if not _drop_unknown_keys(known):
            raise
        return PolicyFile.model_validate(known), error.problems


def _drop_unknown_keys(data: Any) -> bool:
    """Take unknown keys out; whether nothing else is wrong."""
    try:
        PolicyFile.model_validate(data)
    except ValidationError as error:
        details = error.errors()
        if any(detail["type"] != "extra_forbidden" for detail in details):
            return False
        for detail in details:
            *way, key = detail["loc"]
            holder = data
            for step in way:
                holder = holder[step]
            del holder[key]
    return True


def set_files(folder: Path) -> list[Path]:
    """The files of a folder that make its set. Raises FileProblem for a folder without any policy file."""
    return [file for file in policy_files([folder]) if not _is_standalone(file)]


def _is_standalone(path: Path) -> bool:
    """False for a file that cannot be read: reading it with the set says why."""
    try:
        data = read_yaml(path).data
    except FileProblem:
        return False
    return isinstance(data, Mapping) and data.get("standalone") is True


def outside_paths(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The price books, files or folders, and the model that the files name; none where the files cannot be read."""
    try:
        files = read_set(paths)
    except FileProblem:
        return ()
    books = tuple(placed.document.path.parent / placed.value for placed in files.listing("price_books"))
    model = model_path(files)
    return books if model is None else (*books, model)


def model_path(files: FileSet) -> Path | None:
    """The file of the model that expectations are to be drawn from; None where they are not, or no file is named."""
    placed = files.single("predict")
    if placed is None or placed.value.output_tokens is not OutputTokens.MODEL or placed.value.file is None:
        return None
    return placed.document.path.parent / str(placed.value.file)


def _repeated(files: Sequence[tuple[Document, PolicyFile]]) -> list[str]:
    """Keys that stand in two files of the set, each with both places."""
    first: dict[tuple[str, ...], str] = {}
    problems = []
    for document, shape in files:
        for steps in _keys(shape):
            place = document.place(steps)
            if steps in first:
                name = ".".join(steps)
                problems.append(f"{place}: '{name}' stands at {first[steps]} already; keep one of the two")
            first.setdefault(steps, place)
    return problems


def _keys(shape: PolicyFile) -> Iterable[tuple[str, ...]]:
    for section in SINGLE:
        if section in shape.model_fields_set:
            yield (section,)
    for section in MAPPINGS:
        for name, _ in _entries(getattr(shape, section)):
            yield (section, str(name))
