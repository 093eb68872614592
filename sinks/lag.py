"""How far the sink is behind: messages on each topic that are not in the tables yet."""

from __future__ import annotations

from confluent_kafka import Consumer, TopicPartition

from schemas.kafka_config import client_config
from schemas.settings import Settings
from schemas.topics import TABLE_OF_TOPIC, topic_name

ANSWER_SECS_MAX = 10.0


def lag(settings: Settings) -> dict[str, int]:
    """Messages not written yet, by topic. Raises KafkaException when Kafka does not answer; joins no group."""
    names = [topic_name(settings, name) for name in TABLE_OF_TOPIC]
    consumer = Consumer(
        {**client_config(settings.kafka), "group.id": settings.sink.group, "enable.auto.commit": False, "log_level": 2}
    )
    try:
        known = consumer.list_topics(timeout=ANSWER_SECS_MAX).topics
        places = [TopicPartition(name, part) for name in names if name in known for part in known[name].partitions]
        behind = dict.fromkeys(names, 0)
        for place in consumer.committed(places, timeout=ANSWER_SECS_MAX):
            first, end = consumer.get_watermark_offsets(place, timeout=ANSWER_SECS_MAX)
            behind[place.topic] += end - max(first, place.offset)
        return behind
    finally:
        consumer.close()
