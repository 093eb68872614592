"""Every contract with other programs: dialects, events, rows, alerts, settings, metrics, topics. Imports none of us."""
