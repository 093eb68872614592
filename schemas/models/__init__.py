"""Pydantic models of the contracts, for other programs; docs/consume.md shows how to use them. We do not import them."""
