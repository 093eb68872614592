"""What tinyproxy writes, and which of its lines are about one request."""
