"""Who runs a script: Slurm, or this machine; and the words that they share."""
