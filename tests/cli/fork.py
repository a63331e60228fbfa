"""Asks `forks` for a process with this one's arguments, environment, directory and descriptors, and ends as it ends.

    python -I -S tests/cli/fork.py SOCKET ARGUMENT…

It imports next to nothing, and so starts in no time. Like a shell it says 128 and the number of a signal.
"""

from __future__ import annotations

import json
import os
import socket
import sys

with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    wanted = json.dumps([sys.argv[2:], dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(connection, [len(wanted).to_bytes(4, "big")], [0, 1, 2])
    connection.sendall(wanted)
    for descriptor in range(3):
        os.close(descriptor)  # the other end of a pipe sees it end with the command
    code = int(connection.recv(9) or 255)
os._exit(code if code >= 0 else 128 - code)
