"""One script for each question about speed and cost; README.md says which.

    python -m benchmarks.map_total --n 1000 --repeat 5

Each script starts a throw-away Slurm by itself (`tests.slurm`), checks what it has
computed, and prints a table and one line of JSON.
"""
