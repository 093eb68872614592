"""Print alerts or rows as they arrive: `python consume.py kafka:9092 block-alerts unproxy-reader-1`."""

import sys

from confluent_kafka import Consumer, KafkaException

from schemas.models.rows import Alert, DeviceEvent, NetworkEvent

MODELS: dict[str, type[Alert | DeviceEvent | NetworkEvent]] = {
    "block-alerts": Alert,
    "device-events": DeviceEvent,
    "network-events": NetworkEvent,
}


def handle(row: Alert | DeviceEvent | NetworkEvent) -> None:
    """Replace this with your code. It may get a row again after a restart."""
    host = ", ".join(row.DestinationHosts) if isinstance(row, Alert) else row.DestinationHost
    print(row.DeviceName, row.Outcome, host, row.InitiatingProcessFileName, sep="\t", flush=True)


def main(brokers: str, topic: str, group: str) -> None:
    """Call `handle` for each row, except for versions that are older than one already handled."""
    model = next(model for name, model in MODELS.items() if topic.endswith(name))
    versions: dict[str, int] = {}
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.offset.store": False,
        }
    )
    consumer.subscribe([topic])
    while True:
        message = consumer.poll(1.0)
        if message is None:
            continue
        if message.error() is not None:
            raise KafkaException(message.error())
        for line in (message.value() or b"").splitlines():
            row = model.model_validate_json(line)
            identity = row.AlertId if isinstance(row, Alert) else row.RecordId
            if row.Version > versions.get(identity, 0):
                handle(row)
                versions[identity] = row.Version
        consumer.store_offsets(message)


if __name__ == "__main__":
    main(*sys.argv[1:])
