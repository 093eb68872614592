"""Tables of Microsoft's advanced-hunting schema that hunts join with ours. They are empty unless a customer fills them.

A column is written as `Name:type` with a type of KQL; a column without a type is a string. The order is Microsoft's. Sources:
learn.microsoft.com/defender-xdr/advanced-hunting-schema-tables and the page of each table; for the columns that Sentinel adds,
learn.microsoft.com/azure/azure-monitor/reference/tables-index. `schemas.ddl` generates the migration.
"""

from __future__ import annotations

TIMES = ("Timestamp", "TimeGenerated")
"""Names of the event time in Defender and in Sentinel; each table has both."""

_WRITTEN = {
    "DeviceInfo": """
        TenantId AdditionalFields ClientVersion DeviceId DeviceName DeviceObjectId IsAzureADJoined:bool
        LoggedOnUsers MachineGroup OSArchitecture OSBuild:long OSPlatform OSVersion PublicIP RegistryDeviceTag
        ReportId:long TimeGenerated:datetime AadDeviceId DeviceCategory DeviceSubtype DeviceType JoinType
        MergedDeviceIds MergedToDeviceId Model OnboardingStatus OSDistribution OSVersionInfo Vendor
        SensorHealthState IsExcluded:bool ExclusionReason AssetValue ExposureLevel IsInternetFacing:bool
        DeviceManualTags DeviceDynamicTags AzureResourceId AwsResourceName GcpFullResourceName AzureVmId
        AzureVmSubscriptionId CloudPlatforms HardwareUuid HostDeviceId IsTransient:bool MitigationStatus
        OsBuildRevision RestrictedDeviceSecurityOperations SourceSystem Type _IsBillable _BilledSize:real
        Timestamp:datetime ConnectivityType Site DiscoverySources
    """,
    "DeviceProcessEvents": """
        TenantId AccountDomain AccountName AccountObjectId AccountSid AccountUpn ActionType AdditionalFields
        AppGuardContainerId DeviceId DeviceName FileName FolderPath FileSize:long InitiatingProcessAccountDomain
        InitiatingProcessAccountName InitiatingProcessAccountObjectId InitiatingProcessAccountSid
        InitiatingProcessAccountUpn InitiatingProcessCommandLine InitiatingProcessFileName
        InitiatingProcessFolderPath InitiatingProcessId:long InitiatingProcessIntegrityLevel
        InitiatingProcessLogonId:long InitiatingProcessMD5 InitiatingProcessParentFileName
        InitiatingProcessParentId:long InitiatingProcessSHA1 InitiatingProcessSHA256
        InitiatingProcessTokenElevation InitiatingProcessFileSize:long InitiatingProcessVersionInfoCompanyName
        InitiatingProcessVersionInfoProductName InitiatingProcessVersionInfoProductVersion
        InitiatingProcessVersionInfoInternalFileName InitiatingProcessVersionInfoOriginalFileName
        InitiatingProcessVersionInfoFileDescription LogonId:long MD5 MachineGroup ProcessCommandLine
        ProcessCreationTime:datetime ProcessId:long ProcessIntegrityLevel ProcessTokenElevation
        ProcessVersionInfoCompanyName ProcessVersionInfoProductName ProcessVersionInfoProductVersion
        ProcessVersionInfoInternalFileName ProcessVersionInfoOriginalFileName ProcessVersionInfoFileDescription
        InitiatingProcessSignerType InitiatingProcessSignatureStatus ReportId:long SHA1 SHA256
        TimeGenerated:datetime InitiatingProcessParentCreationTime:datetime
        InitiatingProcessCreationTime:datetime CreatedProcessSessionId:long IsProcessRemoteSession:bool
        ProcessRemoteSessionDeviceName ProcessRemoteSessionIP InitiatingProcessSessionId:long
        IsInitiatingProcessRemoteSession:bool InitiatingProcessRemoteSessionDeviceName
        InitiatingProcessRemoteSessionIP InitiatingProcessUniqueId ProcessUniqueId SourceSystem Type _IsBillable
        _BilledSize:real Timestamp:datetime LogonID:long
    """,
    "DeviceFileEvents": """
        TenantId ActionType AdditionalFields AppGuardContainerId DeviceId DeviceName FileName FileOriginIP
        FileOriginReferrerUrl FileOriginUrl FileSize:long FolderPath InitiatingProcessAccountDomain
        InitiatingProcessAccountName InitiatingProcessAccountObjectId InitiatingProcessAccountSid
        InitiatingProcessAccountUpn InitiatingProcessCommandLine InitiatingProcessFileName
        InitiatingProcessFolderPath InitiatingProcessId:long InitiatingProcessIntegrityLevel
        InitiatingProcessMD5 InitiatingProcessParentFileName InitiatingProcessParentId:long
        InitiatingProcessSHA1 InitiatingProcessSHA256 InitiatingProcessTokenElevation
        IsAzureInfoProtectionApplied:bool MD5 MachineGroup PreviousFileName PreviousFolderPath ReportId:long
        RequestAccountDomain RequestAccountName RequestAccountSid RequestProtocol RequestSourceIP
        RequestSourcePort:int SHA1 SHA256 SensitivityLabel SensitivitySubLabel ShareName TimeGenerated:datetime
        InitiatingProcessParentCreationTime:datetime InitiatingProcessCreationTime:datetime
        InitiatingProcessFileSize:long InitiatingProcessVersionInfoCompanyName
        InitiatingProcessVersionInfoFileDescription InitiatingProcessVersionInfoInternalFileName
        InitiatingProcessVersionInfoOriginalFileName InitiatingProcessVersionInfoProductName
        InitiatingProcessVersionInfoProductVersion InitiatingProcessSessionId:long
        IsInitiatingProcessRemoteSession:bool InitiatingProcessRemoteSessionDeviceName
        InitiatingProcessRemoteSessionIP InitiatingProcessUniqueId SourceSystem Type _IsBillable
        _BilledSize:real Timestamp:datetime LogonID:long
    """,
    "DeviceLogonEvents": """
        TenantId AccountDomain AccountName AccountSid ActionType AdditionalFields AppGuardContainerId DeviceId
        DeviceName FailureReason InitiatingProcessAccountDomain InitiatingProcessAccountName
        InitiatingProcessAccountObjectId InitiatingProcessAccountSid InitiatingProcessAccountUpn
        InitiatingProcessCommandLine InitiatingProcessFileName InitiatingProcessFolderPath
        InitiatingProcessId:long InitiatingProcessIntegrityLevel InitiatingProcessMD5
        InitiatingProcessParentFileName InitiatingProcessParentId:long InitiatingProcessSHA1
        InitiatingProcessSHA256 InitiatingProcessTokenElevation IsLocalAdmin:bool LogonId:long LogonType
        MachineGroup Protocol RemoteDeviceName RemoteIP RemoteIPType RemotePort:int ReportId:long
        TimeGenerated:datetime InitiatingProcessParentCreationTime:datetime
        InitiatingProcessCreationTime:datetime InitiatingProcessFileSize:long
        InitiatingProcessVersionInfoCompanyName InitiatingProcessVersionInfoFileDescription
        InitiatingProcessVersionInfoInternalFileName InitiatingProcessVersionInfoOriginalFileName
        InitiatingProcessVersionInfoProductName InitiatingProcessVersionInfoProductVersion
        InitiatingProcessSessionId:long IsInitiatingProcessRemoteSession:bool
        InitiatingProcessRemoteSessionDeviceName InitiatingProcessRemoteSessionIP InitiatingProcessUniqueId
        SourceSystem Type _IsBillable _BilledSize:real Timestamp:datetime
    """,
    "DeviceRegistryEvents": """
        TenantId ActionType AppGuardContainerId DeviceId DeviceName InitiatingProcessAccountDomain
        InitiatingProcessAccountName InitiatingProcessAccountObjectId InitiatingProcessAccountSid
        InitiatingProcessAccountUpn InitiatingProcessCommandLine InitiatingProcessFileName
        InitiatingProcessFolderPath InitiatingProcessId:long InitiatingProcessIntegrityLevel
        InitiatingProcessMD5 InitiatingProcessParentFileName InitiatingProcessParentId:long
        InitiatingProcessSHA1 InitiatingProcessSHA256 InitiatingProcessTokenElevation
        InitiatingProcessFileSize:long InitiatingProcessVersionInfoCompanyName
        InitiatingProcessVersionInfoProductName InitiatingProcessVersionInfoProductVersion
        InitiatingProcessVersionInfoInternalFileName InitiatingProcessVersionInfoOriginalFileName
        InitiatingProcessVersionInfoFileDescription MachineGroup PreviousRegistryKey PreviousRegistryValueData
        PreviousRegistryValueName RegistryKey RegistryValueData RegistryValueName RegistryValueType
        ReportId:long TimeGenerated:datetime InitiatingProcessParentCreationTime:datetime
        InitiatingProcessCreationTime:datetime InitiatingProcessSessionId:long
        IsInitiatingProcessRemoteSession:bool InitiatingProcessRemoteSessionDeviceName
        InitiatingProcessRemoteSessionIP InitiatingProcessUniqueId SourceSystem Type _IsBillable
        _BilledSize:real Timestamp:datetime
    """,
    "DeviceImageLoadEvents": """
        TenantId ActionType AppGuardContainerId DeviceId DeviceName FileName FolderPath
        InitiatingProcessAccountDomain InitiatingProcessAccountName InitiatingProcessAccountObjectId
        InitiatingProcessAccountSid InitiatingProcessAccountUpn InitiatingProcessCommandLine
        InitiatingProcessFileName InitiatingProcessFolderPath InitiatingProcessId:long
        InitiatingProcessIntegrityLevel InitiatingProcessMD5 InitiatingProcessParentFileName
        InitiatingProcessParentId:long InitiatingProcessSHA1 InitiatingProcessSHA256
        InitiatingProcessTokenElevation MD5 MachineGroup ReportId:long SHA1 SHA256 TimeGenerated:datetime
        InitiatingProcessParentCreationTime:datetime InitiatingProcessCreationTime:datetime
        InitiatingProcessFileSize:long InitiatingProcessVersionInfoCompanyName
        InitiatingProcessVersionInfoFileDescription InitiatingProcessVersionInfoInternalFileName
        InitiatingProcessVersionInfoOriginalFileName InitiatingProcessVersionInfoProductName
        InitiatingProcessVersionInfoProductVersion FileSize:long InitiatingProcessSessionId:long
        IsInitiatingProcessRemoteSession:bool InitiatingProcessRemoteSessionDeviceName
        InitiatingProcessRemoteSessionIP InitiatingProcessUniqueId SourceSystem Type _IsBillable
        _BilledSize:real Timestamp:datetime
    """,
    "DeviceNetworkInfo": """
        TenantId ConnectedNetworks DefaultGateways DeviceId DeviceName DnsAddresses IPAddresses IPv4Dhcp
        IPv6Dhcp MacAddress MachineGroup NetworkAdapterName NetworkAdapterStatus NetworkAdapterType
        ReportId:long TimeGenerated:datetime TunnelType NetworkAdapterVendor SourceSystem Type _IsBillable
        _BilledSize:real Timestamp:datetime OnboardingStatus NetworkAdapterDnsSuffix
    """,
    "DeviceFileCertificateInfo": """
        TenantId CertificateSerialNumber CrlDistributionPointUrls DeviceId DeviceName IsRootSignerMicrosoft:bool
        IsSigned:bool IsTrusted:bool Issuer IssuerHash MachineGroup ReportId:long SHA1 SignatureType Signer
        SignerHash TimeGenerated:datetime CertificateCountersignatureTime:datetime
        CertificateCreationTime:datetime CertificateExpirationTime:datetime SourceSystem Type _IsBillable
        _BilledSize:real Timestamp:datetime
    """,
    "DeviceTvmSoftwareInventory": """
        TenantId DeviceId DeviceName OSPlatform OSVersion OSArchitecture SoftwareVendor SoftwareName
        SoftwareVersion EndOfSupportStatus EndOfSupportDate:datetime ProductCodeCpe TimeGenerated:datetime
        SourceSystem Type _IsBillable _BilledSize:real Timestamp:datetime
    """,
    "DeviceTvmSoftwareVulnerabilities": """
        TenantId DeviceId DeviceName OSPlatform OSVersion OSArchitecture SoftwareVendor SoftwareName
        SoftwareVersion CveId VulnerabilitySeverityLevel RecommendedSecurityUpdate RecommendedSecurityUpdateId
        TimeGenerated:datetime CveTags:dynamic SourceSystem Type _IsBillable _BilledSize:real Timestamp:datetime
    """,
    "SecurityAlert": """
        TimeGenerated:datetime DisplayName AlertName AlertSeverity Description ProviderName VendorName
        VendorOriginalId SystemAlertId ResourceId SourceComputerId AlertType ConfidenceLevel
        ConfidenceScore:real IsIncident:bool StartTime:datetime EndTime:datetime ProcessingEndTime:datetime
        RemediationSteps ExtendedProperties Entities WorkspaceSubscriptionId WorkspaceResourceGroup
        ExtendedLinks ProductName ProductComponentName AlertLink Status CompromisedEntity Tactics Techniques
        SubTechniques Type _IsBillable _BilledSize:real
    """,
    "AlertInfo": """
        Timestamp:datetime AlertId Title Category Severity ServiceSource DetectionSource AttackTechniques
    """,
    "AlertEvidence": """
        Timestamp:datetime AlertId Title Categories AttackTechniques ServiceSource DetectionSource EntityType
        EvidenceRole EvidenceDirection FileName FolderPath SHA1 SHA256 FileSize:long ThreatFamily RemoteIP
        RemoteUrl AccountName AccountDomain AccountSid AccountObjectId AccountUpn DeviceId DeviceName LocalIP
        NetworkMessageId EmailSubject Application ApplicationId:int OAuthApplicationId ProcessCommandLine
        RegistryKey RegistryValueName RegistryValueData AdditionalFields Severity CloudResource CloudPlatform
        ResourceType ResourceID SubscriptionId
    """,
    "IdentityLogonEvents": """
        Timestamp:datetime ActionType Application LogonType Protocol FailureReason AccountName AccountDomain
        AccountUpn AccountSid AccountObjectId AccountDisplayName DeviceName DeviceType OSPlatform IPAddress
        Port:int DestinationDeviceName DestinationIPAddress DestinationPort:int TargetDeviceName
        TargetAccountDisplayName Location Isp ReportId AdditionalFields:dynamic
    """,
}

