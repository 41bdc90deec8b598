"""Stop strings that begin in what one pool said and end in what the next one says.

An engine looks for them in the text that it generates itself, so the pool that goes on never sees one that spans the
cut. The text ends before the string, or after it where the client asked to have it included, as vLLM does it.
"""

from __future__ import annotations

from collections.abc import Sequence

Found = tuple[int, int, str]
"""Where a stop string ends, its place in the client's list, and it: the least of several is the one that counts."""


class Join:
    """Watches the text at the cut and holds back what may turn out to belong to a stop string, and no more.

    `said` is what went out before the cut, `unsent` what was generated and has not: an engine keeps back as many
    characters as its longest stop string could still take away. Where it was not the first cut, a string may have been
    complete in there, and its pool broke before it could tell.
    """

    def __init__(self, stops: Sequence[str], said: str, unsent: str = "", *, included: bool = False) -> None:
        self._stops = tuple(stops)
        self._included = included
        reach = max(map(len, self._stops), default=1) - 1
        before = said[len(said) - min(reach, len(said)) :]
        self._text = before + unsent  # around the cut, from where a string could begin
        self._cut = len(self._text)
        self._begin = self._sent = len(before)
        self.stopped_by: str | None = None

    def feed(self, text: str) -> str:
        """Text that comes after the cut; returns what may go out. Sets `stopped_by` when a string is complete."""
        if self._sent > self._cut:  # no string can begin before the cut any more
            return text
        self._text += text
        found = min(self._completed(), default=None)
        return self._release(self._undecided()) if found is None else self._stop(found)

    def end(self, text: str, stop: str | None) -> str:
        """The last text, which the engine ended, at a stop string of its own where `stop` is one. A string that spans
        the cut may have been complete before that one, which the engine did not send unless it is included.
        """
        if self._sent > self._cut:
            return text
        self._text += text
        shown, own = len(self._text), None
        if stop in self._stops:
            self._text += "" if self._included else stop
            own = (len(self._text), self._stops.index(stop), stop)
        completed = [found for found in self._completed() if own is None or found < own]
        return self._stop(min(completed)) if completed else self._release(shown)

    def _stop(self, found: Found) -> str:
        end, _, self.stopped_by = found
        return self._release(end if self._included else end - len(self.stopped_by))

    def _completed(self) -> list[Found]:
        """Every stop string that begins before the cut and ends behind what had gone out."""
        found = []
        for place, stop in enumerate(self._stops):
            at = self._text.find(stop, max(0, self._begin - len(stop) + 1), self._cut - 1 + len(stop))
            if at >= 0:
                found.append((at + len(stop), place, stop))
        return found

    def _undecided(self) -> int:
        """Where the earliest string that is still possible begins; the end of the text where none is."""
        for at in range(self._cut):
            rest = self._text[at:]
            if any(len(rest) < len(stop) and stop.startswith(rest) for stop in self._stops):
                return at
        return len(self._text)

    def _release(self, end: int) -> str:
        out = self._text[self._sent : end]
        self._sent = max(self._sent, end)
        return out
