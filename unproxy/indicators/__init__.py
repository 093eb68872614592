"""Import of indicators and suppressions, from the command line and files to the topic `indicators`, and their export."""
