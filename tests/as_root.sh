#!/bin/sh
# Run a command as root: as it is for root, else as root of user, network and mount namespaces of its own, with only a loopback.
# Where the kernel allows no user namespaces, print what is left out.
[ "$(id -u)" -eq 0 ] && exec "$@"
PATH=$PATH:/usr/sbin:/sbin
alone="unshare --user --map-root-user --net --mount"
if ! $alone true 2> /dev/null; then
    echo "LEFT OUT, they need root and the kernel allows no user namespaces: $*"
    exit 0
fi
exec $alone sh -c 'ip link set lo up && exec "$@"' sh "$@"