_NETWORK_EVENTS_EXTRA = "TenantId MachineGroup SourceSystem Type _IsBillable _BilledSize:real"

_DEVICE_EVENTS_EXTRA = """
        TenantId AccountDomain AccountName AccountSid AppGuardContainerId FileName FileOriginIP FileOriginUrl
        FolderPath InitiatingProcessAccountObjectId InitiatingProcessAccountSid InitiatingProcessAccountUpn
        InitiatingProcessLogonId:long InitiatingProcessMD5 InitiatingProcessParentFileName
        InitiatingProcessParentId:long InitiatingProcessSHA1 InitiatingProcessSHA256 LogonId:long MD5
        MachineGroup ProcessCommandLine ProcessId:long ProcessTokenElevation RegistryKey RegistryValueData
        RegistryValueName RemoteDeviceName SHA1 SHA256 FileSize:long InitiatingProcessCreationTime:datetime
        InitiatingProcessFileSize:long InitiatingProcessParentCreationTime:datetime
        InitiatingProcessVersionInfoCompanyName InitiatingProcessVersionInfoFileDescription
        InitiatingProcessVersionInfoInternalFileName InitiatingProcessVersionInfoOriginalFileName
        InitiatingProcessVersionInfoProductName InitiatingProcessVersionInfoProductVersion
        ProcessCreationTime:datetime CreatedProcessSessionId:long IsProcessRemoteSession:bool
        ProcessRemoteSessionDeviceName ProcessRemoteSessionIP InitiatingProcessSessionId:long
        IsInitiatingProcessRemoteSession:bool InitiatingProcessRemoteSessionDeviceName
        InitiatingProcessRemoteSessionIP InitiatingProcessUniqueId SourceSystem Type _IsBillable
        _BilledSize:real
"""


