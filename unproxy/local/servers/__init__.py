"""What `unproxy up` and the tests bring along: a real Apache Kafka and a real ClickHouse engine, from pip alone.

Both run as processes of their own with a folder of their own, on loopback only, for one machine; a fleet has its own
Kafka and ClickHouse.
"""
