"""Unproxy's sensor for Linux endpoints.

run        the reading thread, its metrics, and the loop that writes or publishes lines
kernel/    the tracepoint `sock:inet_sock_set_state` and /proc: connections as lines of the dialect `sockets`
http/      packets to and from proxies: requests as lines of the dialect `sensor`
enforce/   the sensor's deny list: verdicts and modes as lines of the dialect `sensor`
"""
