"""A part of the engine under test, loaded by vLLM itself (`--logits-processors`): steps that take as long as a GPU's.

The tiny model makes a thousand steps a second. vLLM's API server then falls behind its own engine and sends an answer's
first words together with its last, which a server with a real model does not do.
"""

from __future__ import annotations

import time

from vllm.v1.sample.logits_processor import LogitsProcessor

STEP_S = 0.003


class Paced(LogitsProcessor):
    """Waits once a step and changes nothing."""

    def __init__(self, vllm_config: object, device: object, is_pin_memory: bool) -> None:
        pass

    def is_argmax_invariant(self) -> bool:
        """False although it is: vLLM leaves out the others where all requests are greedy."""
        return False

    def update_state(self, batch_update: object) -> None:
        pass

    def apply(self, logits: object) -> object:
        time.sleep(STEP_S)
        return logits
