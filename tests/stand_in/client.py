"""Passes a command line to StandInSlurm, and prints what it answers.

Imports as little as possible: this is what each sbatch of a test costs.
"""

import json
import os
import socket
import sys


def main() -> int:
    """Run the command that is named in the first argument."""
    request = {
        "command": sys.argv[1:],
        "directory": os.getcwd(),  # noqa: PTH109  (pathlib takes 5 ms to import)
        "environment": dict(os.environ),
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["STAND_IN_SOCKET"])
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as stream:
            answer = json.load(stream)
    for text, file in (answer["stdout"], sys.stdout), (answer["stderr"], sys.stderr):
        file.buffer.write(os.fsencode(text))
    return int(answer["exit_code"])


if __name__ == "__main__":
    raise SystemExit(main())
