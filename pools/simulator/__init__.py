"""Simulated pools: servers that answer like vLLM behind a serverless platform, over real HTTP.

`SimulatedPools` runs any number of them in one process. `docs/simulator.md` says what is imitated and what is not.
"""

from pools.simulator.engine import EngineSettings
from pools.simulator.faults import FaultKind
from pools.simulator.roofline import CannotSimulate, speaks_chat
from pools.simulator.server import SimulatedPools, SimulatorSettings

__all__ = ["CannotSimulate", "EngineSettings", "FaultKind", "SimulatedPools", "SimulatorSettings", "speaks_chat"]
