"""The dock: sensor lines from files onto Kafka, unread, in order and without loss."""
