"""The tests of the engine itself build on this: scenarios, invariants, a simulation, a state machine. Private."""
