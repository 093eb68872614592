"""The HTTP level: packets to and from proxies, and the requests in them."""