def _columns(written: str) -> dict[str, str]:
    pairs = (word.partition(":") for word in written.split())
    return {name: kind or "string" for name, _, kind in pairs}


JOINED = {name: _columns(written) for name, written in _WRITTEN.items()}
"""KQL type of each column, by table. `ReportId` and other numbers may be null, strings are never null."""

EXTRA = {"DeviceNetworkEvents": _columns(_NETWORK_EVENTS_EXTRA), "DeviceEvents": _columns(_DEVICE_EVENTS_EXTRA)}
"""Columns of Microsoft's tables for which ours have no values, by view. The view shows them empty, so that queries that use them
are valid."""

_CLICKHOUSE = {
    "bool": "Nullable(Bool)",
    "int": "Nullable(Int32)",
    "long": "Nullable(Int64)",
    "real": "Nullable(Float64)",
    "string": "String",
    "dynamic": "String",
    "datetime": "Nullable(DateTime64(6, 'UTC'))",
}
"""ClickHouse type for a KQL type; `hunting.kql.types` has the opposite direction. A dynamic value is stored as JSON text."""


def stored(kind: str) -> str:
    """Return the ClickHouse type of a column of this KQL type."""
    return _CLICKHOUSE[kind]


def time_of(table: str) -> str:
    """Return which of the two names of the event time is the stored column of this table; the other is an alias."""
    return next(name for name in TIMES if name in JOINED[table])


def columns_of(table: str) -> dict[str, str]:
    """Return the ClickHouse type of each column of a joined table, including both names of the event time."""
    time = "DateTime64(6, 'UTC')"
    found = {name: time if name in TIMES else stored(kind) for name, kind in JOINED[table].items()}
    return found | {name: time for name in TIMES if name not in found}


def extra_columns(view: str) -> dict[str, str]:
    """Return the ClickHouse type of each empty column that a view shows in addition to the columns of its table."""
    return {name: stored(kind) for name, kind in EXTRA.get(view, {}).items()}
