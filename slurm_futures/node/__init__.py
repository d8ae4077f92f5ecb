"""What runs on the nodes: standard library only, copied into each run directory.

`job.sh.j2` is the script that Slurm starts; it starts `start.py`, and that `worker.py`.
The client imports `formats.py` from here, so that formats are written down once.
"""
