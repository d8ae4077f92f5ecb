"""The same with workers, jobs that take call after call from a queue of files."""
