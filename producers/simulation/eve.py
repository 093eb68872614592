"""EVE records as Suricata 7 writes them: the same keys in the same order as in the recorded sample."""

from __future__ import annotations

from binascii import b2a_base64
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha1

from producers.simulation.fleet import Listed, Remote
from schemas.address import authority
from schemas.clock import MICROS
from schemas.events import Micros

TCP, UDP = 6, 17
FINISHED, RESET, ESTABLISHED, REFUSED, MIDSTREAM = "finished", "reset", "established", "refused", "midstream"
"""States of a TCP flow at the time of its record."""

_STATES = {
    FINISHED: (
        "closed",
        '"tcp_flags":"1b","tcp_flags_ts":"1b","tcp_flags_tc":"1b","syn":true,"fin":true,"psh":true,"ack":true,"state":"closed"',
    ),
    RESET: (
        "closed",
        '"tcp_flags":"1e","tcp_flags_ts":"1e","tcp_flags_tc":"1a","syn":true,"rst":true,"psh":true,"ack":true,"state":"closed"',
    ),
    ESTABLISHED: (
        "established",
        '"tcp_flags":"1a","tcp_flags_ts":"1a","tcp_flags_tc":"1a","syn":true,"psh":true,"ack":true,"state":"established"',
    ),
    REFUSED: (
        "closed",
        '"tcp_flags":"16","tcp_flags_ts":"02","tcp_flags_tc":"14","syn":true,"rst":true,"ack":true,"state":"closed"',
    ),
    MIDSTREAM: ("new", ""),
}
_REGIONS = ',"ts_max_regions":1,"tc_max_regions":1'


