"""Use of an observed name (SNI, Host) as the destination of a connection through a proxy. Pure."""

from __future__ import annotations

from streams.assess.assessment import Route, uses_tls_to_proxy
from streams.model.connection import ASKED, BY_HOST, BY_SNI, BY_VERDICT_NAME, REACHED, Connection
from streams.model.evidence import add_destination


def take_observed_name(connection: Connection, route: Route) -> bool:
    """Add the best observed name, SNI before Host, as a destination; return False if it cannot be the destination."""
    if not route.proxied or uses_tls_to_proxy(connection):
        return False
    observed = min(connection.names, key=lambda name: (not name.tls, name.at, name.name))
    if not observed.tls and (connection.connect or observed.name in (route.remote_ip, route.proxy_name)):
        return False
    by = BY_VERDICT_NAME if observed.has_verdict else BY_SNI if observed.tls else BY_HOST
    port, flags = (443, REACHED) if observed.tls else (80, ASKED)
    target, evidence = f"{observed.name}:{port}", (observed.at, observed.event_id)
    add_destination(connection, by, observed.name, port, target, flags, evidence, None, tunnel=observed.tls)
    return True
