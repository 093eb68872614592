"""Connects in a network namespace of its own and prints what it did, one JSON object a line: the truth for the live test."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time

CLIENT, SERVER = ("198.51.100.11", "2001:db8:51::11"), ("198.51.100.80", "2001:db8:51::80")
OPEN_SECS = 0.3


def reported(client: socket.socket, result: str, began: float) -> None:
    """One connection as its process knows it."""
    local, remote = client.getsockname()[:2], began
    print(
        json.dumps(
            {"pid": os.getpid(), "local_ip": local[0], "local_port": local[1], "result": result, "began": remote}
        ),
        flush=True,
    )


def connect(number: int, port: int, open_secs: float = OPEN_SECS) -> None:
    """One connection, held open for so long, or refused."""
    client = socket.socket(socket.AF_INET6 if number else socket.AF_INET)
    client.bind((CLIENT[number], 0))
    began = time.time()
    refused = client.connect_ex((SERVER[number], port))
    reported(client, "failed" if refused else "success", began)
    time.sleep(open_secs)
    client.close()


def main() -> None:
    """IPv4 and IPv6, answered and refused, from the process and from a thread of it that is gone at once."""
    for address in (*CLIENT, *SERVER):
        width = "128 nodad" if ":" in address else "32"
        subprocess.run(["ip", "address", "add", *f"{address}/{width}".split(), "dev", "lo"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for number in (0, 1):
        with socket.create_server((SERVER[number], 3128), family=socket.AF_INET6 if number else socket.AF_INET):
            connect(number, 3128)
            thread = threading.Thread(target=connect, args=(number, 3128, 0.0))
            thread.start()
            thread.join()
        connect(number, 8888)
    time.sleep(OPEN_SECS)


if __name__ == "__main__":
    main()
