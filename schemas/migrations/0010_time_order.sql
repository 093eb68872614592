-- Made by `python -m schemas.ddl` from the classes in schemas/tables.py.

ALTER TABLE {database}.`DeviceNetworkEvents_versions`
    MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';

ALTER TABLE {database}.`DeviceNetworkEvents_versions`
    ADD PROJECTION IF NOT EXISTS by_day (SELECT * ORDER BY toDate32(`Timestamp`), DeviceId, `Timestamp`);

ALTER TABLE {database}.`DeviceNetworkEvents_versions`
    ADD PROJECTION IF NOT EXISTS by_hash (SELECT cityHash64(RecordId), RecordId, DeviceId, Version ORDER BY cityHash64(RecordId)) WITH SETTINGS (index_granularity = 256);

ALTER TABLE {database}.`DeviceNetworkEvents_versions`
    MATERIALIZE PROJECTION IF EXISTS by_day;

ALTER TABLE {database}.`DeviceNetworkEvents_versions`
    MATERIALIZE PROJECTION IF EXISTS by_hash;

CREATE OR REPLACE VIEW {database}.`DeviceNetworkEvents_history` AS
SELECT
    `Timestamp`,
    `DeviceId`,
    `DeviceName`,
    `ActionType`,
    `RemoteIP`,
    `RemotePort`,
    `RemoteUrl`,
    `LocalIP`,
    `LocalPort`,
    `Protocol`,
    `LocalIPType`,
    `RemoteIPType`,
    `InitiatingProcessFileName`,
    `InitiatingProcessId`,
    `ReportId`,
    `Layer`,
    `RecordId`,
    `Version`,
    `ConnectionId`,
    `ConnectionTime`,
    `ProxyIP`,
    `ProxyPort`,
    `ProxyName`,
    `DestinationHost`,
    `DestinationPort`,
    `DestinationDomain`,
    `Outcome`,
    `ProtectionMode`,
    `ResolvedBy`,
    `Confidence`,
    `UnresolvedReason`,
    `ResolutionMs`,
    `ConnectionEventId`,
    `HttpEventIds`,
    `FlowId`,
    `ConnectionEndTime`,
    `BytesSent`,
    `BytesReceived`,
    `RequestCount`,
    `HttpStatus`,
    `HostMismatch`,
    `InitiatingProcessSHA1`,
    `InitiatingProcessSHA256`,
    `InitiatingProcessMD5`,
    `InitiatingProcessFileSize`,
    `InitiatingProcessVersionInfoCompanyName`,
    `InitiatingProcessVersionInfoProductName`,
    `InitiatingProcessVersionInfoProductVersion`,
    `InitiatingProcessVersionInfoInternalFileName`,
    `InitiatingProcessVersionInfoOriginalFileName`,
    `InitiatingProcessVersionInfoFileDescription`,
    `InitiatingProcessCommandLine`,
    `InitiatingProcessCreationTime`,
    `InitiatingProcessFolderPath`,
    `InitiatingProcessParentFileName`,
    `InitiatingProcessParentId`,
    `InitiatingProcessParentCreationTime`,
    `InitiatingProcessAccountDomain`,
    `InitiatingProcessAccountName`,
    `InitiatingProcessAccountSid`,
    `InitiatingProcessAccountUpn`,
    `InitiatingProcessAccountObjectId`,
    `InitiatingProcessIntegrityLevel`,
    `InitiatingProcessTokenElevation`,
    `AppGuardContainerId`,
    `AdditionalFields`,
    `InitiatingProcessSessionId`,
    `IsInitiatingProcessRemoteSession`,
    `InitiatingProcessRemoteSessionDeviceName`,
    `InitiatingProcessRemoteSessionIP`,
    `InitiatingProcessUniqueId`,
    `LogonID`,
    Timestamp AS TimeGenerated,
    CAST('', 'String') AS `TenantId`,
    CAST('', 'String') AS `MachineGroup`,
    CAST('', 'String') AS `SourceSystem`,
    CAST('DeviceNetworkEvents', 'String') AS `Type`,
    CAST('', 'String') AS `_IsBillable`,
    CAST(NULL, 'Nullable(Float64)') AS `_BilledSize`
FROM {database}.`DeviceNetworkEvents_versions`;

ALTER TABLE {database}.`DeviceNetworkEvents_history` MODIFY DEFINER = CURRENT_USER SQL SECURITY DEFINER;
