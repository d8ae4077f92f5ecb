"""Who runs scripts: Slurm, or this machine."""
