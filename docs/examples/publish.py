"""Publish an indicator: `python publish.py kafka:9092 indicators evil.example`."""

import sys

from confluent_kafka import KafkaError, Message, Producer

from schemas.models.indicators import Indicator


def main(brokers: str, topic: str, value: str) -> None:
    """Publish an indicator that blocks, and wait until Kafka has it. Raises ValidationError with the reason for a bad value."""
    indicator = Indicator.model_validate(
        {
            "value": value,
            "action": "block",
            "title": "Campaign 7",
            "severity": "high",
            "expires": "2099-01-01T00:00:00Z",
        }
    )
    key, content = indicator.message()
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True})
    producer.produce(topic, content, key, on_delivery=delivered)
    producer.flush()


def delivered(error: KafkaError | None, message: Message) -> None:
    """End with an error if Kafka did not take the message."""
    if error is not None:
        sys.exit(f"{message.topic()}: not published: {error.str()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
