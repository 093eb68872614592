"""Producers: they send the lines of sensors to Kafka, from files, standard input, the network or the built-in sensor.

The lines of a file keep their order. Lines that Kafka did not acknowledge are sent again by the next run; only those of
standard input and the built-in sensor cannot be read again.
"""
