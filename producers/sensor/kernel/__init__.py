"""Connections from the kernel: tracefs, sock_diag and /proc."""
