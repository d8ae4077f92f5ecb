"""Names of options: those of sbatch, ours, and what people type in their place."""

from __future__ import annotations

import difflib

#: Options that the library sets itself, and what to use instead.
_RESERVED = {
    "array": "map() makes job arrays, max_workers= limits how many jobs run at once",
    "chdir": "calls run in the directory in which the program runs; use os.chdir",
    "error": "each job has its own file, see SlurmFuture.stderr()",
    "help": "see the manual page sbatch(1)",
    "ignore_pbs": "the script holds no directives",
    "input": "calls read nothing; pass what they need as arguments",
    "open_mode": "the files of a job are always appended to",
    "output": "each job has its own file, see SlurmFuture.stdout()",
    "parsable": "SlurmFuture.job_id is the id of the job",
    "quiet": "sbatch prints nothing to your terminal",
    "test_only": "nothing would be submitted",
    "usage": "see the manual page sbatch(1)",
    "version": "see 'sbatch --version'",
    "wait": "use Future.result() or shutdown(wait=True)",
    "wrap": "submit a function; setup= takes shell lines that come before it",
}
#: Long options of sbatch, Slurm 20.11 to 26.05 (sbatch(1)).
_KNOWN = frozenset(
    """
    account acctg_freq batch bb bbf begin bell cluster clusters cluster_constraint
    comment constraint consolidate_segments container container_id contiguous
    core_spec cores_per_socket cpu_freq cpus_per_gpu cpus_per_task deadline
    delay_boot dependency distribution exclude exclusive export export_file
    extra extra_node_info get_user_env gid gpu_bind gpu_freq gpus gpus_per_node
    gpus_per_socket gpus_per_task gres gres_flags hint hold job_name kill_on_invalid_dep
    licenses mail_type mail_user mcs_label mem mem_bind mem_per_cpu mem_per_gpu mincpus
    network nice no_kill no_requeue nodefile nodelist nodes ntasks ntasks_per_core
    ntasks_per_gpu ntasks_per_node ntasks_per_socket oom_kill_step overcommit
    oversubscribe partition power prefer priority profile propagate qos reboot
    requeue resv_ports reservation segment signal sockets_per_node spread_job
    spread_segments stepmgr switches thread_spec threads_per_core time time_min tmp
    tres_bind tres_per_task uid use_min_nodes verbose wait_all_nodes wckey
    """.split()
)
#: Arguments of SlurmExecutor, which sbatch does not know.
OWN = frozenset(
    """
    directory grace idle_timeout initargs initializer keep max_tasks_per_child
    max_workers mp_context pending_timeout poll_interval progress python retries
    scheduler setup srun template
    """.split()
)
#: What people type, with names of other tools and short options, by what they mean.
_MEANT = {
    typed: meant
    for meant, names in {
        "account": "A allocation charge_account project",
        "clusters": "M",
        "constraint": "C constraints feature features",
        "cpus_per_task": """c core cores cores_per_worker cpu cpu_count cpus n n_cores
            n_cpus ncpus ncores nprocs num_cores num_cpus num_threads nthreads tasks
            threads""",
        "dependency": "d depends",
        "directory": """cache_dir dir folder local_directory log_dir log_directory
            log_folder logdir logs path root scratch shared_dir work_dir workdir""",
        "exclude": "exclude_nodes excluded_nodes x",
        "gpus": "G gpu n_gpus ngpus num_gpus",
        "initializer": "init",
        "job_name": "J jobname label name",
        "licenses": "L",
        "mail_user": "email mail",
        "max_workers": """array_parallelism concurrency jobs max_jobs maximum_jobs
            n_jobs n_workers njobs num_jobs num_workers parallelism pool_size processes
            workers""",
        "mem": "mem_gb mem_mb mem_per_job mem_per_node memory memory_gb memory_mb ram",
        "nodelist": "host hosts node w",
        "partition": "p partitions queue queues",
        "pending_timeout": "queue_timeout",
        "progress": "progress_bar show_progress",
        "python": "executable interpreter python_executable python_path shell",
        "qos": "q quality_of_service",
        "retries": "max_retries n_retries num_retries restarts retry",
        "scheduler": "backend cluster_type mode",
        "setup": """env env_vars environment extra_lines job_script_prologue load
            module modules preamble prologue scheduler_options setup_commands
            worker_init""",
        "time": """duration max_time maxtime runtime t time_limit timelimit timeout
            timeout_min wall_time walltime""",
    }.items()
    for typed in names.split()
}
#: Arguments of `map`.
_OF_MAP = frozenset({"chunksize", "buffersize", "return_exceptions"})


def refusal_of(name: str) -> str | None:
    """Say why there is no such option for sbatch, and what to type; None: there is."""
    if name in _RESERVED:
        return (
            f"The option {name!r} of sbatch is used by slurm_futures itself. "
            f"Leave it out: {_RESERVED[name]}."
        )
    if name in _KNOWN:
        return None
    if name in OWN:
        return (
            f"{name!r} is an argument of SlurmExecutor, for all of its calls: options()"
            f" changes options of sbatch alone. Write SlurmExecutor({name}=...)."
        )
    if name in _OF_MAP:
        return f"{name!r} is an argument of map(). Write executor.map(..., {name}=...)."
    meant = _find_meant(name)
    hint = f"did you mean {meant!r}?" if meant else "see sbatch(1) for its options."
    return (
        f"SlurmExecutor has no option {name!r}, and sbatch has no "
        f"'--{name.replace('_', '-')}'. Options of sbatch are written with their long "
        f"names, with underscores: {hint}"
    )


def _find_meant(name: str) -> str | None:
    plain = name.replace("-", "_").lower()
    for typed in (name, plain, plain.removeprefix("slurm_").removeprefix("sbatch_")):
        if typed in _MEANT:
            return _MEANT[typed]
        if typed in _KNOWN | OWN:
            return typed
    close = difflib.get_close_matches(plain, sorted(_KNOWN | OWN), n=1, cutoff=0.65)
    return close[0] if close else None
