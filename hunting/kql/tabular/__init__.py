"""Sources and operators of tables in SQL."""
