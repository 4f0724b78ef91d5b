"""
The public test kit.

- For authors: `BackendConformance` and `CheckpointStoreConformance` show whether a backend or a store of your own keeps
  the promises of its protocol. A harness of some ten lines is all they ask for.
- For programs that upload: `FaultPlan` with `FaultyBackend`, `FaultyCheckpointStore` and `FaultySource` lets any call
  fail, lose its answer, or be the last one before the process dies. `OSSServer` is an OSS-protocol server on loopback,
  and `FaultyProxy` a poor way to it, or to any other.
- For whoever writes files that are to last: `crash_at` lets a process die between two calls of the operating system,
  and `RecordedDisk` plays the loss of power.
- For the engine, and whoever changes it: `ResumeMachine`, which looks for a sequence of failures that breaks a promise,
  and `strategies` to draw from.

Nothing here is imported before it is used, so that the parts that need no pytest, hypothesis or h11 work without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from partwise.server import OSSServer
    from partwise.testing import strategies
    from partwise.testing._proof.state_machine import ResumeMachine
    from partwise.testing.conformance.backend_harness import BackendHarness, shown_options
    from partwise.testing.conformance.backend_machine import backend_machine
    from partwise.testing.conformance.machines import run_machine
    from partwise.testing.conformance.store_harness import StoreHarness
    from partwise.testing.conformance.store_machine import agreement_machine, store_machine
    from partwise.testing.conformance.suite import Check, NotApplicable, Suite
    from partwise.testing.conformance_backend import BACKEND_CHECKS, BackendConformance
    from partwise.testing.conformance_store import STORE_CHECKS, CheckpointStoreConformance
    from partwise.testing.durability.crash_points import crash_at, crashes_at
    from partwise.testing.durability.power_loss import PowerLoss, RecordedDisk, Survival
    from partwise.testing.fakes import ChangingSource, ChunkListBody, StrictBody, pseudo_random_bytes
    from partwise.testing.faults import Call, Fault, FaultKind, FaultPlan, SimulatedCrash
    from partwise.testing.faulty import FaultyBackend, FaultyCheckpointStore, FaultySource
    from partwise.testing.oracles import in_order, slow_crc64
    from partwise.testing.proxy import FaultyProxy, LinkConditions, LinkFault

_HOMES = {
    "BACKEND_CHECKS": "conformance_backend",
    "BackendConformance": "conformance_backend",
    "BackendHarness": "conformance.backend_harness",
    "shown_options": "conformance.backend_harness",
    "STORE_CHECKS": "conformance_store",
    "CheckpointStoreConformance": "conformance_store",
    "StoreHarness": "conformance.store_harness",
    "Check": "conformance.suite",
    "NotApplicable": "conformance.suite",
    "Suite": "conformance.suite",
    "agreement_machine": "conformance.store_machine",
    "backend_machine": "conformance.backend_machine",
    "run_machine": "conformance.machines",
    "store_machine": "conformance.store_machine",
    "Call": "faults",
    "Fault": "faults",
    "FaultKind": "faults",
    "FaultPlan": "faults",
    "SimulatedCrash": "faults",
    "FaultyBackend": "faulty",
    "FaultyCheckpointStore": "faulty",
    "FaultySource": "faulty",
    "crashes_at": "durability.crash_points",
    "crash_at": "durability.crash_points",
    "ChangingSource": "fakes",
    "ChunkListBody": "fakes",
    "StrictBody": "fakes",
    "pseudo_random_bytes": "fakes",
    "in_order": "oracles",
    "slow_crc64": "oracles",
    "PowerLoss": "durability.power_loss",
    "RecordedDisk": "durability.power_loss",
    "Survival": "durability.power_loss",
    "FaultyProxy": "proxy",
    "LinkConditions": "proxy",
    "LinkFault": "proxy",
    "ResumeMachine": "_proof.state_machine",
}

__all__ = [
    # conformance
    "BACKEND_CHECKS",
    "BackendConformance",
    "BackendHarness",
    "Check",
    "CheckpointStoreConformance",
    "NotApplicable",
    "STORE_CHECKS",
    "StoreHarness",
    "Suite",
    "agreement_machine",
    "backend_machine",
    "run_machine",
    "shown_options",
    "store_machine",
    # faults
    "Call",
    "ChangingSource",
    "Fault",
    "FaultKind",
    "FaultPlan",
    "FaultyBackend",
    "FaultyCheckpointStore",
    "FaultySource",
    "PowerLoss",
    "RecordedDisk",
    "SimulatedCrash",
    "Survival",
    "crashes_at",
    "crash_at",
    # data and witnesses
    "ChunkListBody",
    "StrictBody",
    "pseudo_random_bytes",
    "in_order",
    "slow_crc64",
    "strategies",
    # larger ones
    "FaultyProxy",
    "LinkConditions",
    "LinkFault",
    "OSSServer",
    "ResumeMachine",
]


def __getattr__(name: str) -> object:
    if name == "strategies":
        return import_module("partwise.testing.strategies")
    if name == "OSSServer":
        return import_module("partwise.server").OSSServer
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
