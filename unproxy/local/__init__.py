"""The whole pipeline on one machine: parts started, watched, shown and stopped."""
