"""Answers from a log that is no ledger: a CSV file, for training before there is traffic of one's own."""

from __future__ import annotations

import csv
import gzip
import zlib
from pathlib import Path
from typing import Final

from policies.predict.question import Question
from pricing.clock import US_PER_S
from pricing.errors import FileProblem
from router.learning.examples import Sample
from router.learning.judge import Service

COLUMNS: Final = ("t_s", "who", "prompt_tokens", "output_tokens")
ONE_CLASS: Final = "chat"
MOST_TOKENS: Final = 10_000_000  # far above any context
LATEST_S: Final = 100_000_000_000  # three thousand years: what is beyond is no number of seconds, but of milliseconds


def read_trace(path: Path, service: Service) -> list[Sample]:
    """Rows of `COLUMNS`: seconds since any instant, whose request, and its tokens; plain or gzipped. An answer is
    complete after the time that `service` says. A spreadsheet's mark of UTF-8 may come first. Raises FileProblem.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileProblem([f"{path}:1: the trace cannot be read: {reason}; name another with --trace"]) from None
    lines = csv.DictReader(text.splitlines())
    if tuple(lines.fieldnames or ()) != COLUMNS:
        raise FileProblem([f"{path}:1: the first line of a trace is: {','.join(COLUMNS)}"])
    try:
        return [_sample(row, service) for row in lines]
    except (TypeError, ValueError, OverflowError, csv.Error) as error:
        line = lines.line_num + isinstance(error, csv.Error)  # which comes before the line is counted
        text = f"not seconds (to {LATEST_S:,}), a name and two numbers of tokens, 0 to {MOST_TOKENS:,}"
        raise FileProblem([f"{path}:{line}: {text}; correct or delete the line"]) from None


def _sample(row: dict[str, str], service: Service) -> Sample:
    prompt, tokens = int(row["prompt_tokens"]), int(row["output_tokens"])
    if not (0 <= prompt <= MOST_TOKENS and 0 <= tokens <= MOST_TOKENS):
        raise ValueError("tokens out of range")
    at_s = float(row["t_s"])
    if not abs(at_s) <= LATEST_S or None in row:  # where there is more than the columns have names for
        raise ValueError("no instant, or too many values")
    at_us = round(at_s * US_PER_S)
    question = Question(row["who"], ONE_CLASS, prompt)
    return Sample(question, tokens, at_us, at_us + round(service.seconds(tokens) * US_PER_S))
