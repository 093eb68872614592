"""Events in the Elastic Common Schema: one shape for whoever writes them. The dialect `ecs` reads them."""
