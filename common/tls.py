"""TLS settings of all clients: certificates and host names are always verified."""

from __future__ import annotations

import ssl

from schemas.settings import SettingsError


def context(settings: str, ca_file: str, client_cert_file: str = "") -> ssl.SSLContext:
    """Return a context that trusts the CAs of a PEM file, or of the system, and presents a client certificate, if given.

    `settings` is the common prefix of both settings' names, such as `kafka.ssl_`. Raises SettingsError.
    """
    name, file = "ca_file", ca_file
    try:
        made = ssl.create_default_context(cafile=ca_file or None)
        name, file = "client_cert_file", client_cert_file
        if client_cert_file:
            made.load_cert_chain(client_cert_file)
    except OSError as error:
        raise SettingsError(
            f"{settings}{name}: {file} cannot be used: {error.strerror or error}; give a PEM file"
        ) from None
    return made
