"""Parser of events in the Elastic Common Schema, which all of Elastic's agents use (dialect `ecs`)."""
