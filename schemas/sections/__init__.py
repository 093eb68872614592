"""Sections of the settings; `schemas.settings` combines them."""
