"""The command slurm-futures."""
