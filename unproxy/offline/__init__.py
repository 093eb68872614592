"""Replay of recorded files and backtest of indicators, which need no Kafka, and simulation of fleets."""
