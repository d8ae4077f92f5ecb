"""No jobs out of the import of a module, in the job that imports it.

A module that makes an executor when it is imported would do so in each of its jobs,
and each of these would submit as many again.
"""

from __future__ import annotations

import sys
import threading

_MESSAGE = """
        An attempt has been made to start new jobs before this
        job has finished its bootstrapping phase.

        This probably means that a module, which the job imports
        to find the function or the arguments of its call, makes a
        SlurmExecutor when it is imported, and that you have
        forgotten to use the proper idiom in that module:

            if __name__ == '__main__':
                with SlurmExecutor() as executor:
                    ...

        Use this idiom, or put these lines into a function. A call
        itself may make executors.
"""


def check_bootstrapped() -> None:
    """See that this is no job in which a call is being loaded, by this thread.

    Raises:
        RuntimeError: it is one.
    """
    # The copy of `node/modules.py` in a job; elsewhere there is none of this name.
    modules = sys.modules.get("slurm_futures_node.modules")
    if getattr(modules, "loading_thread", None) == threading.get_ident():
        raise RuntimeError(_MESSAGE)
