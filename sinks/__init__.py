"""The cellar: rows from Kafka into tables and files, once in effect. One file a destination."""
