"""What Linux writes about what its processes did."""
