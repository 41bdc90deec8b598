"""What a stream has said so far, kept while another pool could go on with it."""

from __future__ import annotations

from array import array
from typing import Annotated, Final

import msgspec

from pools.wire.chunk import Chunk

_IDS: Final = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=0, lt=2**32)]])
_TEXT: Final = msgspec.json.Decoder(str)


class Transcript:
    """One answer as the pools gave it, piece by piece, over all attempts that had a part in it.

    `text` is what was said, as JSON between its quotes, so that no piece needs decoding. `prompt_ids` (JSON between
    its brackets) and `ids` (4 bytes a token) are the same in tokens of `tokenizer`: the prompt as the engine had it and
    what it generated after it. `last` is the newest chunk; a continued stream keeps its id, time and model.

    An engine waits with the text of tokens that end within a character. `spoken` ids are those up to the newest text;
    `ends_whole` says that they are known to end with a whole character, since that text came with one token alone.
    """

    __slots__ = (
        "_gap",
        "_ids_before",
        "_text_before",
        "ends_whole",
        "ids",
        "last",
        "otherwise",
        "prompt_ids",
        "spoken",
        "text",
        "tokenizer",
    )

    def __init__(self, tokenizer: str) -> None:
        self.tokenizer = tokenizer
        self.prompt_ids = b""
        self.ids = array("I")
        self.text = bytearray()
        self.last = b""
        self.spoken = 0
        self.ends_whole = True
        self.otherwise = False  # reasoning, a tool call or a refusal was among it
        self._text_before = 0  # bytes of `text` that `ids` do not cover
        self._ids_before = 0  # of attempts before the one that runs
        self._gap = False  # a chunk came without its ids

    def note(self, chunk: Chunk, data: bytes) -> None:
        """Take in one chunk of the first attempt, which goes out as it came."""
        self.last = data
        self.add(chunk, chunk.text)

    def add(self, chunk: Chunk, text: bytes) -> None:
        """Take in one chunk, of which `text` goes out."""
        self.text += text
        if chunk.says_otherwise:
            self.otherwise = True
        if not self.prompt_ids:
            self.prompt_ids = chunk.prompt_ids[1:-1]
        before = len(self.ids)
        if ids := chunk.token_ids:
            try:
                self.ids.extend(_IDS.decode(ids))
            except msgspec.DecodeError:
                self._gap = True
        elif chunk.text:
            self._gap = True
        if chunk.text:
            self.spoken = len(self.ids)
            self.ends_whole = self.spoken == before + 1

    def go_on(self) -> None:
        """The next attempt continues by token ids."""
        self._ids_before = len(self.ids)

    def keep(self, count: int) -> int:
        """Forget the ids after the first `count`, of which nothing was sent. Returns how many that were."""
        dropped = len(self.ids) - count
        del self.ids[count:]
        self.spoken = min(self.spoken, count)
        return dropped

    def begin_anew(self, tokenizer: str) -> None:
        """The next attempt continues by text: its prompt holds what was said, in tokens of its own."""
        self.tokenizer = tokenizer
        self.prompt_ids, self.ids = b"", array("I")
        self._text_before = len(self.text)
        self._ids_before, self._gap = 0, False
        self.spoken, self.ends_whole = 0, True

    def has_all_ids(self, completion_tokens: int | None) -> bool:
        """Whether prompt and answer are known token by token. `completion_tokens` is what the engine counted of the
        attempt that runs, None where it did not.
        """
        counted = completion_tokens is None or completion_tokens == len(self.ids) - self._ids_before
        return bool(self.prompt_ids) and not self._gap and counted

    @property
    def said(self) -> str | None:
        """What was said; None where it is not UTF-8, as between two halves of a character."""
        return _decoded(self.text)

    @property
    def said_in_ids(self) -> str:
        """The part of it that `ids` cover."""
        return _decoded(self.text[self._text_before :]) or ""

    @property
    def prompt_tokens(self) -> int:
        """Of `prompt_ids`."""
        return self.prompt_ids.count(b",") + 1 if self.prompt_ids else 0


def _decoded(text: bytes | bytearray) -> str | None:
    try:
        return _TEXT.decode(b'"' + text + b'"')
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
