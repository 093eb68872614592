"""`unproxy up`, the whole pipeline on one machine: starts, watches and stops the processes, and shows the results."""
