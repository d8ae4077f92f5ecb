"""CPython's own tests of executors, run on SlurmExecutor with the local scheduler.

Its classes for wait, as_completed, shutdown and initializer take any executor type; of
those that are for ProcessPoolExecutor we leave out what `_LEFT_OUT` lists.
"""

import pytest

from tests.contract import cpython_suite

_OF_POOL = "looks at the processes, queues or threads of a pool"
_ONLY_THIS_CALL = "breaks a pool; here only this call fails, with what was raised"
_STDOUT = "wants the call to print to our stdout; see test_exit.py"

#: Tests that cannot pass, or should not, and why.
_LEFT_OUT = {
    "test_killed_child": f"{_OF_POOL}; see test_workers.py",
    "test_saturation": _OF_POOL,
    "test_idle_process_reuse_one": _OF_POOL,
    "test_idle_process_reuse_multiple": _OF_POOL,
    "test_max_tasks_per_child": _OF_POOL,
    "test_max_tasks_per_child_defaults_to_spawn_context": _OF_POOL,
    "test_python_finalization_error": _OF_POOL,
    "test_shutdown_deadlock_pickle": f"{_OF_POOL}; see test_submit.py",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": _OF_POOL,
    "test_ressources_gced_in_workers": "passes on a proxy that only children may use",
    "test_interpreter_shutdown": _STDOUT,
    "test_hang_gh83386": _STDOUT,
    "test_cancel_futures": "wants a call to have started 1 ms after its submit",
    "test_exit_at_task_unpickle": _ONLY_THIS_CALL,
    "test_error_at_task_unpickle": _ONLY_THIS_CALL,
}

try:
    cpython_suite.prepare()
except ModuleNotFoundError as error:
    pytest.skip(
        f"needs CPython's test suite: install libpython3.11-testsuite ({error})",
        allow_module_level=True,
    )

for _part, _mixin in (
    ("test_wait", "WaitTests"),
    ("test_as_completed", "AsCompletedTests"),
    ("test_process_pool", "ProcessPoolExecutorTest"),
    ("test_shutdown", "ExecutorShutdownTest"),
    ("test_init", "InitializerMixin"),
    ("test_init", "FailingInitializerMixin"),
    ("test_deadlock", "ExecutorDeadlockTest"),
):
    globals()[_mixin] = cpython_suite.adapt(_part, _mixin, _LEFT_OUT)
