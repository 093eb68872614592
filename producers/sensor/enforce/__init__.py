"""Enforcement of the sensor's deny list: rules, held packets and destroyed sockets."""
