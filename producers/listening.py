"""What sources that listen have in common: the address, and what is said where it cannot be had."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import TypeVar

from producers.endpoint import Endpoint
from producers.source import SourceError
from schemas.address import split_authority

Bound = TypeVar("Bound")


def here(endpoint: Endpoint) -> str:
    """How a source that listens is called among the sensors: `host:http://0.0.0.0:8088/`, the path left out."""
    return f"{socket.gethostname()}:{endpoint.scheme}://{endpoint.places[0]}"


def bound(endpoint: Endpoint, bind: Callable[[tuple[str, int]], Bound]) -> Bound:
    """What `bind` makes of the address. Raises SourceError."""
    place = split_authority(endpoint.places[0], 0)
    try:
        return bind(place)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            said = "another program listens there; stop it, or name another port"
        elif error.errno in (errno.EACCES, errno.EPERM):
            said = "ports below 1024 need a right (CAP_NET_BIND_SERVICE); name a higher port"
        elif error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
            said = "this machine does not have that address; name one of its own, or 0.0.0.0"
        else:
            said = str(error.strerror)
        raise SourceError(f"{endpoint}: cannot be listened on: {said}") from None
