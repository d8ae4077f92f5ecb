"""Slurm's accounting: slurmdbd, and a MariaDB that only this cluster uses."""

from pathlib import Path

from tests.slurm.configuration import Configuration
from tests.slurm.daemons import ClusterError, Daemons

# Small files, and nothing is written through to the disk: none of it is kept.
_SMALL_AND_CARELESS = (
    "--innodb-log-file-size=8M",
    "--innodb-data-file-path=ibdata1:8M:autoextend",
    "--innodb-buffer-pool-size=64M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
)

_CREATE = """
    create database slurm_acct_db;
    create user slurm@'127.0.0.1' identified by 'slurm';
    grant all on slurm_acct_db.* to slurm@'127.0.0.1';
"""


class Accounting:
    """Starts the database, slurmdbd, and the account of the cluster's user.

    Their processes end with those of the cluster.
    """

    def __init__(self, configuration: Configuration, daemons: Daemons) -> None:
        self._configuration = configuration
        self._layout = configuration.layout
        self._daemons = daemons

    def start(self) -> None:
        """Start both; to be called before slurmctld.

        Raises:
            ClusterError: One of them did not come up.
        """
        self._start_database()
        self._write_configuration()
        self._start_slurmdbd()
        self._add_cluster()

    def sacctmgr(self, *arguments: object) -> str:
        """Run sacctmgr without questions and return what it printed."""
        return self._daemons.run(
            "sacctmgr", "--immediate", "--noheader", "--parsable2", *arguments
        )

    def _start_database(self) -> None:
        options = ["--no-defaults", f"--datadir={self._data}", *_SMALL_AND_CARELESS]
        self._daemons.start(
            "mariadb-install",
            "mariadb-install-db",
            *options,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            f"--user={self._daemons.user}",
        )
        self._daemons.start(
            "mariadb",
            *("setsid", "--fork", "mariadbd"),  # it does not go to the background
            *options,
            f"--user={self._daemons.user}",
            f"--socket={self._layout.socket('mariadb')}",
            f"--port={self._configuration.database_port}",
            "--bind-address=127.0.0.1",
            f"--pid-file={self._layout.pid_file('mariadb')}",
            "--innodb-lock-wait-timeout=900",  # slurmdbd insists
            "--skip-log-bin",
            "--skip-name-resolve",
        )
        self._wait_for("mariadb", *self._sql("select 1"))
        self._daemons.run(*self._sql(_CREATE))

    def _write_configuration(self) -> None:
        # slurmdbd looks for its file beside the slurm.conf of SLURM_CONF.
        path = self._layout.configuration.with_name("slurmdbd.conf")
        path.write_text(self._configuration.slurmdbd_conf())
        path.chmod(0o600)  # it refuses one that others may read
        self._daemons.hand_over(path)

    def _start_slurmdbd(self) -> None:
        self._daemons.start("slurmdbd", "slurmdbd")
        self._wait_for("slurmdbd", "sacctmgr", "--noheader", "show", "cluster")

    def _add_cluster(self) -> None:
        """Do what slurmctld would do by itself a few seconds later, and more."""
        user = self._daemons.user
        self.sacctmgr("add", "cluster", self._layout.cluster_name)
        if user != "root":  # who has an account from the start
            self.sacctmgr("add", "account", "tests")
            self.sacctmgr("add", "user", user, "account=tests")

    def _wait_for(self, daemon: str, *command: object) -> None:
        def answers() -> bool:
            try:
                self._daemons.run(*command)
            except ClusterError:
                return False
            return True

        self._daemons.wait_until(answers, daemon)

    def _sql(self, statements: str) -> tuple[str, ...]:
        socket = f"--socket={self._layout.socket('mariadb')}"
        return ("mariadb", "--no-defaults", "-uroot", socket, "-e", statements)

    @property
    def _data(self) -> Path:
        return self._layout.directory / "database/data"
