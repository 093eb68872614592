"""Every promise to somebody outside: dialects, events, rows, alerts, settings, metrics, topics. Imports none of us."""
