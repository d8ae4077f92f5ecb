# mypy: ignore-errors
# (Runs in the environment of the peers, whose modules are not installed here.)
"""The same work on one library: started by `peers` and `pool`, one process for each.

    python peer_calls.py LIBRARY jobs N                  one job for each call
    python peer_calls.py LIBRARY pool N WORKERS          N no-op calls on a pool
    python peer_calls.py LIBRARY sleep N WORKERS         N calls of 50 ms on a pool

Prints one line of JSON: seconds from before the executor is made to the last result,
and what else was measured. Each library is used as its manual shows, with the settings
that suit short calls best. Files go to the current directory.
"""

import json
import os
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor

#: Workers in one Slurm job, of the libraries that can have several.
_PER_JOB = 8


def echo(number):
    """Do nothing."""
    return number


def nap(number):
    """Take 50 ms."""
    import time  # parsl sends a function without the module around it

    time.sleep(0.05)
    return number


# One job for each call. Each function returns the results.


def submitit_jobs(n):
    """Use an array; by default no more than 256 run at the same time."""
    import submitit

    executor = submitit.SlurmExecutor("submitit")
    executor.update_parameters(
        partition="debug", time=10, array_parallelism=n, use_srun=False
    )
    return [job.result() for job in executor.map_array(echo, range(n))]


def clusterfutures_jobs(n):
    """Use map: an sbatch for each call."""
    import cfut

    with cfut.SlurmExecutor(keep_logs=False) as executor:
        return list(executor.map(echo, range(n)))


def executorlib_jobs(n):
    """Submit each call: an sbatch for each, by pysqa."""
    from executorlib import SlurmClusterExecutor

    with SlurmClusterExecutor(
        cache_directory="executorlib",
        resource_dict={"cores": 1, "partition": "debug"},
    ) as executor:
        futures = [executor.submit(echo, number) for number in range(n)]
        return [future.result() for future in futures]


def cluster_tools_jobs(n):
    """Use an array."""
    import cluster_tools

    with cluster_tools.get_executor(
        "slurm", job_resources={"time": "00:10:00"}, cfut_dir="cluster_tools"
    ) as executor:
        futures = executor.map_to_futures(echo, list(range(n)))
        return [future.result() for future in futures]


def slurm_futures_jobs(n):
    """Use map, as one array."""
    from slurm_futures import SlurmExecutor

    with SlurmExecutor(directory="slurm_futures") as executor:
        return list(executor.map(echo, range(n)))


# Pools of workers. Each function returns a submit function and what ends the pool.


def dask_jobqueue_pool(workers):
    """Jobs of 8 workers, which start sooner than 16 jobs of one."""
    from dask_jobqueue import SLURMCluster
    from distributed import Client

    cluster = SLURMCluster(
        cores=_PER_JOB,
        processes=_PER_JOB,
        memory="4GB",
        walltime="00:10:00",
        interface="lo",
    )
    cluster.scale(jobs=-(-workers // _PER_JOB))
    client = Client(cluster)

    def close():
        client.close()
        cluster.close()

    return lambda fn, x: client.submit(fn, x, pure=False), close


def parsl_htex_pool(workers):
    """Blocks of 8 workers, which start sooner than 16 blocks of one."""
    import parsl
    from parsl import Config, python_app
    from parsl.executors import HighThroughputExecutor
    from parsl.launchers import SimpleLauncher
    from parsl.providers import SlurmProvider

    provider = SlurmProvider(
        partition="debug",
        nodes_per_block=1,
        cores_per_node=_PER_JOB,
        exclusive=False,
        init_blocks=-(-workers // _PER_JOB),
        max_blocks=-(-workers // _PER_JOB),
        walltime="00:10:00",
        launcher=SimpleLauncher(),
        worker_init=f". {sys.prefix}/bin/activate",
    )
    executor = HighThroughputExecutor(
        label="htex",
        address="127.0.0.1",
        provider=provider,
        max_workers_per_node=_PER_JOB,
        cores_per_worker=1,
        encrypted=False,
    )
    kernel = parsl.load(Config(executors=[executor], strategy="none", run_dir="parsl"))
    apps = {fn: python_app(fn) for fn in (echo, nap)}

    def close():
        kernel.cleanup()
        parsl.clear()

    return lambda fn, x: apps[fn](x), close


def process_pool_pool(workers):
    """The standard library on this machine: what there is to approach."""
    executor = ProcessPoolExecutor(workers)
    return executor.submit, executor.shutdown


def slurm_futures_pool(workers):
    """Jobs that live on."""
    from slurm_futures import SlurmExecutor

    executor = SlurmExecutor(
        max_workers=workers, max_tasks_per_child=None, directory="slurm_futures"
    )
    return executor.submit, executor.shutdown


def run_jobs(library, n):
    """Measure one job for each call."""
    began = time.perf_counter()
    results = globals()[f"{library}_jobs"](n)
    seconds = time.perf_counter() - began
    assert results == list(range(n))
    return {"seconds": seconds}


def run_pool(library, fn, n, workers):
    """Measure a pool: first result, last result, and calls while it is idle."""
    began = time.perf_counter()
    submit, close = globals()[f"{library}_pool"](workers)
    futures = [submit(fn, number) for number in range(n)]
    submitted = time.perf_counter() - began
    first_done = []
    for future in futures:
        future.add_done_callback(
            lambda _: first_done or first_done.append(time.perf_counter())
        )
    assert [future.result() for future in futures] == list(range(n))
    seconds = time.perf_counter() - began
    idle = [_time_idle_call(submit) for _ in range(10)]
    started = time.perf_counter()
    assert [f.result() for f in [submit(fn, i) for i in range(n)]] == list(range(n))
    warm = time.perf_counter() - started
    started = time.perf_counter()
    close()
    return {
        "seconds": seconds,
        "submitted": submitted,
        "first": first_done[0] - began,
        "warm": warm,
        "idle": sorted(idle)[len(idle) // 2],
        "idle_longest": max(idle),
        "closed": time.perf_counter() - started,
    }


def _time_idle_call(submit):
    time.sleep(0.5)
    began = time.perf_counter()
    assert submit(echo, 5).result() == 5
    return time.perf_counter() - began


def main():
    """Run what the command line says."""
    library, kind, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if kind == "jobs":
        figures = run_jobs(library, n)
    else:
        fn = {"pool": echo, "sleep": nap}[kind]
        figures = run_pool(library, fn, n, int(sys.argv[4]))
    print("\n" + json.dumps(figures), flush=True)


if __name__ == "__main__":
    code = 1
    try:
        main()
        code = 0
    except BaseException:  # noqa: BLE001  (the process ends here)
        traceback.print_exc()
    finally:
        os._exit(code)  # some leave threads behind that never end
