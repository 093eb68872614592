"""What Zeek's logs look like in files."""
