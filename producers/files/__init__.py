"""Files as sources: reading, following and replaying them, batching their lines, and saving the position."""
