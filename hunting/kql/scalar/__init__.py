"""Scalar expressions in SQL."""
