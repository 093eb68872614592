"""Formats that several sensors share: syslog headers, envelopes, CEF and LEEF, W3C's extended log, values of proxy logs."""
