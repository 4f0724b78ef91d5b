"""Simulate crashes and power losses at each system call that changes a file."""
