"""A run on disk, as the client writes and reads it: the only room that joins paths.

    <directory>/
        20261122-150942-sweep-k3f9/     one run, mode 0700
            run.json                    who, where, with what
            node.bundle start.py ...    run the calls on the nodes
            logs/                       what Slurm itself prints, a file for each job
            0001/                       one submission
                script.sh               exactly what sbatch got
                submission.json         job id, size, options, state
                calls.pkl               the calls of all jobs (see node/formats.py)
                attempt-1               which sbatch of this submission is the valid one
                adopted-4211            instead: which job, where sbatch had failed
                jobs/0-999/7/           a job directory, made by the job itself:
                    started stdout stderr outcomes
                finished/0-999/7        the exit code; appears when the calls are done
                finished/0-999/7.died   the same, if the worker did not live to do that,
                                        and the number of the attempt

Whatever the nodes write is found by listing directories, never by asking for a name
that may not exist yet: NFS may go on to say "not there" for minutes.
"""
