"""What the tests of the engine itself are made of: scenarios, invariants, a simulation, a state machine. Private."""
