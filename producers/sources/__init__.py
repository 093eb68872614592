"""Sources as given on the command line: what they name, who may report through them, and failures while reading."""
