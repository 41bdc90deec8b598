"""The errors of choosing a pool.

SluiceError
└── PolicyError
    └── UnknownModel    a client's model name is no class, tier, alias or pool; carries the nearest names
"""

from __future__ import annotations

from pricing.errors import SluiceError


class PolicyError(SluiceError):
    """Base of the errors about policies in force. A file that is wrong is a `FileProblem`."""


class UnknownModel(PolicyError):
    """Nothing is called `name`. `nearest` holds up to three names that are, the closest first."""

    def __init__(self, name: str, nearest: tuple[str, ...], message: str) -> None:
        self.name = name
        self.nearest = nearest
        super().__init__(message)
