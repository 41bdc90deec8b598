"""What goes wrong at Modal's side, in our words.

SluiceError
├── ModalTrouble        a deployment step failed; says what to do
└── PlatformUnavailable the control plane did not answer (`pools.platform`)
"""

from __future__ import annotations

from pricing.errors import SluiceError


class ModalTrouble(SluiceError):
    """A step at Modal failed. Never holds a token or a secret's value."""
