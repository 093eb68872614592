-- Made by `python -m schemas.ddl` from the classes in schemas/tables.py.

CREATE TABLE IF NOT EXISTS {database}.`SensorGaps_versions`
(
    `DeviceId` String COMMENT 'The device, as its sensors name it',
    `DeviceName` String COMMENT 'The device\'s host name',
    `Kind` String COMMENT 'loss, restart or silence',
    `Status` String COMMENT 'open, closed or filled; filled ones are not shown',
    `FromTime` Nullable(DateTime64(6, 'UTC')) COMMENT 'Latest event before it, on the device\'s own clock; null where unknown (UTC, microseconds)',
    `ToTime` Nullable(DateTime64(6, 'UTC')) COMMENT 'First event after it, likewise; null while a silence lasts and where unknown (UTC, microseconds)',
    `Dialect` String COMMENT 'How the sensor writes; empty for a silence, which is the whole device\'s',
    `Sensor` String COMMENT 'The sensor, as its producer names it; empty for a silence',
    `LinesMissing` Nullable(UInt64) COMMENT 'Lines that are missing; null where nobody can tell',
    `FromSeq` Nullable(UInt64) COMMENT 'Number of the first line that is missing; of a restart the one expected',
    `ToSeq` Nullable(UInt64) COMMENT 'Number of the first line that is there again',
    `DetectedAt` DateTime64(6, 'UTC') COMMENT 'When it was noticed: the log\'s own time (UTC, microseconds)',
    `RecordId` String COMMENT 'Identity of the gap; of equal ones the highest Version holds',
    `Version` UInt64 COMMENT 'Grows with each change; not consecutive',
    `IngestedAt` DateTime64(3, 'UTC') MATERIALIZED now64(3) COMMENT 'When this version was written',
    INDEX by_FromTime `FromTime` TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(Version)
PARTITION BY toYYYYMM(IngestedAt)
ORDER BY (DeviceId, RecordId)
SETTINGS non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 268435456;

CREATE VIEW IF NOT EXISTS {database}.`SensorGaps` AS
SELECT
    `DeviceId`,
    `DeviceName`,
    `Kind`,
    `Status`,
    `FromTime`,
    `ToTime`,
    `Dialect`,
    `Sensor`,
    `LinesMissing`,
    `FromSeq`,
    `ToSeq`,
    `DetectedAt`,
    `RecordId`,
    `Version`
FROM {database}.`SensorGaps_versions` FINAL
WHERE Status != 'filled'
SETTINGS use_skip_indexes_if_final_exact_mode = 1, do_not_merge_across_partitions_select_final = 0, optimize_move_to_prewhere_if_final = 0;

CREATE TABLE IF NOT EXISTS {database}.`DeviceCoverage_versions`
(
    `DeviceId` String COMMENT 'The device, as its sensors name it',
    `DeviceName` SimpleAggregateFunction(max, String) COMMENT 'The device\'s host name',
    `Dialect` String COMMENT 'How the sensor writes',
    `Sensor` String COMMENT 'The sensor, as its producer names it; empty where it does not',
    `Bucket` DateTime64(6, 'UTC') COMMENT 'Beginning of the five minutes, on the device\'s own clock (UTC, microseconds)',
    `FirstTime` SimpleAggregateFunction(min, DateTime64(6, 'UTC')) COMMENT 'First event in them, as far as it is told yet (UTC, microseconds)',
    `LastTime` SimpleAggregateFunction(max, DateTime64(6, 'UTC')) COMMENT 'Latest event in them, as far as it is told yet (UTC, microseconds)',
    `RecordId` String COMMENT 'Identity: device, dialect, sensor and bucket',
    `IngestedAt` DateTime64(3, 'UTC') MATERIALIZED now64(3) COMMENT 'When this version was written',
    INDEX by_Bucket `Bucket` TYPE minmax GRANULARITY 1
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(IngestedAt)
ORDER BY (DeviceId, Bucket, Dialect, Sensor, RecordId)
SETTINGS non_replicated_deduplication_window = 10000, min_bytes_for_wide_part = 268435456;

CREATE VIEW IF NOT EXISTS {database}.`DeviceCoverage` AS
SELECT
    `DeviceId`,
    `DeviceName`,
    `Dialect`,
    `Sensor`,
    `Bucket`,
    `FirstTime`,
    `LastTime`,
    `RecordId`
FROM {database}.`DeviceCoverage_versions` FINAL
SETTINGS use_skip_indexes_if_final_exact_mode = 1, do_not_merge_across_partitions_select_final = 0;
