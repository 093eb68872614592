"""The embedded servers of `unproxy up` and the tests: Apache Kafka and the ClickHouse engine, which pip installs.

Each runs as a process with its own folder and listens on loopback only. They are for one machine; a fleet has its own
Kafka and ClickHouse.
"""
