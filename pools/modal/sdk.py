"""What calls of Modal's SDK raise where they fail: its own errors, and those of what lies below it.

It turns statuses and refused connections into its own; a connection that breaks under a question, or whose other end
speaks something else, comes through as the gRPC library's.
"""

from __future__ import annotations

from typing import Final

from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from modal.exception import Error

FAILED: Final = (Error, GRPCError, ProtocolError, StreamTerminatedError, OSError)