@lru_cache(maxsize=4_096)
def second(seconds: int) -> str:
    """Return the date and time of EVE timestamps, for a time in seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def stamp(at: Micros) -> str:
    """Return the EVE timestamp of a time."""
    return f"{second(at // MICROS)}.{at % MICROS:06d}+0000"


class Pair:
    """The parts of EVE records that all flows between the device and another host share."""

    __slots__ = ("_other_first", "_packed", "after", "back", "before", "local", "other")

    def __init__(self, local: Remote, other: Remote) -> None:
        self.local, self.other = local, other
        self.before = f'","src_ip":"{local.full_ip}","src_port":'
        self.after = f',"dest_ip":"{other.full_ip}","dest_port":{other.port},"proto":"TCP",'
        self.back = f'","src_ip":"{other.full_ip}","src_port":{other.port},"dest_ip":"{local.full_ip}","dest_port":'
        self._other_first = local.packed_ip > other.packed_ip
        ordered = (other, local) if self._other_first else (local, other)
        self._packed = b"\0\0" + ordered[0].packed_ip + ordered[1].packed_ip

    def community_id(self, port: int, protocol: int = TCP) -> str:
        """Return the Community ID version 1 of a flow from this port (specification by Corelight)."""
        from_port, to_port = port, self.other.port
        if self._other_first or (from_port > to_port and self.local.packed_ip == self.other.packed_ip):
            from_port, to_port = to_port, from_port
        content = self._packed + (protocol << 40 | from_port << 16 | to_port).to_bytes(6, "big")
        return "1:" + b2a_base64(sha1(content, usedforsecurity=False).digest(), newline=False).decode()


class Wire:
    """The EVE records of one TCP flow. `start` is the time of its first packet.

    `tail` and `interface` are JSON fragments that all records of the device share; `port` is the device's port.
    """

    __slots__ = ("_community", "_ends", "_head", "_pair", "_port", "_tail", "_there", "start")

    def __init__(self, tail: str, interface: str, flow_id: int, pair: Pair, port: int, start: Micros) -> None:
        self.start = start
        self._pair, self._port, self._tail = pair, port, tail
        self._community = community = pair.community_id(port)
        self._head = f'","flow_id":{flow_id},{interface}"event_type":"'
        self._ends = ends = f"{pair.before}{port}{pair.after}"
        self._there = f'{ends}"pkt_src":"wire/pcap","community_id":"{community}",'

    def http(self, at: Micros, tx: int, exchange: str) -> str:
        """Return the http event of transaction `tx`; `exchange` is the content of its http object, from `get` or `connect`."""
        return f'{{"timestamp":"{stamp(at)}{self._head}http{self._there}"tx_id":{tx},"http":{{{exchange}}}{self._tail}'

    def fileinfo(self, at: Micros, tx: int, exchange: str, path: str, size: int) -> str:
        """Return the fileinfo event of a response body of `size` bytes."""
        return (
            f'{{"timestamp":"{stamp(at)}{self._head}fileinfo{self._back()}"http":{{{exchange}}},"app_proto":"http",'
            f'"fileinfo":{{"filename":"{path}","gaps":false,"state":"CLOSED","stored":false,"size":{size},"tx_id":{tx}}}'
            f"{self._tail}"
        )

    def tls(self, at: Micros, name: str, *, tunnelled: bool) -> str:
        """Return the tls event of a client hello with server name `name`; `tunnelled` if it was sent in a CONNECT tunnel."""
        tunnel = ',"from_proto":"http"' if tunnelled else ""
        return (
            f'{{"timestamp":"{stamp(at)}{self._head}tls{self._there}"tls":{{"sni":"{name}","version":"TLS 1.3"{tunnel}}}'
            f"{self._tail}"
        )

    def alert(self, at: Micros, tx: int, listed: Listed, rule: str, deed: str, content: str) -> str:
        """Return the alert event of a rule for a listed domain.

        `rule` is the place of the domain (`CONNECT`, `host` or `tls`), `deed` the action of the rule (`alert`, `drop` or
        `reject`), `content` the http or tls object of the event.
        """
        verdict = {
            "alert": '"action":"alert"',
            "drop": '"action":"drop"',
            "reject": '"action":"drop","reject-target":"to_client","reject":["tcp-reset"]',
        }[deed]
        inside = content.startswith('"tls"')
        protocol = '"app_proto":"tls","app_proto_orig":"http"' if inside else '"app_proto":"http"'
        sent, received = (2067, 2789) if inside else (396, 245)
        local, other = self._pair.local, self._pair.other
        return (
            f'{{"timestamp":"{stamp(at)}{self._head}alert{self._there}"tx_id":{tx},{_rule(listed, rule, deed, True)},'
            f'{content},{protocol},"direction":"to_server","flow":{{"pkts_toserver":4,"pkts_toclient":3,"bytes_toserver":{sent},'
            f'"bytes_toclient":{received},"start":"{stamp(self.start)}","src_ip":"{local.full_ip}",'
            f'"dest_ip":"{other.full_ip}","src_port":{self._port},"dest_port":{other.port}}},'
            f'"verdict":{{{verdict}}}{self._tail}'
        )

    def drop(self, at: Micros, size: int, listed: Listed, rule: str, deed: str, *, first: bool) -> str:
        """Return the drop event of a packet. The rule drops the `first` packet; the others are dropped because their flow is."""
        reason = "rules" if first else "flow drop"
        alert = f',"tx_id":0,{_rule(listed, rule, deed, False)}' if first else ""
        return (
            f'{{"timestamp":"{stamp(at)}{self._head}drop{self._there}"direction":"to_server","drop":{{"len":{size},"tos":0,'
            f'"ttl":64,"ipid":{8000 + at % 50_000},"tcpseq":{self.start % 2**32},"tcpack":{self.start * 7 % 2**32},"tcpwin":63,'
            '"syn":false,"ack":true,"psh":true,"rst":false,"urg":false,"fin":false,"tcpres":0,"tcpurgp":0,'
            f'"reason":"{reason}"}},"verdict":{{"action":"drop"}}{alert}{self._tail}'
        )

    def flow(
        self,
        at: Micros,
        end: Micros,
        content: str,
        state: str,
        reason: str,
        sent: int,
        received: int,
        alerted: bool = False,
        dropped: bool = False,
        *,
        turned: bool = False,
    ) -> str:
        """Return the flow event, which is written at `at`, when the flow leaves the sensor's flow table.

        `content` is the app_proto fragment with its comma, or "". `turned` exchanges client and server.
        """
        name, flags = _STATES[state]
        ends = f'{self._pair.back}{self._port},"proto":"TCP",' if turned else self._ends
        if turned:
            sent, received = received, sent
        tcp = f"{flags}{_REGIONS}" if flags else '"tcp_flags":"00","tcp_flags_ts":"00","tcp_flags_tc":"00"'
        more = ',"action":"drop"' if dropped else ""
        return (
            f'{{"timestamp":"{stamp(at)}{self._head}flow{ends}{content}"flow":{{"pkts_toserver":{2 + sent // 400},'
            f'"pkts_toclient":{received // 400 + (state != MIDSTREAM)},"bytes_toserver":{sent},"bytes_toclient":{received},'
            f'"start":"{stamp(self.start)}","end":"{stamp(end)}","age":{(end - self.start) // MICROS},"state":"{name}",'
            f'"reason":"{reason}","alerted":{"true" if alerted else "false"}{more}}},'
            f'"community_id":"{self._community}","tcp":{{{tcp}}}{self._tail}'
        )

    def _back(self) -> str:
        """Return the fragment with the addresses of a packet to the device."""
        return f'{self._pair.back}{self._port},"proto":"TCP","pkt_src":"wire/pcap","community_id":"{self._community}",'


def connect(host: str, port: int, agent: str, status: int | None) -> str:
    """Return the content of the http object of a CONNECT; `status` is None if it was never answered."""
    if status is None:
        answer = '"length":0'
    elif status == 200:
        answer = '"status":200,"length":0'
    else:
        answer = f'"status":{status},"length":{3000 + status % 97}'
    kind = '"http_content_type":"text/html",' if status not in (None, 200) else ""
    place = authority(host, port)
    return (
        f'"hostname":"{host}","http_port":{port},"url":"{place}","http_user_agent":"{agent}",{kind}'
        f'"http_method":"CONNECT","protocol":"HTTP/1.1",{answer}'
    )


def get(host: str, url: str, agent: str, kind: str, status: int | None, size: int, method: str = "GET") -> str:
    """Return the content of the http object of a plain request; `status` is None if it was never answered."""
    answer = f'"http_method":"{method}","protocol":"HTTP/1.1"' + ("" if status is None else f',"status":{status}')
    content = f'"http_content_type":"{kind}",' if status is not None else ""
    return f'"hostname":"{host}","url":"{url}","http_user_agent":"{agent}",{content}{answer},"length":{size}'


def tls_object(name: str, *, blocked: bool) -> str:
    """Return the tls object of an alert event."""
    return f'"tls":{{"sni":"{name}","version":"{"UNDETERMINED" if blocked else "TLS 1.3"}"}}'


def stats(device: str, at: Micros, uptime: int) -> str:
    """Return a stats event, shortened, as the parser ignores it. `uptime` is in seconds."""
    packets = 90 * uptime
    return (
        f'{{"timestamp":"{stamp(at)}","event_type":"stats","stats":{{"uptime":{uptime},"capture":{{"kernel_packets":{packets},'
        f'"kernel_drops":0,"errors":0}},"decoder":{{"pkts":{packets},"bytes":{400 * packets},"invalid":0,"tcp":{packets}}},'
        f'"flow":{{"memcap":0,"tcp":{packets // 20}}}}},"host":"{device}"}}'
    )


def _rule(listed: Listed, rule: str, deed: str, whole: bool) -> str:
    where = {"CONNECT": ("CONNECT request line", 2), "tls": ("tls.sni", 3), "host": ("http.host", 1)}[rule]
    domain = listed.word.replace("_", ".")
    metadata = f',"metadata":{{"lab_domain":["{listed.word}"]}}' if whole else ""
    return (
        f'"alert":{{"action":"{"allowed" if deed == "alert" else "blocked"}","gid":1,"signature_id":{listed.number + where[1]},'
        f'"rev":1,"signature":"LAB listed domain {domain} in {where[0]}","category":"Potential Corporate Privacy Violation",'
        f'"severity":1{metadata}}}'
    )
