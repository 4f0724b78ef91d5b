"""What the tests of several backends and servers have in common."""
