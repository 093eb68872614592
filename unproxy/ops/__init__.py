"""Operations on a running installation: check, refill, rejects, access control lists, bill of materials."""
