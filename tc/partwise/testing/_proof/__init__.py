"""What the tests of the engine build on: scenarios, invariants, simulation."""
