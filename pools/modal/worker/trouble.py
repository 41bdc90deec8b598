"""What a client and the log are told of a failure that nobody foresaw.

An exception's own words may be the client's: a tokenizer's error repeats the prompt. So its class is told, and to the
log where it came from; of running out of memory also how much was wanted, in torch's words, which hold no others.
"""

from __future__ import annotations

import re
import traceback
from typing import Final

# torch's own: its allocators', a plain CUDA error's and cuBLAS's. Matched from the message's beginning.
_OUT_OF_MEMORY: Final = re.compile(
    r"(?:CUDA|HIP) out of memory(?:\. Tried to allocate [\d.]+ \w+)?"
    r"|CUDA error: (?:out of memory|CUBLAS_STATUS_ALLOC_FAILED)"
    r"|\[enforce fail at alloc_cpu\.cpp:\d+\][^\n]{0,40} DefaultCPUAllocator: can't allocate memory"
)
_ITS_NAME: Final = "OutOfMemoryError"  # torch's class, and the word by which the router knows it


def told(trouble: Exception) -> str:
    """One line for the client."""
    name = type(trouble).__name__
    words = _OUT_OF_MEMORY.match(str(trouble))
    if words is not None or isinstance(trouble, MemoryError) or name == _ITS_NAME:
        return f"{_ITS_NAME}: {words[0] if words is not None else name}"
    return f"the model failed ({name}); the container's log says where"


def logged(trouble: Exception) -> str:
    """The same, and the way it came."""
    return f"{told(trouble)}\n{''.join(traceback.format_tb(trouble.__traceback__))}"
