"""Connections and processes from the kernel: tracefs, sock_diag and /proc."""
