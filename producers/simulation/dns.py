"""DNS look-ups: frequent in a real network, and ignored by the parser.

A resolver sends a query for the IPv4 address and one for the IPv6 address at once, and gets an answer to each. The flow
is logged like that of any connection.
"""

from __future__ import annotations

from producers.simulation.eve import UDP, Pair, stamp
from schemas.clock import MICROS
from schemas.events import Micros


class Lookup:
    """The EVE records of one look-up over UDP.

    `at` is the time of the first query, `took` the time until its answer in microseconds.
    """

    __slots__ = ("_at", "_community", "_ends", "_head", "_number", "_tail", "_took")

    def __init__(
        self, tail: str, interface: str, flow_id: int, pair: Pair, port: int, at: Micros, took: Micros
    ) -> None:
        self._at, self._took, self._number, self._tail = at, took, flow_id % 65_000, tail
        self._community = pair.community_id(port, UDP)
        self._head = f'","flow_id":{flow_id},{interface}"event_type":"'
        self._ends = f"{pair.before}{port}{pair.after.replace('TCP', 'UDP')}"

    def lines(self, name: str, address: str) -> list[tuple[Micros, str]]:
        """Return the time and the text of each record: two queries, and two answers, the second of which is NXDOMAIN."""
        at, done, number = self._at, self._at + self._took, self._number
        middle = (
            f'{self._head}dns{self._ends}"pkt_src":"wire/pcap","community_id":"{self._community}","dns":{{"version":2,'
        )
        asked = f'"rrname":"{name}","rrtype":"'
        found = f'"answers":[{{"rrname":"{name}","rrtype":"A","ttl":0,"rdata":"{address}"}}],"grouped":{{"A":["{address}"]}}}}'
        one = f'{middle}"type":"query","id":{number},{asked}A","tx_id":0,"opcode":0}}{self._tail}'
        two = f'{middle}"type":"query","id":{number + 7},{asked}AAAA","tx_id":1,"opcode":0}}{self._tail}'
        flags = '"qr":true,"aa":true,"rd":true,"ra":true,"opcode":0'
        yes = f'{middle}"type":"answer","id":{number},"flags":"8580",{flags},{asked}A","rcode":"NOERROR",{found}{self._tail}'
        none = (
            f'{middle}"type":"answer","id":{number + 7},"flags":"8183","qr":true,"rd":true,"ra":true,"opcode":0,{asked}AAAA",'
            f'"rcode":"NXDOMAIN"}}{self._tail}'
        )
        return [
            (when, f'{{"timestamp":"{stamp(when)}{line}')
            for when, line in ((at, one), (at + 40, two), (done, yes), (done + 25, none))
        ]

    def flow(self, at: Micros, reason: str) -> str:
        """Return the flow record, which is written at `at`, when the flow leaves the sensor's flow table."""
        end = self._at + self._took + 25
        return (
            f'{{"timestamp":"{stamp(at)}{self._head}flow{self._ends}"app_proto":"dns","flow":{{"pkts_toserver":2,"pkts_toclient":2,'
            f'"bytes_toserver":150,"bytes_toclient":166,"start":"{stamp(self._at)}","end":"{stamp(end)}",'
            f'"age":{(end - self._at) // MICROS},"state":"established","reason":"{reason}","alerted":false}},'
            f'"community_id":"{self._community}"{self._tail}'
        )
