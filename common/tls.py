"""Encrypted connections as all our clients make them: certificates and names are always verified."""

from __future__ import annotations

import ssl

from schemas.settings import SettingsError


def context(settings: str, ca_file: str, client_cert_file: str = "") -> ssl.SSLContext:
    """Trust the authorities of a PEM file, or the system's; show a client's certificate, if any.

    `settings` is how the names of both settings begin, as in `kafka.ssl_`. Raises SettingsError.
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
