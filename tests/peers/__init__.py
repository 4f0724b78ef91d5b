"""Programs that others wrote, for the tests of the servers."""
