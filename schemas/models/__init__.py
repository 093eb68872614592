"""Pydantic models of the contracts, for other programs only; docs/consume.md shows how to use them."""
