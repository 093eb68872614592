-- Roll-ups for hunts. They aggregate the latest version of each row when they are read, so that replayed rows are counted once and
-- no value of a corrected row stays. Reasons: docs/decisions/0012-storage-for-hunts.md.

CREATE OR REPLACE VIEW {database}.`FirstSeenDomains` AS
SELECT
    DeviceId,
    InitiatingProcessFileName,
    DestinationDomain,
    min(`Timestamp`) AS FirstTime,
    max(`Timestamp`) AS LastTime,
    count() AS Connections
FROM {database}.`DeviceNetworkEvents`
WHERE DestinationDomain != '' AND UnresolvedReason != 'superseded' AND (Layer = 'destination' OR ProxyIP = '')
GROUP BY DeviceId, InitiatingProcessFileName, DestinationDomain;

ALTER TABLE {database}.`FirstSeenDomains` MODIFY DEFINER = CURRENT_USER SQL SECURITY DEFINER;

CREATE OR REPLACE VIEW {database}.`DestinationsByProcessDay` AS
SELECT
    toStartOfDay(`Timestamp`) AS Day,
    DeviceId,
    InitiatingProcessFileName,
    DestinationDomain,
    count() AS Connections,
    countIf(Outcome = 'blocked') AS Blocked,
    sum(`BytesSent`) AS TotalSent,
    sum(`BytesReceived`) AS TotalReceived
FROM {database}.`DeviceNetworkEvents`
WHERE DestinationDomain != '' AND UnresolvedReason != 'superseded' AND (Layer = 'destination' OR ProxyIP = '')
GROUP BY Day, DeviceId, InitiatingProcessFileName, DestinationDomain;

ALTER TABLE {database}.`DestinationsByProcessDay` MODIFY DEFINER = CURRENT_USER SQL SECURITY DEFINER;

CREATE OR REPLACE VIEW {database}.`DomainRarity` AS
SELECT
    DestinationDomain,
    uniqExact(DeviceId) AS Devices,
    min(`Timestamp`) AS FirstTime,
    max(`Timestamp`) AS LastTime,
    count() AS Connections
FROM {database}.`DeviceNetworkEvents`
WHERE DestinationDomain != '' AND UnresolvedReason != 'superseded' AND (Layer = 'destination' OR ProxyIP = '')
GROUP BY DestinationDomain;

ALTER TABLE {database}.`DomainRarity` MODIFY DEFINER = CURRENT_USER SQL SECURITY DEFINER;

CREATE OR REPLACE VIEW {database}.`BeaconCandidates` AS
SELECT
    DeviceId,
    InitiatingProcessFileName,
    DestinationDomain,
    min(`Timestamp`) AS FirstTime,
    max(`Timestamp`) AS LastTime,
    count() AS Connections,
    arrayPopFront(arrayDifference(arraySort(groupArray(toUnixTimestamp64Micro(`Timestamp`))))) AS Intervals,
    arrayAvg(Intervals) / 1e6 AS MeanIntervalSecs,
    sqrt(arrayAvg(x -> pow(x / 1e6 - MeanIntervalSecs, 2), Intervals)) AS DeviationSecs
FROM {database}.`DeviceNetworkEvents`
WHERE DestinationDomain != '' AND UnresolvedReason != 'superseded' AND (Layer = 'destination' OR ProxyIP = '')
GROUP BY DeviceId, InitiatingProcessFileName, DestinationDomain
HAVING Connections >= 10;

ALTER TABLE {database}.`BeaconCandidates` MODIFY DEFINER = CURRENT_USER SQL SECURITY DEFINER;
