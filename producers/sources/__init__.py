"""Sources as given on the command line: their paths, the grants of their senders, and counters of exceptions in dialects."""
