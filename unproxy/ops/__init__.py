"""Operations on a running installation: check, detach-damaged, rejects, access control lists, bill of materials."""
