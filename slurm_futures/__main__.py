"""`python -m slurm_futures` is the command slurm-futures."""

import sys

from slurm_futures.command.cli import main

sys.exit(main())
