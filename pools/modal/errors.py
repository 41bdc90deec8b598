"""What goes wrong at Modal's side, in our words.

SluiceError
├── ModalTrouble        a deployment step failed; says what to do
└── PlatformUnavailable the control plane did not answer (`pools.platform`)
    └── NotDeployed     it did: there is no App of that pool
"""

from __future__ import annotations

from pools.platform import PlatformUnavailable
from pricing.errors import SluiceError


class ModalTrouble(SluiceError):
    """A step at Modal failed. Never holds a token or a secret's value."""


class NotDeployed(PlatformUnavailable):
    """Modal has no App of a pool: it was never deployed, or stopped since."""
