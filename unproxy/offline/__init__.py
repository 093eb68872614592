"""Work without Kafka: replay of recorded files, backtest of indicators, simulated fleets."""
