"""The text of policy files without what could be a secret, for people who look at it from elsewhere.

The schema refuses API keys, header values and webhook secrets that are not `${VARIABLE}` (`policies.files.schema`), so
that what is left to hide is what it cannot refuse: hashes of keys, of which the first digits stay, so that a change
shows; tokens inside of addresses; and whatever people write into comments. What the environment gave a policy is hidden
wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

HIDDEN: Final = "…hidden…"
KNOWN_AT_LEAST: Final = 8  # characters of a known secret that is hidden; shorter ones are words of any text
_HASH: Final = re.compile(r"\b([0-9a-fA-F]{8})[0-9a-fA-F]{56}\b")
_USER: Final = re.compile(r"(\b[a-z][a-z0-9+.-]*:(?:\\?/){2})[^/\s\"'@]*@", re.IGNORECASE)
_QUERY: Final = re.compile(r"(\bhttps?:(?:\\?/){2}[^\s\"'?#]*[?#])[^\s\"']+", re.IGNORECASE)
_HOOK: Final = re.compile(r"(\bhttps?:(?:\\?/){2}[^\s\"'/\\]+)(?:\\?/)[^\s\"']+", re.IGNORECASE)
_PREFIXED: Final = re.compile(
    r"\b(sk|ak|as|pk|rk|gh[oprsu]|github_pat|xox[a-z]|whsec|hf|AKIA)([-_]?)[A-Za-z0-9_-]{12,}"
)
_NAMED: Final = re.compile(
    r"((?:api[_-]?key|secret|token|password|passwd|authorization|bearer)\w*[\"']?\s*[:=]?\s*[\"']?(?:bearer\s+)?)"
    r"(?!\$\{|os\.environ/)([^\s\"',}\]]{6,})",
    re.IGNORECASE,
)


def hide_secrets(text: str, known: Collection[str] = ()) -> str:
    """The text with what could be a secret replaced, line by line, so that lines stay what they were.

    `known` are values that are secrets for sure, hidden word by word.
    """
    hooks = _lines_of_hooks(text.splitlines(keepends=True))
    words = {word for value in known for word in value.split() if len(word) >= KNOWN_AT_LEAST}
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, HIDDEN)
    lines = text.splitlines(keepends=True)
    return "".join(_hidden(line, number in hooks) for number, line in enumerate(lines))


def _hidden(line: str, of_hook: bool) -> str:
    line = _HASH.sub(rf"\1{HIDDEN}", line)
    line = _USER.sub(rf"\1{HIDDEN}@", line)
    line = _HOOK.sub(rf"\1/{HIDDEN}", line) if of_hook else _QUERY.sub(rf"\1{HIDDEN}", line)
    line = _PREFIXED.sub(rf"\1\2{HIDDEN}", line)
    body, mark, comment = line.partition("#")
    return body + mark + _NAMED.sub(rf"\1{HIDDEN}", comment)


def _lines_of_hooks(lines: list[str]) -> set[int]:
    """Numbers of the lines that may hold a webhook's address: some services put their token into its path.

    From `webhooks:` to the next key at the margin; a file in JSON, or in YAML's flow style, from there to its end.
    """
    found: set[int] = set()
    inside = False
    for number, line in enumerate(lines):
        if re.match(r"[^\s#\-\]}]", line) and not line.startswith(("{", '"webhooks"', "'webhooks'")):
            inside = False
        inside = inside or re.search(r"\bwebhooks\b[\"']?\s*:", line) is not None
        if inside:
            found.add(number)
    return found
