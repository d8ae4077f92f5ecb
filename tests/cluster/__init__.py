"""What Slurm itself does, and what we make of it: each test runs on a real one."""
