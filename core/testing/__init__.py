"""
The public test kit.

- For authors of plug-ins: `BackendConformance` and `CheckpointStoreConformance` test whether a backend or a checkpoint
  store keeps its contract. They need a harness of about ten lines.
- For programs that upload: `FaultPlan` with `FaultyBackend`, `FaultyCheckpointStore` and `FaultySource` makes any call
  fail, lose its response, or crash the process. `OSSServer` and `S3Server` are servers on the loopback interface,
  and `FaultyProxy` simulates a bad network to any server.
- For code that writes durable files: `crash_at` simulates a crash between two system calls, and `RecordedDisk` a power
  loss.
- For changes to the engine: `ResumeMachine` searches for a sequence of failures that breaks a promise; `strategies` has
  Hypothesis strategies for all values.

Modules are imported on first use, so that what needs no pytest, hypothesis or h11 works without them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

# Each lists in its `__all__` what it adds to this package.
_MODULES = (
    *("faults", "faulty", "fakes", "oracles", "proxy", "durability.crash_points", "durability.power_loss"),
    *("conformance.suite", "conformance_backend", "conformance_store"),
    # These need hypothesis.
    *("conformance.machines", "conformance.backend_machine", "conformance.store_machine", "_proof.state_machine"),
)
_SUBMODULES = (*(module for module in _MODULES if "." not in module), "strategies")

_SERVERS = ("OSSServer", "S3Server")

if TYPE_CHECKING:
    from partwise.server import OSSServer as OSSServer
    from partwise.server import S3Server as S3Server
    from partwise.testing import strategies as strategies
    from partwise.testing._proof.state_machine import *
    from partwise.testing.conformance.backend_machine import *
    from partwise.testing.conformance.machines import *
    from partwise.testing.conformance.store_machine import *
    from partwise.testing.conformance.suite import *
    from partwise.testing.conformance_backend import *
    from partwise.testing.conformance_store import *
    from partwise.testing.durability.crash_points import *
    from partwise.testing.durability.power_loss import *
    from partwise.testing.fakes import *
    from partwise.testing.faults import *
    from partwise.testing.faulty import *
    from partwise.testing.oracles import *
    from partwise.testing.proxy import *
else:  # a type checker would accept any name

    def __getattr__(name: str) -> object:
        if name in _SUBMODULES:
            return _import(name, name)
        if name in _SERVERS:
            return getattr(import_module("partwise.server"), name)
        if name == "__all__":
            names = [public for module in _MODULES for public in import_module(f"{__name__}.{module}").__all__]
            return [*names, *_SERVERS, "strategies"]
        if not name.startswith("_"):
            for module in _MODULES:
                found = _import(module, name)
                if name in found.__all__:
                    value = globals()[name] = getattr(found, name)
                    return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def _import(module: str, name: str) -> object:
        try:
            return import_module(f"{__name__}.{module}")
        except ModuleNotFoundError as error:
            if error.name != "hypothesis":
                raise
            from partwise._extras import missing_module

            raise missing_module(f"{__name__}.{name}", error, "testing") from error

    def __dir__() -> list[str]:
        return sorted({*globals(), *_SUBMODULES, *__getattr__("__all__")})
