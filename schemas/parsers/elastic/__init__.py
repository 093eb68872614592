"""Events in the Elastic Common Schema: one shape for all agents. The dialect `ecs` reads them."""
