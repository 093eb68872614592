"""Windows events: what every shipper's way of writing them is reduced to. The dialect `winlog` reads them."""
