"""The scheduler that runs the jobs on this machine."""
