"""Our own sensor for Linux endpoints: the kernel's tracepoint `sock:inet_sock_set_state` and /proc become lines of `sockets`.

tracefs       an ftrace instance of our own
ring          its pages, as the kernel lays them out
order         records of several CPUs in the order of their times
clock         the trace's clock in UTC
processes     what is known of who connects
connections   changes of sockets folded into connections
spelling      a connection as a line
run           the thread that reads, the queue behind it, and what is told of it
"""
