"""The capture of packets to and from proxies on this machine's devices: an AF_PACKET socket with a ring shared with the kernel.

The kernel fills blocks of the ring and wakes the reader for each, after at most `RETIRE_MILLIS`; there is no system call per
packet. All devices are captured, including later ones. Sources: Documentation/networking/packet_mmap.rst (TPACKET_V3), packet(7),
include/uapi/linux/if_packet.h. Needs CAP_NET_RAW.
"""

from __future__ import annotations

import ctypes
import mmap
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from producers.sensor.errors import Errors
from producers.sensor.http.packet_filter import PORTS_MAX, program_of
from producers.sensor.http.packets import Packet, parse_packet
from producers.sensor.kernel.nft_rules import ProxyAddress
from producers.sensor.kernel.tracefs import SensorError
from schemas.events import Micros

BLOCK_BYTES = 64 * 1024
BLOCKS = 512
"""Number of blocks: 32 MiB of kernel memory. When the ring is full, packets are dropped and counted. A block is retired after
`RETIRE_MILLIS` even with few packets, so the ring lets the reader pause for 5 s."""
FRAME_BYTES = 2_048
"""Used only to declare the ring's size to the kernel; packets take the room they need."""
RETIRE_MILLIS = 10
ETH_P_ALL = 0x0003
SOL_PACKET, PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 263, 5, 6, 10
SO_ATTACH_FILTER = 26
TPACKET_V3 = 2
_OURS = 1
"""TP_STATUS_USER: the kernel has released the block to the reader."""
_INSTRUCTION_BYTES = 8
_BLOCK = struct.Struct("=8xIII")
_STATUS = struct.Struct("=I")
_STATUS_AT = 8
_FRAME = struct.Struct("=IIIIIIHH")
_STATISTICS = struct.Struct("=III")


class Capture:
    """The socket and its ring. The constructor raises OSError if the kernel refuses."""

    def __init__(self, ports: Iterable[int], *, learns: bool = False) -> None:
        """Capture packets of these ports; with `learns`, also those from which other proxies are learnt."""
        self._ports, self._learns = frozenset(ports), learns
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
        try:
            self.follow()
            self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
            frames = BLOCK_BYTES // FRAME_BYTES * BLOCKS
            ring = struct.pack("=7I", BLOCK_BYTES, BLOCKS, FRAME_BYTES, frames, RETIRE_MILLIS, 0, 0)
            self._socket.setsockopt(SOL_PACKET, PACKET_RX_RING, ring)
            self._ring = mmap.mmap(self._socket.fileno(), BLOCK_BYTES * BLOCKS)
            # Bind last, so that every captured packet has passed the filter.
            self._listen()
        except BaseException:  # close the socket on any exception
            self._socket.close()
            raise
        self._block = 0
        self.errors = Errors("a packet")
        self.is_drained = True
        """Whether the last read took all available packets."""
        self.dropped = 0
        """Packets that the ring dropped, as of the last `look`."""

    @property
    def retire_secs(self) -> float:
        """Return the time in seconds after which a packet is readable, including the wake-up."""
        return 3 * RETIRE_MILLIS / 1_000

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._socket.fileno()

    def follow(self, learnt: Iterable[ProxyAddress] = ()) -> None:
        """Replace the learnt proxies whose packets are captured too. No packet is missed during the change."""
        program = program_of(self._ports, learnt, learns=self._learns)
        kept = ctypes.create_string_buffer(program, len(program))
        given = struct.pack("HP", len(program) // _INSTRUCTION_BYTES, ctypes.addressof(kept))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, given)

    def read(self) -> Iterator[tuple[Micros, Packet]]:
        """Yield the available segments with the kernel's timestamps, at most one full ring."""
        for _ in range(BLOCKS):
            begin = self._block * BLOCK_BYTES
            status, packets, first = _BLOCK.unpack_from(self._ring, begin)
            self.is_drained = not status & _OURS
            if self.is_drained:
                return
            at = begin + first
            for _ in range(packets):
                following, secs, nanos, captured, wire, _, _, ip_at = _FRAME.unpack_from(self._ring, at)
                packet = None
                with self.errors:
                    packet = parse_packet(self._ring[at + ip_at : at + ip_at + captured], wire)
                if packet is not None:
                    yield secs * 1_000_000 + nanos // 1_000, packet
                at += following
            _STATUS.pack_into(self._ring, begin + _STATUS_AT, 0)
            self._block = (self._block + 1) % BLOCKS

    def look(self) -> int:
        """Read the kernel's counter; return the number of packets dropped so far."""
        counts = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size)
        self.dropped += _STATISTICS.unpack(counts)[1]
        return self.dropped

    def close(self) -> None:
        """Close the ring and the socket."""
        self._ring.close()
        self._socket.close()

    def _listen(self) -> None:
        """Bind to all devices, for which the standard library has no address format."""
        libc = ctypes.CDLL(None, use_errno=True)
        address = struct.pack("=HHi12x", socket.AF_PACKET, socket.htons(ETH_P_ALL), 0)
        if libc.bind(self._socket.fileno(), address, len(address)):
            number = ctypes.get_errno()
            raise OSError(number, "cannot bind")


@contextmanager
def capturing(ports: Iterable[int], *, learns: bool = False) -> Iterator[Capture]:
    """Provide a capture inside the block. Raises SensorError."""
    wanted = frozenset(ports)
    if len(wanted) > PORTS_MAX:
        raise SensorError(f"{len(wanted)} ports of proxies; the sensor follows at most {PORTS_MAX}")
    try:
        capture = Capture(wanted, learns=learns)
    except PermissionError:
        raise SensorError(
            "packets cannot be captured: CAP_NET_RAW is needed; run the sensor as root, or with --mode off"
        ) from None
    except OSError as error:
        raise SensorError(f"packets cannot be captured: {error}; run the sensor with --mode off") from None
    try:
        yield capture
    finally:
        capture.close()
