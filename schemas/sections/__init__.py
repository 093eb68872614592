"""Sections of the settings that `schemas.settings` joins."""
