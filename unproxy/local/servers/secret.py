"""The secret of an embedded server: it is made once, kept in the server's folder, and required of every client."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

SECRET_BYTES = 32
_FILE = "secret"


def secret_of(folder: Path) -> SecretStr:
    """Return the secret of the server in this folder; the first call creates it, readable for its owner only."""
    file = folder / _FILE
    if not file.exists():
        # Each writer has its own temporary file. The first link wins, and no reader sees an incomplete secret.
        fresh = folder / f"{_FILE}.{os.getpid()}"
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as out:
            out.write(secrets.token_urlsafe(SECRET_BYTES))
        try:
            os.link(fresh, file)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return SecretStr(file.read_text(encoding="ascii").strip())
