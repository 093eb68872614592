"""Files as sources: reading, following and replaying them, and the position that is kept."""
