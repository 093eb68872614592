"""Parsers of Windows events, from any shipper (dialect `winlog`), and of Microsoft Defender's tables (dialect `mde`)."""
