"""Our own sensor for Linux endpoints: the kernel's tracepoint `sock:inet_sock_set_state` and /proc become lines of `sockets`.

tracefs       an ftrace instance of our own
ring          its pages, as the kernel lays them out
order         records of several CPUs in the order of their times
clock         the trace's clock in UTC
processes     what is known of who connects
connections   changes of sockets folded into connections
counts        bytes of those that have ended
spelling      a connection as a line
queue         lines that wait
run           the thread that reads, the queue behind it, and what is told of it
errors        what an error in one record costs: that record
privileges    what is given up once the sockets are open

What it does about listed destinations, each a line of `sensor`:

listed        the sensor's own list, read again when the file changes
enforce       what becomes of a listed request, and the lines that tell of it
diag          sockets destroyed, and what the kernel tells of their ends
inline        packets held until it is known that they may go on
rules         the rules that lead them there
enforcement   the mode in force and all that it takes

Its HTTP level: packets to and from the proxies become lines of `sensor`.

filter        which of them the kernel gives us
capture       the ring that it puts them in
packets       TCP segments out of them
segments      a client's segments in order
hosts         hosts as proxies read them
heads, hello  requests, answers and client hellos, and how much of them is told
reader        what one client sends, read on and on
http_level    what is said on each connection
said          it as a line
hearing       the thread that reads packets, and whoever acts on what is said
"""
