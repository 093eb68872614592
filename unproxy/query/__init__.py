"""Queries of the tables: the client, the query languages, and the presentation of results."""
