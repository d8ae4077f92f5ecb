"""A run on disk, as the client writes and reads it: the only room that joins paths.

    <directory>/
        20261122-150942-sweep-k3f9/     one run, mode 0700
            run.json                    who, where, with what
            node.bundle start.py ...    run the calls on the nodes
            owner/                      who may submit, cancel and delete: see lease.py
            logs/                       what Slurm itself prints, a file for each job
            0001/                       one submission
                script.sh               exactly what sbatch got
                submission.json         job id, size, options, state
                calls.pkl               the calls of all jobs (see node/formats.py)
                attempt-1               which sbatch of this submission is the valid one
                adopted-4211            instead: which job, where sbatch had failed
                emptied                 with keep="failed": only failures are left
                jobs/0-999/7/           a job directory, made by the job itself:
                    started stdout stderr
                finished/0-999/7        the outcomes; appear when the calls are done
                finished/0-999/7.raised-2   how many of its calls left no value
                finished/0-999/7.NAME   the same while attempt NAME runs the calls, and
                                        if it is cut short
                    7.NAME.withdrawn    if the client does not wait for it any more
                finished/0-999/7.died   exit code and number of the attempt that ended
                                        without that, and why if no call had begun
                finished/0-999/7.ending exit code of one that Slurm told to end
            pool-1/                     one queue: see node/pool_worker.py
            pool-1-failed/              at its end: what tells of calls that failed

Whatever the nodes write is found by listing directories, never by asking for a name
that may not exist yet: NFS may go on to say "not there" for minutes.
"""
