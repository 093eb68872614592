-- The type of a destination that has a name and no address is the type of its name since the names of private networks are known.
ALTER TABLE {database}.`DeviceNetworkEvents_versions`
    COMMENT COLUMN `RemoteIPType` 'Type of the remote address; of a destination without one: of its name, Public or Private';
