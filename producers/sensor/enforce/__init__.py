"""Enforcement of the sensor's list: rules, held packets and destroyed sockets."""
