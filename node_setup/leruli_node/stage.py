"""What Nomad runs as stage-in and stage-out: asks the agent and exits as it answers.

Run as `python -I -S stage.py in|out SOCKET`: only modules that are part of the interpreter, for it
runs twice a job, and `os` and `socket` with what they import would take half of its time.
NOMAD_META_job, NOMAD_META_attempt and NOMAD_ALLOC_ID come from its environment. One line is sent,
`<in|out> <job> <attempt> <allocation>`, and one comes back, `<exit code> <sentence>`. A connection
that ends without an answer means that the agent was restarted: the line is sent again, the agent
knows what it did already.
"""

from __future__ import annotations

import _socket
import posix
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # Not imported when it runs: it would cost milliseconds.
    from collections.abc import Mapping

EX_USAGE = 64
EX_TEMPFAIL = 75
# How long to go on when no agent listens: jobs that have not started are given back soon, those
# that ran must get their receipt.
PATIENCE = {"in": 60.0, "out": 86400.0}


def ask(path: str, line: bytes) -> bytes:
    """One try: the answer's line as bytes, or b"" when the connection ended without one."""
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(path)
        connection.sendall(line)
        answer = b""
        while not answer.endswith(b"\n"):
            some = connection.recv(4096)
            if not some:
                return b""
            answer += some
        return answer
    finally:
        connection.close()


def main(argv: list[str], environ: Mapping[bytes, bytes]) -> int:
    """The exit code that the agent answered, 75 when there was no agent in time."""
    try:
        direction, path = argv[1:]
        patience = PATIENCE[direction]
        words = [environ[b"NOMAD_META_job"], environ[b"NOMAD_META_attempt"]]
        words.append(environ[b"NOMAD_ALLOC_ID"])
    except (KeyError, ValueError):
        sys.stderr.write("usage, by Nomad only: stage.py in|out SOCKET\n")
        return EX_USAGE
    line = b" ".join([direction.encode(), *words]) + b"\n"
    deadline = time.monotonic() + patience
    delay = 0.05
    while True:
        try:
            answer = ask(path, line)
            if answer:
                code, _, sentence = answer.decode("utf-8", "replace").strip().partition(" ")
                if sentence:
                    sys.stderr.write(sentence + "\n")
                return int(code)
            # An agent was there: its restart gets the whole time again.
            deadline = time.monotonic() + patience
        except OSError:
            pass
        if time.monotonic() >= deadline:
            sys.stderr.write("no node agent is listening\n")
            return EX_TEMPFAIL
        time.sleep(delay)
        delay = min(2.0, delay * 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv, posix.environ))
