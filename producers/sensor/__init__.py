"""Unproxy's sensor for Linux endpoints.

    run             the reading thread, its metrics, and the loop that writes or publishes lines
    queue           the bounded queue of lines
    errors          the context that skips a record after an error
    privileges      dropping of capabilities once the sockets are open

`kernel/` turns the tracepoint `sock:inet_sock_set_state` and /proc into lines of the dialect `sockets`:

    tracefs         the sensor's own ftrace instance
    trace_ring      the page layout of the trace buffer
    order           merging of the CPUs' records by time
    clock           conversion of the trace clock to UTC
    processes       the process of each connecting thread
    connections     socket state changes folded into connections
    byte_counts     byte counts of ended connections
    socket_lines    a connection as a line
    sock_diag       socket destruction, and the kernel's notifications of socket ends
    netlink         netlink messages
    nft_rules       nftables rules that send packets to the queue
    owner           names of kernel objects by the process that owns them

`enforce/` enforces the sensor's deny list and writes lines of the dialect `sensor`:

    deny_list       the list, reloaded when its file changes
    watched_file    reloading of a file on change
    enforcer        the decision on a listed request, and its verdict lines
    inline          packets held until the decision
    mode            the mode in effect, with its rules and threads

`http/` turns packets to and from proxies into lines of the dialect `sensor`:

    packet_filter   the BPF filter that selects packets
    capture         the packet ring
    packets         TCP segments parsed from packets
    segments        reassembly of a client's segments
    hosts           host names as proxies parse them
    heads           HTTP request and response heads, and which fields are reported
    client_hello    TLS client hellos
    socks           SOCKS requests
    reader          the parser of a client's byte stream
    level           requests and responses of each connection
    request_lines   a request or response as a line
    learning        proxies learnt from traffic
    observer        the thread that reads packets and passes requests to their consumers
"""
