"""What happens to files when a process is killed or the power fails, at each system call."""
