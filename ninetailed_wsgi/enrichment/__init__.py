"""What a request says of its visitor besides events: address, place and device."""
